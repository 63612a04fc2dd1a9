"""Training lowers the CDNV of source samples, of held-out samples of the same classes, and of classes never seen.

Galanti, György & Hutter, ICLR 2022 (arXiv:2112.15121), in the family and with networks of `x1-target-cdnv`. The
same features are measured before and after training. Pilots, seeds 0 to 2: after training it is a 20th, a 10th
and an 8th. The margin is a factor of 2.
"""

from collections.abc import Callable, Sequence
from math import log10

from ncharness import (
    SUPPORTED,
    Claim,
    Run,
    Setting,
    Verdict,
    not_applicable,
    power,
    study_grid,
    superiority,
    unfitted,
    weakest,
)

FACTOR, ALPHA, SEEDS = 0.3, 0.05, range(1000, 1006)
MISSED = 1.0 - power("superiority", effect=0.65, sd=0.1, n=len(SEEDS), margin=FACTOR, alpha=ALPHA)
CLAIM = Claim(
    id="x4-collapse-generalises",
    title="Collapse reaches held-out samples and unseen classes",
    statement="Training lowers CDNV by more than a factor of 2 on the source samples, on held-out samples of the "
    "source classes, and on classes never seen.",
    source="Galanti, György & Hutter, arXiv:2112.15121",
    quantity="per seed, log10 of the ratio of CDNV before and after training in the last hidden layer: source training "
    "samples, 30 others per source class, 60 target classes",
    test="superiority",
    margin=FACTOR,
    alpha=ALPHA,
    power=1.0 - 3.0 * MISSED,  # of all parts; at least this, whatever their dependence
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"family, {classes} classes",
            eps=None,
            runs=study_grid("transfer.family", classes=classes, samples=30, seed=SEEDS),
            control_runs=study_grid("transfer.family", classes=classes, samples=30, shuffled=True, seed=SEEDS),
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
        {
            name: superiority([fall(run, metric, split) for run in runs], margin=FACTOR, alpha=ALPHA)
            for name, (metric, split) in WHERE.items()
        }
    )


def test_training_lowers_cdnv_beyond_the_samples(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_permuted_labels(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.control_runs)
    control = "Source labels permuted: networks fit them, and lower the CDNV of nothing else."
    assert verdict(lambda _: judge(trained), control=control) != SUPPORTED
