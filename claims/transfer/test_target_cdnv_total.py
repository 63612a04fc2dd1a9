"""CDNV of classes never seen falls with the number of source classes, as usually stated: of a given amount of data.

Galanti, György & Hutter, ICLR 2022 (arXiv:2112.15121), without a word on samples per class. With 3,000 samples
in all the pilots saw a valley: it falls to somewhere near 20 to 30 classes and rises from there, while few-shot
accuracy goes on rising (`x2-target-accuracy`). The claim is that it falls on both sides of 30; it was expected to be
refuted. Pilots, seeds 0 to 2: 2.6 to 2.8 for 3 classes, .9 for 10, .70 to .77 for 30, .86 to .89 for 100.
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
    pivot,
    study_grid,
    weakest,
)

CHANCE = 0.2
CLAIM = Claim(
    id="x3-target-cdnv-total",
    title="More source classes, lower CDNV, of as many samples",
    statement="With 3,000 source samples in all, the CDNV of classes never seen falls from 3 to 30 source classes and "
    "from 30 to 100.",
    source="Galanti, György & Hutter, arXiv:2112.15121, as usually stated",
    quantity="per seed, log10 of the ratio of the CDNVs of 60 target classes at 3 and 30 source classes, and at 30 and "
    "100",
    test="superiority",
    margin=0.0,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.12, sd=0.05, times=2),
    precondition="5-way 5-shot accuracy on the target classes above chance",
    suite="literature",
)
CLASSES = (3, 30, 100)
SETTINGS = {
    "small": [
        Setting(
            name="family",
            eps=None,
            runs=[
                run
                for c in CLASSES
                for run in study_grid("transfer.family", classes=c, samples=3000 // c, seed=CLAIM.seeds)
            ],
        )
    ]
}


def judge(runs: Sequence[Run], epoch: int | None = None) -> Verdict:
    """After `epoch`; None: the last."""
    least = min(run.scalar("target_accuracy", split="test", epoch=epoch) for run in runs)
    if not least > CHANCE:
        return not_applicable(f"few-shot accuracy {least:.3f} is not above chance: the features tell nothing")
    _, table = pivot(runs, "classes", lambda run: log10(run.scalar("target_cdnv", split="test", epoch=epoch)))
    return weakest(
        {
            "from 3 to 30 classes": CLAIM.judge([few - some for few, some, _ in table]),
            "from 30 to 100 classes": CLAIM.judge([some - many for _, some, many in table]),
        }
    )


def test_cdnv_of_unseen_classes_falls_at_a_fixed_total(supported: Check) -> None:
    supported(judge)


def test_control_untrained(control: Check) -> None:
    control("The same networks before training.", judge, 0)
