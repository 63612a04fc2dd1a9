"""A penalty on variability within classes makes the layers below agree with the network's labels sooner.

Ben-Shaul & Dekel (arXiv:2201.08924), SVSL: cross-entropy plus (a/L) times the sum over layers of the mean squared
distance to the batch's class means. A share of test samples that the nearest class centre of a layer labels otherwise
than the network; layers 1 to L - 1 of four. Pilots on digits, a = .1 as in other pilots on Fashion-MNIST, seeds 1 to 3:
mean mismatch .057, .035 and .052 without, .022, .018 and .023 with the penalty. Their own a, in other units, is 1e-5.
"""

from collections.abc import Sequence
from math import log

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
    id="d9-variability-penalty",
    title="A variability penalty lowers the mismatch of the layers below",
    statement="With a penalty on variability within classes in every layer, the NCC mismatch of layers 1 to L - 1 on "
    "test samples is lower by more than a tenth.",
    source="Ben-Shaul & Dekel, arXiv:2201.08924",
    quantity="per seed, log of the mean NCC mismatch of layers 1 to L - 1, without the penalty less with it",
    test="superiority",
    margin=-log(0.9),
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.7, sd=0.3),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=study_grid("regularisation.variability_penalty", strength=(0.0, 0.1), epochs=60, seed=CLAIM.seeds),
            control_runs=study_grid(
                "regularisation.variability_penalty", strength=(0.0, 1e-6), epochs=60, seed=CLAIM.seeds
            ),
        )
    ]
}


def mismatch(run: Run) -> float:
    return log(max(float(np.mean(run.profile("nc4_mismatch", split="test")[:-1])), 1e-4))


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    _, table = pivot(runs, "strength", mismatch)
    without, penalised = np.array(table, dtype=float).T
    return CLAIM.judge(without - penalised)


def test_a_variability_penalty_lowers_the_mismatch_below(supported: Check) -> None:
    supported(judge)


def test_control_hardly_any_penalty(control: Check) -> None:
    control("The same with a hundred-thousandth of the penalty.", judge)
