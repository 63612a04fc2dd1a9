"""An eighth of the neurons of a wide last hidden layer nearly does what all of them do; of a narrow one, it does not.

Doimo et al. (arXiv:2106.03485, abstract): neurons of a wide layer split into groups of copies. Random eighths of the
last hidden layer, logits times 8, nothing fitted again. Pilots, seeds 0 and 1 at 30 and 60 epochs: test accuracy falls
by .72 at width 32 and by .12 at 512. An eighth of 512 is 64 neurons, of 32 it is 4: what the claim says holds by the
fraction, and that is no longer so by the count, see test_redundant_count.py and the control here, 4 neurons of either.
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
    id="d11-redundant-fraction",
    title="A wider last layer can spare a larger fraction of its neurons",
    statement="With a random eighth of the last hidden layer's neurons, a network of width 512 loses less test "
    "accuracy than one of width 32, by more than 30 points.",
    source="Doimo et al., arXiv:2106.03485",
    quantity="per seed, test accuracy lost with a random eighth of the neurons, at width 32 less at width 512",
    test="superiority",
    margin=0.3,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.6, sd=0.05),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=study_grid("redundancy.chunks", width=(32, 512), seed=CLAIM.seeds),
            control_runs=study_grid("redundancy.chunks", width=(32, 512), count=4, seed=CLAIM.seeds),
        )
    ]
}


def judge(runs: Sequence[Run], chunk: str = "eighth") -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    _, table = pivot(runs, "width", lambda run: run.scalar("accuracy", split="test") - run.scalar(chunk, split="test"))
    narrow, wide = np.array(table, dtype=float).T
    return CLAIM.judge(narrow - wide)


def test_a_wider_layer_can_spare_a_larger_fraction(supported: Check) -> None:
    supported(judge)


def test_control_as_many_neurons_of_either(control: Check) -> None:
    control("The same with 4 neurons of either layer in place of an eighth.", judge, "counted")
