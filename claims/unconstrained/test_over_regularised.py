"""Squared error: beyond sqrt(lambda_W lambda_H) = 1 the minimiser is zero, below it is a frame of the theorem's norm.

Tirer & Bruna, ICML 2022 (arXiv:2202.08087). Both sides of the threshold are searched, at .95 and 1.05. Pilots, seed 0:
norm 1e-6 beyond, relative error of the squared norms 1e-6 below (the descent is slow near the threshold); four digits
are asked for.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    digits_of_agreement,
    not_applicable,
    pivot,
    study_grid,
    unfinished,
)

BELOW, ABOVE = 0.95, 1.05  # both decays, and so c = sqrt(lambda_W lambda_H)
CLAIM = Claim(
    id="u9-over-regularised",
    title="Over-regularised minimisers are zero",
    statement="The minimiser of regularised squared error is zero for sqrt(lambda_W lambda_H) above 1, and below it "
    "class means have squared norms (1 - sqrt(lambda_W lambda_H)) sqrt(lambda_W / lambda_H).",
    source="Tirer & Bruna, arXiv:2202.08087, the model without bias",
    quantity="per seed, -log10 of the larger of: Frobenius norm of classifier and features at 1.05, relative error of "
    "the class means' squared norms at .95",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=5.5, sd=0.5),
    precondition="the largest entry of the gradient at most 1e-8",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="C5 d12",
            eps=None,
            runs=[
                study
                for c in (BELOW, ABOVE)
                for study in study_grid(
                    "squared_error_features.minimum", weight_decay=c, feature_decay=c, seed=CLAIM.seeds
                )
            ],
        ),
    ]
}


def judge(runs: Sequence[Run], zero: float = ABOVE) -> Verdict:
    """`zero` is the decay from which on the minimiser shall be zero."""
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    levels, of_size = pivot(runs, "weight_decay", lambda run: run.scalar("size"))
    _, of_norm = pivot(runs, "weight_decay", lambda run: run.scalar("norm_error"))
    digits = [
        digits_of_agreement(*(s if level >= zero else e for level, s, e in zip(levels, sizes, errors, strict=True)))
        for sizes, errors in zip(of_size, of_norm, strict=True)
    ]
    return CLAIM.judge(digits)


def test_over_regularised_minimisers_are_zero(supported: Check) -> None:
    supported(judge)


def test_control_below_the_threshold(control: Check) -> None:
    control("The same with zero expected at .95 as well.", judge, BELOW)
