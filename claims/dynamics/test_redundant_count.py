"""64 neurons of a wider last hidden layer do more of what all of them do than 64 of a narrower one.

How the redundancy of wide layers (Doimo et al., arXiv:2106.03485) is often told. It does not reproduce: pilots, seeds 0
(30 epochs) and 1, lost .080 and .060 of test accuracy with 64 of 128 neurons, .103 and .121 with 64 of 512. It must
come out REFUTED here; by the fraction of the neurons it holds, see test_redundant_fraction.py.
"""

from collections.abc import Sequence

import numpy as np

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    not_applicable,
    pivot,
    study_grid,
    unfitted,
)

CLAIM = Claim(
    id="d12-redundant-count",
    title="As many neurons of a wider last layer do more",
    statement="With 64 random neurons of the last hidden layer, a network of width 512 loses less test accuracy than "
    "one of width 128.",
    source="after Doimo et al., arXiv:2106.03485",
    quantity="per seed, test accuracy lost with 64 random neurons, at width 128 less at width 512",
    test="superiority",
    margin=0.0,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.04, sd=0.025),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="digits", eps=None, runs=study_grid("redundancy.chunks", width=(128, 512), seed=CLAIM.seeds)),
    ]
}


def judge(runs: Sequence[Run], epoch: int = -1) -> Verdict:
    """`epoch` is which of the measured ones."""
    if reason := unfitted(runs):
        return not_applicable(reason)

    def lost(run: Run) -> float:
        at = run.epochs[epoch]
        return run.scalar("accuracy", epoch=at, split="test") - run.scalar("counted", epoch=at, split="test")

    _, table = pivot(runs, "width", lost)
    narrow, wide = np.array(table, dtype=float).T
    return CLAIM.judge(narrow - wide)


def test_as_many_neurons_of_a_wider_layer_do_more(supported: Check) -> None:
    supported(judge)


def test_control_after_three_epochs(control: Check) -> None:
    control("The same after three epochs, before anything could have become copies.", judge, 0)
