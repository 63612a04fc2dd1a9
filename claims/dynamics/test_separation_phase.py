"""Features that attract their own class more than others become separable; those that do not, do not.

Zhang et al. (arXiv:2110.05960): in the I-model of the LE-SDE, a step moves a feature along the mean of the step's
class, by alpha within a class and by beta across; classes separate with probability near 1 if alpha > beta, else hardly
ever. Their second condition on gamma could not be read; the drift of the I-model has this one. Pilots, seeds 0 and 1,
three classes, shares of 20 paths that end separated: 1 at beta/alpha of 0 and .5, .4 and .45 at .8, which a longer time
would raise and which is not tested, 0 and .05 at 1.1.
"""

from collections.abc import Sequence

import numpy as np

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, pivot, study_grid

CLAIM = Claim(
    id="d1-separation-phase",
    title="Classes separate if alpha exceeds beta",
    statement="In the I-model of the LE-SDE, classes end separated with probability near 1 at beta = .5 alpha, and "
    "near 0 at beta = 1.1 alpha.",
    source="Zhang et al., arXiv:2110.05960",
    quantity="per seed, the share of 20 paths that end separated at the smaller beta, less that at the larger",
    test="superiority",
    margin=0.8,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.95, sd=0.05),
    precondition="no path starts separated",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"C{classes}",
            eps=None,
            runs=study_grid("elastic_dynamics.separation", classes=classes, beta=(0.5, 1.1), seed=CLAIM.seeds),
            control_runs=study_grid("elastic_dynamics.separation", classes=classes, beta=(1.1, 1.5), seed=CLAIM.seeds),
        )
        for classes in (3, 5)
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if begun := [run for run in runs if run.scalar("separated_at_start") > 0]:
        return not_applicable(f"a path of {begun[0].config.name()} starts separated")
    _, table = pivot(runs, "beta", lambda run: run.scalar("separated"))
    smaller, larger = np.array(table, dtype=float).T
    return CLAIM.judge(smaller - larger)


def test_classes_separate_if_alpha_exceeds_beta(supported: Check) -> None:
    supported(judge)


def test_control_beta_above_alpha_twice(control: Check) -> None:
    control("The same with beta = 1.1 alpha against beta = 1.5 alpha.", judge)
