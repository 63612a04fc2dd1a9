"""More weight decay of the feature layers brings more collapse than more of the last layer.

Tirer, Huang & Niles-Weed (2023), as in test_feature_decay_removed.py, with four times the decay of the one or the
other. Other pilots, at less decay, could not resolve it (2 of 3 seeds). At 5e-3 on digits, seeds 0 and 1, NC1 was .48
and .51 with four times the feature layers' decay, .82 and .89 with four times the last's: log of the quotient .54 and
.57.
"""

from collections.abc import Sequence
from math import log

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Study,
    Verdict,
    not_applicable,
    study_grid,
    unfitted,
)

CLAIM = Claim(
    id="d20-feature-decay-raised",
    title="Decay of the feature layers collapses more than that of the last",
    statement="NC1 is smaller with four times the weight decay of the feature layers than with four times that of the "
    "last layer, by more than a fifth.",
    source="Tirer, Huang & Niles-Weed 2023",
    quantity="per seed, log of NC1 (trace form) of the last hidden layer with four times the decay of the last layer "
    "over that with four times the decay of the feature layers",
    test="superiority",
    margin=0.25,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.5, sd=0.1),
    precondition="training error at most 0.01",
    suite="literature",
)


def raised(decay: float) -> list[Study]:
    """Four times the decay of the last layer, then four times that of the feature layers."""
    kinds = ((decay, 4 * decay), (4 * decay, decay))
    common = {"samples": 500, "epochs": 60, "seed": CLAIM.seeds}
    return [
        study
        for features, last in kinds
        for study in study_grid("regularisation.layer_decay", feature_decay=features, last_decay=last, **common)
    ]


SETTINGS = {"small": [Setting(name="digits", eps=None, runs=raised(5e-3), control_runs=raised(5e-6))]}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    collapse = [log(run.scalar("nc1_trace")) for run in runs]
    ratios = [a - b for a, b in zip(collapse[: len(CLAIM.seeds)], collapse[len(CLAIM.seeds) :], strict=True)]
    return CLAIM.judge(ratios)


def test_decay_of_the_feature_layers_collapses_more(supported: Check) -> None:
    supported(judge)


def test_control_hardly_any_decay(control: Check) -> None:
    control("The same with a thousandth of the decay.", judge)
