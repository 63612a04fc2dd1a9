"""C1: in networks deeper than a threshold, all the top layers separate the training set.

arXiv:2301.04605, the appendix of 2202.09028: beyond a threshold depth "all top layers" are (nearly) perfectly
NCC-separable. The threshold is layer 6 of networks of 8 and 12 layers, as in the published figure (CONV-L-400 on
CIFAR-10, eps .05); "nearly perfectly" is eps. The first crossing of C2 and C3 allows a later layer to fall back;
this claim does not. Pilots, seeds 0 and 1: a worst layer of .001 on digits, .006 (L = 8) and .015 (L = 12) on
MNIST-1D, at most .004 in CONV-8-16 and CONVRES-8-16. Of the claim's seeds, the MLPs had been trained and judged for
C2 and C13 when this was written: where the first separable layer lies was known, of the later ones nothing.

At scale paper: the networks of that figure with L = 8, 12, 16, 20. Not blind to what is published: at L = 8, layer 7 is
at .952 in it, where eps asks for .95.
"""

from collections.abc import Sequence

from ncharness import (
    PAPER,
    PAPER_DEPTHS,
    SMALL,
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    grid,
    unfitted,
)

THRESHOLD = 6
CLAIM = Claim(
    id="c1-top-layers",
    title="All top layers separate the training set",
    statement=f"In networks deeper than {THRESHOLD} layers, every layer from the {THRESHOLD}th to the last classifies "
    "the training set by nearest class centres with an error of at most eps.",
    source="arXiv:2301.04605; arXiv:2202.09028 v9, figure",
    quantity=f"per seed, eps minus the largest train NCC error of the layers {THRESHOLD} to L of all its networks",
    test="superiority",
    margin=0.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.005, sd=0.002),
    precondition="training error at most 0.01",
    figure="ncc-by-epoch",
)


def setting(name: str, *, eps: float, depths: Sequence[int]) -> Setting:
    base = (SMALL | PAPER)[name]
    untouched = base.replace(lr=0.0, epochs=10)
    return Setting(
        name=name,
        eps=eps,
        runs=grid(base, depth=depths, seed=CLAIM.seeds),
        control_runs=grid(untouched, seed=CLAIM.seeds),
    )


SETTINGS = {
    "small": [
        setting("digits", eps=0.01, depths=(8, 12)),
        setting("digits-conv", eps=0.01, depths=(8,)),
        setting("digits-convres", eps=0.01, depths=(8,)),
        setting("mnist1d", eps=0.05, depths=(8, 12)),
    ],
    "paper": [setting(name, eps=0.05, depths=[L for L in PAPER_DEPTHS if L > THRESHOLD]) for name in PAPER],
}


def judge(runs: Sequence[Run], eps: float) -> Verdict:
    worst: dict[int, float] = {}
    for run in runs:
        seed = run.config.seed
        worst[seed] = max(worst.get(seed, 0.0), *run.profile()[THRESHOLD - 1 :])
    return CLAIM.judge([eps - worst[seed] for seed in sorted(worst)])


def test_all_top_layers_separate(supported: Check) -> None:
    supported(judge, unless=unfitted)


def test_control_learning_rate_zero(control: Check) -> None:
    control("The same with learning rate 0.", judge)
