"""CDNV of held-out samples lies above that of training samples.

Galanti, György & Hutter, ICLR 2022 (arXiv:2112.15121), in the family and with networks of `x1-target-cdnv`: the
direction alone. That it is "about one order" is `x6-held-out-order`. Pilots, seeds 0 to 2: 2.8 to
3.0 times for 30 classes, 1.6 to 1.7 times for 100. The margin, a factor of 1.25, is less than half of that on the log
scale. As few samples have a lower CDNV than many, there are as many held-out ones as others; before training the two
are of one kind, which is the control.
"""

from collections.abc import Callable, Sequence
from math import log10

from ncharness import SUPPORTED, Claim, Run, Setting, Verdict, not_applicable, power, study_grid, superiority, unfitted

RATIO, ALPHA, SEEDS = 0.1, 0.05, range(1000, 1006)
CLAIM = Claim(
    id="x5-held-out-cdnv",
    title="CDNV of held-out samples is above that of training samples",
    statement="After training, the CDNV of held-out samples of the source classes is more than 1.25 times that of the "
    "training samples.",
    source="Galanti, György & Hutter, arXiv:2112.15121",
    quantity="per seed, log10 of the ratio of CDNV on 30 held-out samples per source class and on the 30 trained on, "
    "last hidden layer",
    test="superiority",
    margin=RATIO,
    alpha=ALPHA,
    power=power("superiority", effect=0.25, sd=0.06, n=len(SEEDS), margin=RATIO, alpha=ALPHA),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"family, {classes} classes",
            eps=None,
            runs=study_grid("transfer.family", classes=classes, samples=30, seed=SEEDS),
        )
        for classes in (10, 30, 100)
    ]
}


def judge(runs: Sequence[Run], epoch: int | None = None) -> Verdict:
    """After `epoch`, None: the last."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    ratios = [run.scalar("cdnv", split="test", epoch=epoch) / run.scalar("cdnv", epoch=epoch) for run in runs]
    return superiority([log10(ratio) for ratio in ratios], margin=RATIO, alpha=ALPHA)


def test_held_out_cdnv_is_above_training_cdnv(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_untrained(setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]) -> None:
    trained = runs(setting.runs)
    control = "The same networks before training."
    assert verdict(lambda _: judge(trained, 0), control=control) != SUPPORTED
