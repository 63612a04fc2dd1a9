"""Soft thresholding in a tight frame is said to help a linear classifier, as it raises the Fisher ratio.

Zarka, Guth & Mallat (arXiv:2012.10424), on the mixtures of test_soft_thresholding.py. It does not reproduce: held-out
accuracy of the linear discriminant fell from .993 and .992 to .988 and .989 (pilots, seeds 0 and 1, in the space of x),
and it could not be otherwise, for the raw classes are Gaussians of one covariance, where the linear discriminant is the
best classifier there is. It must come out REFUTED. The networks of the paper, which learn their frames, are not tested.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, study_grid

CLAIM = Claim(
    id="d17-soft-accuracy",
    title="Soft thresholding in a tight frame raises linear accuracy",
    statement="Where class means are sparse in a tight frame, soft thresholding in it raises the held-out accuracy of "
    "the linear discriminant.",
    source="after Zarka, Guth & Mallat, arXiv:2012.10424",
    quantity="per seed, held-out accuracy of the linear discriminant after soft thresholding less before",
    test="superiority",
    margin=0.0,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.005, sd=0.002),
    precondition="none",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=name,
            eps=None,
            runs=study_grid("thresholding.mixture", back=back, seed=CLAIM.seeds),
            control_runs=study_grid("thresholding.mixture", back=back, threshold=2.0, seed=CLAIM.seeds),
        )
        for name, back in (("space of x", True), ("coefficients", False))
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    gains = [run.scalar("accuracy_soft", split="test") - run.scalar("accuracy_raw", split="test") for run in runs]
    return CLAIM.judge(gains)


def test_soft_thresholding_raises_linear_accuracy(supported: Check) -> None:
    supported(judge)


def test_control_a_threshold_too_high(control: Check) -> None:
    control("The same with four times the threshold.", judge)
