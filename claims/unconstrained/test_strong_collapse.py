"""Gradient descent from near zero ends at strong neural collapse.

Mixon, Parshall & Pi, arXiv:2011.11619: for unregularised squared error over features, classifier and bias, W W^T =
sqrt(n) (I - 11^T/C), H = (W x 1_n^T) / sqrt(n), b = 1/C. Two digits are asked for at scale 1e-4. Pilots, seeds 0 and 1:
2.9, the features' error the largest.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    digits_of_agreement,
    not_applicable,
    study_grid,
    unfinished,
)

CLAIM = Claim(
    id="u3-strong-collapse",
    title="Descent from near zero ends at strong collapse",
    statement="Gradient descent on unregularised squared error from a start of scale 1e-4 ends at strong neural "
    "collapse.",
    source="Mixon et al., arXiv:2011.11619",
    quantity="per seed, -log10 of the largest Frobenius norm of what W W^T, H and b are off their values by",
    test="superiority",
    margin=2.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=2.8, sd=0.2),
    precondition="loss at most 1e-5",
    suite="literature",
)
SETTINGS = {"small": [Setting(name="C4 n5 d12", eps=None, runs=study_grid("initial_scale.descents", seed=CLAIM.seeds))]}


def judge(runs: Sequence[Run], scale: float = 1e-4) -> Verdict:
    if reason := unfinished(runs, **{f"loss {scale:g}": 1e-5}):
        return not_applicable(reason)
    digits = [
        digits_of_agreement(*(run.scalar(f"{name} {scale:g}") for name in ("classifier", "features", "bias")))
        for run in runs
    ]
    return CLAIM.judge(digits)


def test_descent_from_near_zero_ends_at_strong_collapse(supported: Check) -> None:
    supported(judge)


def test_control_scale_one(control: Check) -> None:
    control("The same from starts of scale 1, which fit just as well.", judge, 1.0)
