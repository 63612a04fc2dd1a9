"""CDNV of held-out samples lies above that of training samples.

Galanti, György & Hutter, ICLR 2022 (arXiv:2112.15121), in the family and with networks of `x1-target-cdnv`: the
direction alone. That it is "about one order" is `x6-held-out-order`. Pilots, seeds 0 to 2: 2.8 to
3.0 times for 30 classes, 1.6 to 1.7 times for 100. The margin, a factor of 1.25, is less than half of that on the log
scale. As few samples have a lower CDNV than many, there are as many held-out ones as others; before training the two
are of one kind, which is the control.
"""

from collections.abc import Sequence
from math import log10

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid, unfitted

CLAIM = Claim(
    id="x5-held-out-cdnv",
    title="CDNV of held-out samples is above that of training samples",
    statement="After training, the CDNV of held-out samples of the source classes is more than 1.25 times that of the "
    "training samples.",
    source="Galanti, György & Hutter, arXiv:2112.15121",
    quantity="per seed, log10 of the ratio of CDNV on 30 held-out samples per source class and on the 30 trained on, "
    "last hidden layer",
    test="superiority",
    margin=0.1,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.25, sd=0.06),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"family, {classes} classes",
            eps=None,
            runs=study_grid("transfer.family", classes=classes, samples=30, seed=CLAIM.seeds),
        )
        for classes in (10, 30, 100)
    ]
}


def judge(runs: Sequence[Run], epoch: int | None = None) -> Verdict:
    """After `epoch`, None: the last."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    ratios = [run.scalar("cdnv", split="test", epoch=epoch) / run.scalar("cdnv", epoch=epoch) for run in runs]
    return CLAIM.judge([log10(ratio) for ratio in ratios])


def test_held_out_cdnv_is_above_training_cdnv(supported: Check) -> None:
    supported(judge)


def test_control_untrained(control: Check) -> None:
    control("The same networks before training.", judge, 0)
