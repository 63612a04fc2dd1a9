"""CDNV of classes never seen falls with the number of source classes, at a fixed number of samples per class.

Galanti, György & Hutter, ICLR 2022 (arXiv:2112.15121). Their images are replaced by a family of classes that
never ends (`ncharness.studies.transfer`), as hard as that of earlier pilots: CDNV .9 and 5-way 5-shot accuracy .91
after training on 100 classes. All networks take the same number of steps. Pilots, seeds 0 to 2: 5.3 to 6.6 for 3
classes, 1.9 to 2.1 for 10, 1.1 to 1.3 for 30, .9 for 100. The margin is a fall by a factor of 2, less than half of that
on the log scale. What becomes of it where the *total* number of samples is fixed is `x3-target-cdnv-total`. The control
trains on permuted source labels, which networks fit.
"""

from collections.abc import Sequence
from math import log10

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, pivot, study_grid

CHANCE = 0.2
CLAIM = Claim(
    id="x1-target-cdnv",
    title="More source classes, lower CDNV of unseen classes",
    statement="At 30 samples per source class, the CDNV of classes never seen falls with the number of source classes, "
    "by more than a factor of 2 from 3 to 100.",
    source="Galanti, György & Hutter, arXiv:2112.15121",
    quantity="per seed and number of source classes, -log10 CDNV of 60 target classes, 100 samples of each, in the "
    "last hidden layer",
    test="trend",
    margin=0.3,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.8, sd=0.1, levels=4),
    precondition="5-way 5-shot accuracy on the target classes above chance",
    suite="literature",
)
CLASSES = (3, 10, 30, 100)
SETTINGS = {
    "small": [
        Setting(
            name="family",
            eps=None,
            runs=study_grid("transfer.family", classes=CLASSES, samples=30, seed=CLAIM.seeds),
            control_runs=study_grid("transfer.family", classes=CLASSES, samples=30, shuffled=True, seed=CLAIM.seeds),
        )
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    least = min(run.scalar("target_accuracy", split="test") for run in runs)
    if not least > CHANCE:
        return not_applicable(f"few-shot accuracy {least:.3f} is not above chance: the features tell nothing")
    levels, table = pivot(runs, "classes", lambda run: -log10(run.scalar("target_cdnv", split="test")))
    return CLAIM.judge(table, levels=levels)


def test_cdnv_of_unseen_classes_falls_with_source_classes(supported: Check) -> None:
    supported(judge)


def test_control_permuted_labels(control: Check) -> None:
    control("Source labels permuted: no number of classes teaches anything.", judge)
