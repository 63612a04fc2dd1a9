"""C4: collapse strengthens with the number of layers.

arXiv:2202.09028 v4, which measures collapse by CDNV: it "generally strengthens when increasing the number of layers".
"Generally" is an ordered trend over L with a least rise, not a rise at every step. No threshold eps enters. Pilot,
seed 0: from L = 4 to L = 12 the last layer's CDNV falls by a factor of 10^0.82 on digits and 10^0.92 on MNIST-1D.
The claim's seeds had been trained for C2, which looks at no CDNV.

At scale paper: four depths of the published figure, CONV-L-400 on CIFAR-10 with L = 5, 8, 12, 20; it shows no CDNV.
"""

from collections.abc import Sequence
from math import log10

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
)

MIN_RISE, DEPTHS, PAPER_DEPTHS = 0.1, (4, 6, 8, 12), (5, 8, 12, 20)
CLAIM = Claim(
    id="c4-collapse-depth",
    title="Collapse strengthens with the number of layers",
    statement="The more layers a trained network has, the smaller the CDNV of its last layer: an ordered trend, and a "
    f"fall by a factor of more than 10^{MIN_RISE} from the smallest to the largest L.",
    source="arXiv:2202.09028 v4",
    quantity="per seed, -log10 of the train CDNV of layer L, by L",
    test="trend",
    margin=MIN_RISE,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.4, sd=0.12, levels=len(DEPTHS)),
    precondition="training error at most 0.01 at every L",
    figure="cdnv-by-layer",
)
SETTINGS = {
    "small": [
        Setting(name=name, eps=None, runs=grid(SMALL[name], depth=DEPTHS, seed=CLAIM.seeds))
        for name in ("digits", "mnist1d")
    ],
    "paper": [
        Setting(name=name, eps=None, runs=grid(base, depth=PAPER_DEPTHS, seed=CLAIM.seeds))
        for name, base in PAPER.items()
    ],
}
# For the control: which depth is taken for which, by seed in turn. Each undoes the other: no order is left.
PERMUTATIONS = ((1, 3, 0, 2), (2, 0, 3, 1))


def collapse(run: Run) -> float:
    return -log10(run.profile("cdnv")[-1])


def judge(runs: Sequence[Run], permutations: Sequence[Sequence[int]] = (range(len(DEPTHS)),)) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    levels, rows = pivot(runs, "depth", collapse)
    table = [[row[i] for i in permutations[seed % len(permutations)]] for seed, row in enumerate(rows)]
    return CLAIM.judge(table, levels=levels)


def test_collapse_strengthens_with_depth(supported: Check) -> None:
    supported(judge)


def test_control_depths_permuted(control: Check) -> None:
    control("The same with the depths L permuted across runs.", judge, PERMUTATIONS)
