"""C13: effective depth shrinks during training.

Seen in the published per-layer curves of arXiv:2202.09028 (v9; the figure in the README of its code), where the NCC
accuracy of the upper layers rises with the epochs; no sentence of the paper states it. Margin, thresholds and seeds
were chosen before any run with these seeds, with a pilot, nearly all of seed 0, in view: no layer of the untrained
network qualifies, and training ends at depth 2.8 on digits and 4.4 on MNIST-1D; the spread over seeds was not
measured for these settings.

At scale paper: CONV-8-400 on CIFAR-10 of that figure. Not blind: it shows no separable layer before training, and
layer 6 after it.
"""

from collections.abc import Sequence

from ncharness import (
    PAPER,
    Check,
    Claim,
    Planned,
    Run,
    RunConfig,
    Setting,
    Verdict,
    grid,
    interpolated_depth,
    unfitted,
)

CLAIM = Claim(
    id="c13-depth-shrinks",
    title="Effective depth shrinks with training",
    statement="On clean labels, the effective depth after training is smaller than that of the untrained network.",
    source="arXiv:2202.09028 v9, figure",
    quantity="per seed, interpolated depth at epoch 0 minus that after the last epoch, in layers; without a separable "
    "layer, L: at epoch 0 that makes the difference smaller than it is, at the end it leaves none",
    test="superiority",
    margin=1.5,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=3.5, sd=0.5),
    precondition="training error at most 0.01",
    suite="headline",
    figure="depth-by-epoch",
)


def setting(name: str, *, eps: float, base: RunConfig) -> Setting:
    untouched = base.replace(lr=0.0, epochs=10)
    return Setting(
        name=name, eps=eps, runs=grid(base, seed=CLAIM.seeds), control_runs=grid(untouched, seed=CLAIM.seeds)
    )


SETTINGS = {
    "small": [
        setting("digits", eps=0.01, base=RunConfig(data="digits", n_train=1400, width=128, epochs=150)),
        setting("mnist1d", eps=0.05, base=RunConfig(data="mnist1d", n_train=4000, width=200, epochs=150)),
    ],
    "paper": [setting(name, eps=0.05, base=base) for name, base in PAPER.items()],
}


def shrinkage(run: Run, eps: float) -> float:
    first, last = (interpolated_depth(run.profile(epoch=epoch), eps=eps) for epoch in (0, run.epochs[-1]))
    none = float(run.config.depth)
    return (none if first is None else first) - (none if last is None else last)


def judge(runs: Sequence[Run], eps: float) -> Verdict:
    return CLAIM.judge([shrinkage(run, eps) for run in runs])


def test_effective_depth_shrinks(supported: Check) -> None:
    supported(judge, unless=unfitted)


def test_control_learning_rate_zero(control: Check) -> None:
    """Batch norm still gathers its statistics, so the features do change, but nothing is learnt."""
    control("The same with learning rate 0.", judge)
