"""For random labels the minimiser is as collapsed as for true ones: collapse is a property of the optimisation.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375), for free features, where it is exact: permuted labels give the permuted
minimiser and the same objective. The control takes the classes from the true labels. Pilot, seed 0: nine digits; by the
true labels NC1 is 14.
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
    id="u23-random-labels",
    title="Random labels collapse as true ones do",
    statement="For labels permuted at random, minimisers of regularised cross-entropy over features and classifier "
    "have the objective of those for the true labels, NC1 = 0 and class means in a simplex ETF by the labels given.",
    source="Zhu et al., arXiv:2105.02375",
    quantity="per seed, -log10 of the largest of: tr(Sigma_W) / tr(Sigma_B), distance of the means to an ETF, both by "
    "the random labels, and difference of the two objectives",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=6.5, sd=0.5),
    precondition="the largest entry of the gradient at most 1e-8",
    suite="literature",
)
SETTINGS = {
    "small": [Setting(name="C4 n5 d8", eps=None, runs=study_grid("unconstrained.random_labels", seed=CLAIM.seeds))]
}


def judge(runs: Sequence[Run], variability: str = "nc1_trace") -> Verdict:
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    names = (variability, "etf_distance", "difference")
    digits = [digits_of_agreement(*(run.scalar(name) for name in names)) for run in runs]
    return CLAIM.judge(digits)


def test_random_labels_collapse_as_true_ones_do(supported: Check) -> None:
    supported(judge)


def test_control_true_labels(control: Check) -> None:
    control("The same with NC1 by the true labels.", judge, "true_nc1_trace")
