"""With the classifier fixed to a simplex ETF, features collapse to that ETF.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375), the unconstrained part: nothing is lost by not training the last layer. Any
fixed classifier gives collapse, as the problem is strictly convex in the features; only an ETF gives an ETF (control:
gaussian rows, .40 from an ETF). Pilot, seed 0: nine digits.
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
    study_grid,
    unfinished,
)

CLAIM = Claim(
    id="u22-fixed-etf",
    title="A fixed ETF classifier gives collapsed ETF features",
    statement="With a classifier fixed to a simplex ETF, the minimising features have NC1 = 0 and class means in a "
    "simplex ETF.",
    source="Zhu et al., arXiv:2105.02375",
    quantity="per seed, -log10 of the larger of tr(Sigma_W) / tr(Sigma_B) and distance of the means to an ETF",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=6.5, sd=0.5),
    precondition="the largest entry of the gradient at most 1e-8",
    suite="literature",
)
SETTINGS = {
    "small": [
        *(
            Setting(
                name=f"C{classes} d{dim}",
                eps=None,
                runs=study_grid("unconstrained.fixed_classifier", classes=classes, dim=dim, seed=CLAIM.seeds),
                control_runs=study_grid(
                    "unconstrained.fixed_classifier", classes=classes, dim=dim, rows="gaussian", seed=CLAIM.seeds
                ),
            )
            for classes, dim in ((5, 8), (10, 10))
        ),
    ]
}


def digits(run: Run) -> float:
    return digits_of_agreement(run.scalar("nc1_trace"), run.scalar("etf_distance"))


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    return CLAIM.judge([digits(run) for run in runs])


def test_a_fixed_etf_classifier_gives_collapsed_etf_features(supported: Check) -> None:
    supported(judge)


def test_control_gaussian_classifier(control: Check) -> None:
    control("The same with a classifier of gaussian rows.", judge)
