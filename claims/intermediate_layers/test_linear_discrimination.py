"""In deep linear networks the discrimination between classes rises linearly with depth.

Wang et al. (arXiv:2311.02960): D_l = 1 - max cos(mu_k, mu_k') rises at least linearly, in figures as a straight line.
On orthonormal inputs, as their theorem has them, the class means are orthogonal at every layer and D_l is 1 throughout:
there is nothing to rise, and the claim is not applicable. With a vector of length 1 added to every input there is.
Pilots, seeds 0 and 1: r .996 and .998; .986 and .894 where the steps are so large (.2, .3) that the descent is no flow.
"""

from collections.abc import Sequence

import numpy as np

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid

MARGIN, RISE = 0.97, 0.1
CLAIM = Claim(
    id="l13-linear-discrimination",
    title="Discrimination rises linearly in deep linear networks",
    statement=f"In deep linear networks Pearson's correlation of a layer's index with D_l is above {MARGIN}.",
    source="Wang et al., arXiv:2311.02960, theorem and figure 2",
    quantity="per seed, Pearson's r of l with D_l = 1 - max cos(mu_k, mu_k') over l = 0..L-1, means uncentred",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.995, sd=0.005),
    precondition=f"loss at most 1e-9, and a range of D_l of at least {RISE}",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="offset",
            eps=None,
            runs=study_grid("deep_linear.trained", offset=1.0, steps=12000, seed=CLAIM.seeds),
        ),
        Setting(name="orthonormal", eps=None, runs=study_grid("deep_linear.trained", seed=CLAIM.seeds)),
    ]
}


def judge(runs: Sequence[Run], layers: slice = slice(None)) -> Verdict:
    """`layers` is the order in which the layers are taken."""
    correlations = []
    for run in runs:
        if not run.scalar("loss") <= 1e-9:
            return not_applicable(f"{run.config.name()} has a loss of {run.scalar('loss'):.1e}")
        values = run.profile("discrimination")[layers]
        if max(values) - min(values) < RISE:
            return not_applicable(f"D_l of {run.config.name()} has a range of {max(values) - min(values):.1e}")
        correlations.append(float(np.corrcoef(range(len(values)), values)[0, 1]))
    return CLAIM.judge(correlations)


def test_discrimination_rises_linearly_in_deep_linear_networks(supported: Check) -> None:
    supported(judge)


def test_control_layers_reversed(control: Check) -> None:
    control("The same with the layers in reverse order.", judge, slice(None, None, -1))
