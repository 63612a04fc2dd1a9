"""Classes whose means coincide up to a sign are told apart by a ReLU or an absolute value, not by a soft threshold.

Zarka, Guth & Mallat (arXiv:2012.10424): what collapses the sign of frame coefficients separates such classes; linear
maps and soft thresholds, which are odd, leave all class means at 0. The mixtures of test_soft_thresholding.py, every
sample with a random sign; features are the coefficients. Pilots, seeds 0 and 1: Fisher ratio .015 raw, .03 soft, 1.1
and 1.2 with ReLU, 1.9 and 2.0 with the absolute value, so log10 of the least quotient 1.57 and 1.63. The raw and soft
ratios are what the finite sample gives. The control has samples of one sign, where the absolute value gains nothing.
"""

from collections.abc import Sequence
from math import log10

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, study_grid

CLAIM = Claim(
    id="d18-phase-collapse",
    title="ReLU and absolute value separate means that differ by a sign",
    statement="Where the classes are symmetric about 0, ReLU and absolute value of frame coefficients raise the Fisher "
    "ratio at least 5.6 times above that of raw and soft-thresholded ones.",
    source="Zarka, Guth & Mallat, arXiv:2012.10424",
    quantity="per seed, log10 of the smaller Fisher ratio of ReLU and absolute value over the larger of raw and soft",
    test="superiority",
    margin=0.75,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=1.5, sd=0.1),
    precondition="none",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="symmetric classes",
            eps=None,
            runs=study_grid("thresholding.mixture", symmetric=True, seed=CLAIM.seeds),
            control_runs=study_grid("thresholding.mixture", seed=CLAIM.seeds),
        )
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    gains = [
        log10(
            min(run.scalar("fisher_relu"), run.scalar("fisher_abs"))
            / max(run.scalar("fisher_raw"), run.scalar("fisher_soft"))
        )
        for run in runs
    ]
    return CLAIM.judge(gains)


def test_relu_and_absolute_value_separate_what_differs_by_a_sign(supported: Check) -> None:
    supported(judge)


def test_control_classes_of_one_sign(control: Check) -> None:
    control("The same of classes that are not symmetric about 0.", judge)
