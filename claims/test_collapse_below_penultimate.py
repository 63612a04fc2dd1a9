"""C5: collapse is not confined to the penultimate layer.

arXiv:2202.09028 v4 and its abstract at CBMM: collapse extends below the penultimate layer, whose features the last
linear map reads (layer L here), to the layers L/2 to L - 1. "Collapse" is that training makes a layer's CDNV smaller,
against the same layer of the untrained network. No threshold eps enters. Pilots, seed 0: the least of these layers
falls by a factor of 10^1.2 on digits, 10^1.6 on MNIST-1D, 10^1.2 in CONV-8-16 and 10^0.8 in CONVRES-8-16, whose skips
keep the classes as far apart as they came; 10^1.1 on Fashion-MNIST, with more samples and fewer epochs than here. MNIST
had no pilot.

At scale paper: CONV-8-400 on CIFAR-10 of the published figure, which shows no CDNV.
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
    unfitted,
)

MARGIN = 0.5
CLAIM = Claim(
    id="c5-collapse-below",
    title="Collapse is not confined to the penultimate layer",
    statement="In every layer from L/2 to L - 1, training makes the CDNV smaller by a factor of more than "
    f"10^{MARGIN}.",
    source="arXiv:2202.09028 v4",
    quantity="per seed, the smallest over the layers L/2 to L - 1 of log10 of the train CDNV at epoch 0 over that "
    "after the last epoch",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.75, sd=0.1),
    precondition="training error at most 0.01",
    figure="cdnv-by-epoch",
)


def setting(name: str) -> Setting:
    base = (SMALL | PAPER)[name]
    untouched = base.replace(lr=0.0, epochs=10)
    return Setting(
        name=name, eps=None, runs=grid(base, seed=CLAIM.seeds), control_runs=grid(untouched, seed=CLAIM.seeds)
    )


SETTINGS = {
    "small": list(map(setting, ("digits", "digits-conv", "digits-convres", "mnist1d", "mnist", "fashion_mnist"))),
    "paper": list(map(setting, PAPER)),
}


def least_collapse(run: Run) -> float:
    first, last = run.profile("cdnv", epoch=0), run.profile("cdnv")
    below = range(run.config.depth // 2 - 1, run.config.depth - 1)
    return min(log10(first[i] / last[i]) for i in below)


def judge(runs: Sequence[Run]) -> Verdict:
    return CLAIM.judge([least_collapse(run) for run in runs])


def test_layers_below_the_penultimate_collapse(supported: Check) -> None:
    supported(judge, unless=unfitted)


def test_control_learning_rate_zero(control: Check) -> None:
    control("The same with learning rate 0.", judge)
