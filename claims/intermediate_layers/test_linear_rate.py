"""In deep linear networks each layer divides the variability by n^(1/L) / epsilon^2.

Wang et al. (arXiv:2311.02960): C_{l+1} / C_l = O(epsilon^2 / n^(1/L)), with epsilon the scale of the orthogonal weights
to begin with and n the samples of a class. Pilots, seeds 0 and 1, find the constant to be 1: slopes within .6 % of the
formula. The margin is .05, in which the formula without its n would not fit: that is the control.
"""

from collections.abc import Sequence
from math import log10

import numpy as np

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid

MARGIN = 0.05
CLAIM = Claim(
    id="l12-linear-rate",
    title="The rate of collapse in deep linear networks",
    statement="The slope of log10 C_l over l is log10(epsilon^2 / n^(1/L)) in deep linear networks, to within "
    f"{100 * MARGIN:g} %.",
    source="Wang et al., arXiv:2311.02960, theorem",
    quantity="per seed, slope of log10 C_l by least squares over l = 0..L-1, over log10(epsilon^2 / n^(1/L)), less 1",
    test="equivalence",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.01, sd=0.01),
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
        Setting(
            name="L6 offset",
            eps=None,
            runs=study_grid("deep_linear.trained", offset=1.0, steps=12000, seed=CLAIM.seeds),
        ),
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if unfinished := [run for run in runs if not run.scalar("loss") <= 1e-9]:
        return not_applicable(f"{unfinished[0].config.name()} has a loss of {unfinished[0].scalar('loss'):.1e}")
    return CLAIM.judge([slope(run) / run.scalar("predicted") - 1 for run in runs])


def slope(run: Run) -> float:
    values = [log10(value) for value in run.profile("compactness")]
    return float(np.polyfit(range(len(values)), values, 1)[0])


def without_samples(run: Run) -> float:
    return 2 * log10(float(run.config.to_dict()["settings"]["scale"]))


def test_the_rate_of_collapse_in_deep_linear_networks(supported: Check) -> None:
    supported(judge)


def test_control_formula_without_the_samples(control: Check) -> None:
    control(
        "The same with log10(epsilon^2) as the slope.",
        lambda runs: CLAIM.judge([slope(run) / without_samples(run) - 1 for run in runs]),
    )
