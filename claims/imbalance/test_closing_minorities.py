"""The classifier rows of minority classes close up as the imbalance grows.

Fang et al., PNAS 2021 (arXiv:2101.12699): seen in VGG and ResNet on step-imbalanced data; theory has the cosine
rise from -1/9 to 1. Here five classes of digits keep 140 samples and five keep 140 / R; R goes to 70, as at 100 the
minority would have 1.4 samples. A cosine between rows that vanish is one of rounding, so minority rows must keep a
tenth of the norm of the others. Pilots, seeds 0 to 3: -.10, .03 and .12 at R of 1, 10 and 70, norms .55 to .72 of the
others' under imbalance; the margin is about half of the rise. With batches of 128 one has two samples at R = 10, on
which batch norm stumbled: batches of 100 were chosen for that.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, pivot, study_grid, unfitted

RISE, NORM = 0.1, 0.1
CLAIM = Claim(
    id="i1-minority-cosine",
    title="Minority classifiers close up under imbalance",
    statement="In networks trained on step-imbalanced data, the mean cosine between classifier rows of minority "
    f"classes rises with the imbalance ratio, by more than {RISE} from R = 1 to R = 70.",
    source="Fang et al., arXiv:2101.12699",
    quantity="per seed and R, the mean cosine over pairs of the 5 minority rows of the last layer",
    test="trend",
    margin=RISE,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.2, sd=0.04),
    precondition=f"training error at most 0.01; minority rows' mean norm at least {NORM} of the majority rows'",
    suite="literature",
)
SETTINGS = {
    "small": [Setting(name="digits", eps=None, runs=study_grid("imbalance.step", ratio=(1, 10, 70), seed=CLAIM.seeds))]
}


def vanished(runs: Sequence[Run]) -> str:
    """Why the angles of these runs mean nothing, or an empty string."""
    least = min(runs, key=lambda run: run.scalar("norm_ratio"))
    ratio = least.scalar("norm_ratio")
    return "" if ratio >= NORM else f"{least.config.name()}: minority rows have {ratio:.3f} of the others' norm"


def judge(runs: Sequence[Run], classes: str = "minority") -> Verdict:
    if reason := unfitted(runs) or vanished(runs):
        return not_applicable(reason)
    levels, table = pivot(runs, "ratio", lambda run: run.scalar(f"{classes}_cosine"))
    return CLAIM.judge(table, levels=levels)


def test_minority_classifiers_close_up_with_the_imbalance(supported: Check) -> None:
    supported(judge)


def test_control_majority_classifiers(control: Check) -> None:
    control("The same of the rows of the five classes that keep all samples.", judge, "majority")
