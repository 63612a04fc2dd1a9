"""In deep linear networks the variability within classes falls by the same factor at every layer.

Wang et al. (arXiv:2311.02960), theorem: with small orthogonal weights to begin with, gradient descent leaves C_l =
tr(Sigma_W) / tr(Sigma_B) falling geometrically in l, from the inputs on. Pilots, seeds 0 and 1: -r from .99999 on. An
exact statement in a limit, so the margin is strict.
"""

from collections.abc import Sequence
from math import log10

import numpy as np

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid

MARGIN = 0.99
CLAIM = Claim(
    id="l11-linear-straight",
    title="Deep linear networks collapse geometrically",
    statement=f"In deep linear networks Pearson's correlation of a layer's index with -log C_l is above {MARGIN}.",
    source="Wang et al., arXiv:2311.02960, theorem and figure 2",
    quantity="per seed, minus Pearson's r of l with log10 C_l over l = 0..L-1, C_l = tr(Sigma_W) / tr(Sigma_B)",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.9995, sd=0.0005),
    precondition="loss at most 1e-9",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="L4", eps=None, runs=study_grid("deep_linear.trained", depth=4, seed=CLAIM.seeds)),
        Setting(name="L6", eps=None, runs=study_grid("deep_linear.trained", seed=CLAIM.seeds)),
        Setting(
            name="L9",
            eps=None,
            runs=study_grid("deep_linear.trained", depth=9, scale=0.4, steps=18000, seed=CLAIM.seeds),
        ),
    ]
}


def judge(runs: Sequence[Run], layers: slice = slice(None)) -> Verdict:
    """`layers` is the order in which the layers are taken."""
    if unfinished := [run for run in runs if not run.scalar("loss") <= 1e-9]:
        return not_applicable(f"{unfinished[0].config.name()} has a loss of {unfinished[0].scalar('loss'):.1e}")
    return CLAIM.judge([straightness(run, layers) for run in runs])


def straightness(run: Run, layers: slice) -> float:
    values = [log10(value) for value in run.profile("compactness")][layers]
    return -float(np.corrcoef(range(len(values)), values)[0, 1])


def test_deep_linear_networks_collapse_geometrically(supported: Check) -> None:
    supported(judge)


def test_control_layers_reversed(control: Check) -> None:
    control("The same with the layers in reverse order.", judge, slice(None, None, -1))
