"""Every minimiser of the unconstrained features model is collapsed to a simplex ETF.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375), theorem 3.1: for d >= C - 1, minimisers of regularised cross-entropy have
no variability within classes, class means and classifier rows in a simplex ETF, and norms in the balance of the
decays. An exact statement: what is tested is the digits to which it holds, and four of them are asked for. Pilots,
seeds 0 to 2: more than six in each part.
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
    id="u1-global-minimiser",
    title="Minimisers are collapsed simplex ETFs",
    statement="With d of at least C - 1, minimisers of regularised cross-entropy over features and classifier have NC1 "
    "= 0, class means and classifier in a simplex ETF, and norms in the balance of the decays.",
    source="Zhu et al., arXiv:2105.02375, theorem 3.1",
    quantity="per seed, -log10 of the largest of: tr(Sigma_W) / tr(Sigma_B), distances to the ETF of the means and of "
    "classifier times means, and |balance of norms - 1|",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=6.0, sd=0.5),
    precondition="the largest entry of the gradient at most 1e-8",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"C{classes} d{dim}",
            eps=None,
            runs=study_grid("unconstrained.minimum", classes=classes, dim=dim, seed=CLAIM.seeds),
            control_runs=study_grid("unconstrained.minimum", classes=classes, dim=classes - 2, seed=CLAIM.seeds),
        )
        for classes, dim in ((4, 3), (4, 12), (8, 16))
    ]
}


def digits(run: Run) -> float:
    errors = [run.scalar(name) for name in ("nc1_trace", "etf_distance", "product_duality")]
    return digits_of_agreement(*errors, run.scalar("balance") - 1.0)


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    return CLAIM.judge([digits(run) for run in runs])


def test_minimisers_are_collapsed_simplex_etfs(supported: Check) -> None:
    supported(judge)


def test_control_too_few_dimensions(control: Check) -> None:
    control("The same with d = C - 2, in which no simplex ETF of C vectors fits.", judge)
