"""C12: the last layer's test NCC accuracy and test CDNV saturate, and go together.

Kothapalli et al., TMLR 2023, section 4.2, on early figures of arXiv:2202.09028 with an MLP and a CNN; their numbers
could not be read. "Saturate" is that hardly anything of the whole change since the start falls after the last
measurement but one, at about .6 of the epochs; "go together" is the rank correlation over the measured epochs. Test
NCC takes the training set's class centres, test CDNV the test set's own means and variances. No threshold eps enters.
Pilots, seeds 0 and 1: late shares below .03 in size, rank correlations from .8 to 1; none on MNIST.

At scale paper: CONV-8-400 on CIFAR-10 of the published figure, as the sizes of those networks are not public.
"""

from collections.abc import Sequence
from math import log10

from scipy.stats import spearmanr

from ncharness import (
    PAPER,
    SMALL,
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    equivalence,
    grid,
    not_applicable,
    unfitted,
    weakest,
)

MARGIN, LATE = 0.5, 0.1
CLAIM = Claim(
    id="c12-held-out",
    title="Test NCC accuracy and test CDNV saturate together",
    statement="At the last layer, less than a tenth of the change of test NCC error and of log test CDNV falls after "
    f".6 of the epochs, and their rank correlation over the epochs is above {MARGIN}.",
    source="Kothapalli et al., TMLR 2023, 4.2",
    quantity="per seed, for layer L: share of the change since epoch 0 that falls after the last measurement but one, "
    f"of test NCC error and of log10 test CDNV (margin ±{LATE}); rank correlation of the two over the measured epochs",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=(Planned(effect=0.8, sd=0.08), Planned(effect=0.02, sd=0.02, test="equivalence", margin=LATE, times=2)),
    precondition="training error at most 0.01",
    figure="test-by-epoch",
)
SETTINGS = {
    "small": [
        Setting(name=name, eps=None, runs=grid(SMALL[name], seed=CLAIM.seeds))
        for name in ("digits", "digits-conv", "digits-convres", "mnist1d", "mnist", "fashion_mnist")
    ],
    "paper": [Setting(name=name, eps=None, runs=grid(base, seed=CLAIM.seeds)) for name, base in PAPER.items()],
}


def late_share(values: Sequence[float]) -> float:
    """Late share of a fall over the epochs; where nothing fell, 1, which is against the claim."""
    whole = values[0] - values[-1]
    return (values[-2] - values[-1]) / whole if whole > 0 else 1.0


def judge(runs: Sequence[Run], order: slice = slice(None)) -> Verdict:
    """`order` is which epoch's CDNV belongs to which epoch's NCC error."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    shares, correlations = {"test NCC error": [], "test CDNV": []}, []
    for run in runs:
        errors = [run.profile(split="test", epoch=epoch)[-1] for epoch in run.epochs]
        collapse = [log10(run.profile("cdnv", split="test", epoch=epoch)[-1]) for epoch in run.epochs][order]
        shares["test NCC error"].append(late_share(errors))
        shares["test CDNV"].append(late_share(collapse))
        correlations.append(float(spearmanr(errors, collapse).statistic))
    parts = {"rank correlation": CLAIM.judge(correlations)}
    for name, values in shares.items():
        parts[f"late share of {name}"] = equivalence(values, margin=LATE, alpha=CLAIM.alpha)
    return weakest(parts)


def test_test_ncc_and_test_cdnv_saturate_together(supported: Check) -> None:
    supported(judge)


def test_control_epochs_reversed(control: Check) -> None:
    control("The same with the CDNVs of the epochs in reverse order.", judge, slice(None, None, -1))
