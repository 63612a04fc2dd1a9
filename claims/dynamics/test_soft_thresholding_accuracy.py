"""Soft thresholding in a tight frame is said to help a linear classifier, as it raises the Fisher ratio.

Zarka, Guth & Mallat (arXiv:2012.10424), on the mixtures of test_soft_thresholding.py. It does not reproduce: held-out
accuracy of the linear discriminant fell from .993 and .992 to .988 and .989 (pilots, seeds 0 and 1, in the space of x),
and it could not be otherwise, for the raw classes are Gaussians of one covariance, where the linear discriminant is the
best classifier there is. It must come out REFUTED. The networks of the paper, which learn their frames, are not tested.
"""

from collections.abc import Callable, Sequence

from ncharness import SUPPORTED, Claim, Run, Setting, Verdict, power, study_grid, superiority

MARGIN, ALPHA, SEEDS = 0.0, 0.05, range(1000, 1008)
CLAIM = Claim(
    id="d17-soft-accuracy",
    title="Soft thresholding in a tight frame raises linear accuracy",
    statement="Where class means are sparse in a tight frame, soft thresholding in it raises the held-out accuracy of "
    "the linear discriminant.",
    source="after Zarka, Guth & Mallat, arXiv:2012.10424",
    quantity="per seed, held-out accuracy of the linear discriminant after soft thresholding less before",
    test="superiority",
    margin=MARGIN,
    alpha=ALPHA,
    power=power("superiority", effect=0.005, sd=0.002, n=len(SEEDS), margin=MARGIN, alpha=ALPHA),
    precondition="none",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=name,
            eps=None,
            runs=study_grid("thresholding.mixture", back=back, seed=SEEDS),
            control_runs=study_grid("thresholding.mixture", back=back, threshold=2.0, seed=SEEDS),
        )
        for name, back in (("space of x", True), ("coefficients", False))
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    gains = [run.scalar("accuracy_soft", split="test") - run.scalar("accuracy_raw", split="test") for run in runs]
    return superiority(gains, margin=MARGIN, alpha=ALPHA)


def test_soft_thresholding_raises_linear_accuracy(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_a_threshold_too_high(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.control_runs)
    control = "The same with four times the threshold."
    assert verdict(lambda _: judge(trained), control=control) != SUPPORTED
