"""Gradient descent from near zero ends at strong neural collapse.

Mixon, Parshall & Pi, arXiv:2011.11619: for unregularised squared error over features, classifier and bias, W W^T =
sqrt(n) (I - 11^T/C), H = (W x 1_n^T) / sqrt(n), b = 1/C. Two digits are asked for at scale 1e-4. Pilots, seeds 0 and 1:
2.9, the features' error the largest.
"""

from collections.abc import Callable, Sequence

from ncharness import (
    SUPPORTED,
    Claim,
    Run,
    Setting,
    Verdict,
    digits_of_agreement,
    not_applicable,
    power,
    study_grid,
    superiority,
    unfinished,
)

DIGITS, ALPHA, SEEDS = 2.0, 0.05, range(1000, 1005)
CLAIM = Claim(
    id="u3-strong-collapse",
    title="Descent from near zero ends at strong collapse",
    statement="Gradient descent on unregularised squared error from a start of scale 1e-4 ends at strong neural "
    "collapse.",
    source="Mixon et al., arXiv:2011.11619",
    quantity="per seed, -log10 of the largest Frobenius norm of what W W^T, H and b are off their values by",
    test="superiority",
    margin=DIGITS,
    alpha=ALPHA,
    power=power("superiority", effect=2.8, sd=0.2, n=len(SEEDS), margin=DIGITS, alpha=ALPHA),
    precondition="loss at most 1e-5",
    suite="literature",
)
SETTINGS = {"small": [Setting(name="C4 n5 d12", eps=None, runs=study_grid("initial_scale.descents", seed=SEEDS))]}


def judge(runs: Sequence[Run], scale: float = 1e-4) -> Verdict:
    if reason := unfinished(runs, **{f"loss {scale:g}": 1e-5}):
        return not_applicable(reason)
    digits = [
        digits_of_agreement(*(run.scalar(f"{name} {scale:g}") for name in ("classifier", "features", "bias")))
        for run in runs
    ]
    return superiority(digits, margin=DIGITS, alpha=ALPHA)


def test_descent_from_near_zero_ends_at_strong_collapse(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_scale_one(setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]) -> None:
    trained = runs(setting.runs)
    control = "The same from starts of scale 1, which fit just as well."
    assert verdict(lambda _: judge(trained, 1.0), control=control) != SUPPORTED
