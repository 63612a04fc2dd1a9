"""C9: wider networks collapse more in their intermediate layers, on training and test data.

arXiv:2301.04605, the appendix of 2202.09028, on CONV-10-H with H from 20 to 320. Intermediate are the layers 2 to
L - 1. "More" is an ordered trend over log H with a least rise, on training data and on test data each; the verdict is
that of the weaker of the two. No threshold eps enters. Pilots, seed 0: on digits, the MLP collapses less the wider it
is (10^-1.35, 10^-1.37, 10^-1.24 on training data for H = 32, 64, 128), which is against the claim; from the narrowest
to the widest, CONV-8-H falls by 10^.01 on training and 10^.08 on test data, the MLP on MNIST-1D by 10^.10 and 10^.14.
CONV-8-8 and, on MNIST-1D, MLP-8-50 did not fit and were left out. Nothing was changed for what the others showed.

At scale paper: those CONV-10-H, with all five H. On which data is not public: CIFAR-10 is our choice, being that of the
published figure. The power is that of three widths.
"""

from collections.abc import Sequence
from math import log2, log10
from statistics import fmean

from ncharness import (
    PAPER,
    SMALL,
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    grid,
    not_applicable,
    pivot,
    unfitted,
    weakest,
)

MIN_RISE = 0.1
CLAIM = Claim(
    id="c9-collapse-width",
    title="Wider networks collapse more in intermediate layers",
    statement="The wider a trained network, the smaller the CDNV of its layers 2 to L - 1 on training and on test "
    f"data: ordered trends, and a fall by a factor of more than 10^{MIN_RISE} from the narrowest to the widest.",
    source="arXiv:2301.04605",
    quantity="per seed, -log10 of the geometric mean of the CDNVs of the layers 2 to L - 1, by width H",
    test="trend",
    margin=MIN_RISE,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.3, sd=0.08, times=2),
    precondition="training error at most 0.01 at every H",
    figure="collapse-by-width",
)
WIDTHS = {"digits": (32, 64, 128), "digits-conv": (16, 32, 64), "mnist1d-2000": (100, 200, 400)}
SETTINGS = {
    "small": [
        Setting(name=name, eps=None, runs=grid(SMALL[name], width=widths, seed=CLAIM.seeds))
        for name, widths in WIDTHS.items()
    ],
    "paper": [
        Setting(name=name, eps=None, runs=grid(base, depth=[10], width=(20, 40, 80, 160, 320), seed=CLAIM.seeds))
        for name, base in PAPER.items()
    ],
}
# For the control, by their number: which width is taken for which, by seed in turn. Each undoes the other.
PERMUTATIONS = {3: ((1, 0, 2), (2, 0, 1)), 5: ((1, 4, 2, 0, 3), (3, 0, 2, 4, 1))}


def collapse(run: Run, split: str) -> float:
    return -fmean(log10(value) for value in run.profile("cdnv", split=split)[1:-1])


def judge(runs: Sequence[Run], *, permuted: bool = False) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    parts = {}
    for split, data in (("train", "training data"), ("test", "test data")):
        widths, rows = pivot(runs, "width", lambda run, split=split: collapse(run, split))
        permutations = PERMUTATIONS[len(widths)] if permuted else (range(len(widths)),)
        table = [[row[i] for i in permutations[seed % len(permutations)]] for seed, row in enumerate(rows)]
        parts[data] = CLAIM.judge(table, levels=[log2(width) for width in widths])
    return weakest(parts)


def test_collapse_strengthens_with_width(supported: Check) -> None:
    supported(judge)


def test_control_widths_permuted(control: Check) -> None:
    control("The same with the widths permuted across runs.", judge, permuted=True)
