"""The errors of strong neural collapse are powers of the scale of initialisation.

Mixon, Parshall & Pi, arXiv:2011.11619, and what Kothapalli et al. (arXiv:2206.04041) say of it: sensitive to the
initialisation. From starts of scale s, gradient descent on unregularised squared error ends off strong collapse by an
amount of order s^2 in W W^T and of order s in features and bias. Pilots, seeds 0 and 1: exponents 1.97, .99 and 1.00
over scales 1e-4 to 1e-2, all within a seed's first two digits; at .1 to 1, where the control looks, 1.2 to 1.7, 1.1 and
.8 to 1.4.
"""

from collections.abc import Sequence
from math import log10

from scipy.stats import linregress

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    not_applicable,
    study_grid,
    unfinished,
    weakest,
)

EXPONENTS = {"classifier": 2.0, "features": 1.0, "bias": 1.0}  # of the scale
SMALL, LARGE = (1e-4, 1e-3, 1e-2), (0.1, 0.3, 1.0)
CLAIM = Claim(
    id="u2-initial-scale",
    title="Strong collapse is off by powers of the initial scale",
    statement="The distance from strong neural collapse after gradient descent from a start of scale s is of order "
    "s^2 in W W^T, and of order s in the features and in the bias.",
    source="Mixon et al., arXiv:2011.11619",
    quantity="per seed, for each of the three errors: slope of log error by log scale over 1e-4, 1e-3, 1e-2, relative "
    "to the exponent, minus 1",
    test="equivalence",
    margin=0.1,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.02, sd=0.02, times=len(EXPONENTS)),
    precondition="loss at most 1e-5 at every one of the scales",
    suite="literature",
)
SETTINGS = {"small": [Setting(name="C4 n5 d12", eps=None, runs=study_grid("initial_scale.descents", seed=CLAIM.seeds))]}


def excess(run: Run, name: str, scales: Sequence[float]) -> float:
    errors = [log10(run.scalar(f"{name} {scale:g}")) for scale in scales]
    slope = linregress([log10(scale) for scale in scales], errors).slope
    return float(slope) / EXPONENTS[name] - 1.0


def judge(runs: Sequence[Run], scales: Sequence[float] = SMALL) -> Verdict:
    if reason := unfinished(runs, **{f"loss {scale:g}": 1e-5 for scale in scales}):
        return not_applicable(reason)
    return weakest({name: CLAIM.judge([excess(run, name, scales) for run in runs]) for name in EXPONENTS})


def test_errors_of_strong_collapse_are_powers_of_the_scale(supported: Check) -> None:
    supported(judge)


def test_control_large_scales(control: Check) -> None:
    control("The same over scales .1 to 1, from which descent does not begin near zero.", judge, LARGE)
