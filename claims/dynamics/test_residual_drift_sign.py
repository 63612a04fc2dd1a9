"""Whether a drift along label residuals ends in a simplex ETF hangs on the sign of beta and on how it is read.

The L-model of Zhang et al. (arXiv:2110.05960) as in test_residual_drift_simplex.py. Derived from its eigenvalues:
`own` has (alpha - beta)/K on the simplex and (alpha + beta/(K - 1))/K elsewhere, so that beta must be negative; `cross`
has (alpha + (K - 1) beta)/K and (alpha - beta)/K, so that it must be positive. Pilots, seeds 0 and 1, five classes: 13
digits more or better with the right sign. The control is three classes, where the sign makes no difference.
"""

from collections.abc import Sequence
from math import log10

import numpy as np

from ncharness import Check, Claim, Planned, Run, Setting, Study, Verdict, pivot, study_grid

CLAIM = Claim(
    id="d3-residual-drift-sign",
    title="A simplex ETF needs beta < 0 in one reading, beta > 0 in the other",
    statement="For K >= 4, the L-model whose drift lies along a sample's own residual ends in a simplex ETF if and "
    "only if beta < 0, and that with outer products of two residuals if and only if beta > 0.",
    source="derived for the L-model of Zhang et al., arXiv:2110.05960",
    quantity="per seed, -log10 of the distance to a simplex ETF at the sign that is right less that at the other, of "
    "the reading where this is least",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=10.0, sd=1.0),
    precondition="none: the end is known to rounding",
    suite="literature",
)


def both(classes: int) -> list[Study]:
    return study_grid(
        "elastic_dynamics.residual_drift",
        classes=classes,
        beta=(-0.3, 0.3),
        reading=("own", "cross"),
        seed=CLAIM.seeds,
    )


SETTINGS = {
    "small": [Setting(name=f"C{classes}", eps=None, runs=both(classes), control_runs=both(3)) for classes in (4, 5, 6)]
}


def judge(runs: Sequence[Run]) -> Verdict:
    gains = []
    for reading, sign in (("own", -1), ("cross", 1)):
        of = [run for run in runs if run.config.to_dict()["settings"]["reading"] == reading]
        _, table = pivot(of, "beta", lambda run: -log10(max(run.scalar("etf_distance"), 1e-16)))
        negative, positive = np.array(table, dtype=float).T
        gains.append(sign * (positive - negative))
    return CLAIM.judge(np.minimum(*gains))


def test_a_simplex_needs_the_right_sign_of_beta(supported: Check) -> None:
    supported(judge)


def test_control_three_classes(control: Check) -> None:
    control("The same with three classes, of which any centred set of means at one growth is a simplex.", judge)
