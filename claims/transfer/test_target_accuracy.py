"""Few-shot accuracy on classes never seen rises with the number of source classes.

Galanti, György & Hutter, ICLR 2022 (arXiv:2112.15121), in the family and with the networks of
`x1-target-cdnv`: 5-way 5-shot nearest centres. Either the samples per class are fixed (30) or their total (3,000); the
accuracy rises in both. Pilots, seeds 0 to 2: from .42-.46 for 3 classes to .90-.91 for 100, and of a fixed total from
.59-.60. The margin is half of the smaller rise. The control trains on permuted source labels, which networks fit.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Study, Verdict, not_applicable, pivot, study_grid

RISE, CHANCE = 0.15, 0.2
CLAIM = Claim(
    id="x2-target-accuracy",
    title="More source classes, better few-shot accuracy",
    statement="5-way 5-shot accuracy of nearest centres on classes never seen rises with the number of source classes, "
    f"by more than {RISE} from 3 to 100.",
    source="Galanti, György & Hutter, arXiv:2112.15121",
    quantity="per seed and number of source classes, mean accuracy over 100 episodes of 5 target classes, 95 queries a "
    "class",
    test="trend",
    margin=RISE,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.3, sd=0.05, levels=4),
    precondition="5-way 5-shot accuracy on the target classes above chance",
    suite="literature",
)
CLASSES = (3, 10, 30, 100)


def fixed_total() -> list[Study]:
    return [
        run for c in CLASSES for run in study_grid("transfer.family", classes=c, samples=3000 // c, seed=CLAIM.seeds)
    ]


PERMUTED = study_grid("transfer.family", classes=CLASSES, samples=30, shuffled=True, seed=CLAIM.seeds)
SETTINGS = {
    "small": [
        Setting(
            name="family, 30 per class",
            eps=None,
            runs=study_grid("transfer.family", classes=CLASSES, samples=30, seed=CLAIM.seeds),
            control_runs=PERMUTED,
        ),
        Setting(name="family, 3000 in all", eps=None, runs=fixed_total(), control_runs=PERMUTED),
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    levels, table = pivot(runs, "classes", lambda run: run.scalar("target_accuracy", split="test"))
    if not (least := min(map(min, table))) > CHANCE:
        return not_applicable(f"few-shot accuracy {least:.3f} is not above chance: the features tell nothing")
    return CLAIM.judge(table, levels=levels)


def test_few_shot_accuracy_rises_with_source_classes(supported: Check) -> None:
    supported(judge)


def test_control_permuted_labels(control: Check) -> None:
    control("Source labels permuted, 30 samples per class: no number of classes teaches anything.", judge)
