"""Training lowers the CDNV of source samples, of held-out samples of the same classes, and of classes never seen.

Galanti, György & Hutter, ICLR 2022 (arXiv:2112.15121), in the family and with networks of `x1-target-cdnv`. The
same features are measured before and after training. Pilots, seeds 0 to 2: after training it is a 20th, a 10th
and an 8th. The margin is a factor of 2.
"""

from collections.abc import Sequence
from math import log10

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    not_applicable,
    study_grid,
    unfitted,
    weakest,
)

CLAIM = Claim(
    id="x4-collapse-generalises",
    title="Collapse reaches held-out samples and unseen classes",
    statement="Training lowers CDNV by more than a factor of 2 on the source samples, on held-out samples of the "
    "source classes, and on classes never seen.",
    source="Galanti, György & Hutter, arXiv:2112.15121",
    quantity="per seed, log10 of the ratio of CDNV before and after training in the last hidden layer: source training "
    "samples, 30 others per source class, 60 target classes",
    test="superiority",
    margin=0.3,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.65, sd=0.1, times=3),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"family, {classes} classes",
            eps=None,
            runs=study_grid("transfer.family", classes=classes, samples=30, seed=CLAIM.seeds),
            control_runs=study_grid("transfer.family", classes=classes, samples=30, shuffled=True, seed=CLAIM.seeds),
        )
        for classes in (30, 100)
    ]
}
WHERE = {
    "source samples": ("cdnv", "train"),
    "held-out samples": ("cdnv", "test"),
    "unseen classes": ("target_cdnv", "test"),
}


def fall(run: Run, metric: str, split: str) -> float:
    return log10(run.scalar(metric, split=split, epoch=0) / run.scalar(metric, split=split))


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    return weakest(
        {name: CLAIM.judge([fall(run, metric, split) for run in runs]) for name, (metric, split) in WHERE.items()}
    )


def test_training_lowers_cdnv_beyond_the_samples(supported: Check) -> None:
    supported(judge)


def test_control_permuted_labels(control: Check) -> None:
    control("Source labels permuted: networks fit them, and lower the CDNV of nothing else.", judge)
