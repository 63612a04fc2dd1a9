"""Without weight decay of the feature layers a network collapses less than without that of the last layer.

Tirer, Huang & Niles-Weed (2023): decay of the layers below matters more than that of the last, ResNet18 on CIFAR-10.
Here an MLP of three layers with batch norm on 500 digits, squared error, decay 5e-3: at their 5e-4, 60 epochs of so few
batches decay nothing. Pilots, seeds 0 and 1: log of the quotient .060 and .043, against .020 and .018 for the last
layer's removal over none; other pilots .04 to .11. A small effect: the margin is 2 %. The control has a thousandth of
the decay, of which removal is nothing.
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
    id="d19-feature-decay-removed",
    title="Collapse needs the decay of the feature layers more than that of the last",
    statement="NC1 is larger without weight decay of the feature layers than without that of the last layer, by more "
    "than 2 %.",
    source="Tirer, Huang & Niles-Weed 2023",
    quantity="per seed, log of NC1 (trace form) of the last hidden layer without decay of the feature layers over that "
    "without decay of the last",
    test="superiority",
    margin=log(1.02),
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.05, sd=0.02),
    precondition="training error at most 0.01",
    suite="literature",
)


def removed(decay: float) -> list[Study]:
    """Without the decay of the feature layers, then without that of the last."""
    kinds = ((0.0, decay), (decay, 0.0))
    common = {"samples": 500, "epochs": 60, "seed": CLAIM.seeds}
    return [
        study
        for features, last in kinds
        for study in study_grid("regularisation.layer_decay", feature_decay=features, last_decay=last, **common)
    ]


SETTINGS = {"small": [Setting(name="digits", eps=None, runs=removed(5e-3), control_runs=removed(5e-6))]}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    collapse = [log(run.scalar("nc1_trace")) for run in runs]
    ratios = [a - b for a, b in zip(collapse[: len(CLAIM.seeds)], collapse[len(CLAIM.seeds) :], strict=True)]
    return CLAIM.judge(ratios)


def test_collapse_needs_the_decay_of_the_feature_layers(supported: Check) -> None:
    supported(judge)


def test_control_hardly_any_decay(control: Check) -> None:
    control("The same with a thousandth of the decay.", judge)
