"""With a bias that is not decayed, minimisers of squared error are simplex ETFs as they are, and the bias is 1/C.

Tirer & Bruna, ICML 2022 (arXiv:2202.08087). In between, a decay of the bias leads from one frame to the other: with a
decay of .1 the bias is .06 off and the uncentred means .12 from an ETF (pilot), which is the control. Pilots, seed 0:
seven digits.
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
    id="u5-free-bias",
    title="Squared error with a free bias: simplex ETFs",
    statement="With a bias that is not decayed, minimisers of regularised squared error are collapsed, class means a "
    "simplex ETF without centring, the classifier's centred rows proportional to them, and b = 1/C.",
    source="Tirer & Bruna, arXiv:2202.08087, the model with a free bias",
    quantity="per seed, -log10 of the largest of: tr(Sigma_W) / tr(Sigma_B), distance of the uncentred means to an "
    "ETF, of the centred classifier to the centred means, and of the bias to 1/C",
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
        *(
            Setting(
                name=f"C5 d{dim}",
                eps=None,
                runs=study_grid("squared_error_features.minimum", bias="trained", dim=dim, seed=CLAIM.seeds),
                control_runs=study_grid(
                    "squared_error_features.minimum", bias="trained", bias_decay=0.1, dim=dim, seed=CLAIM.seeds
                ),
            )
            for dim in (4, 12)
        ),
    ]
}


def digits(run: Run) -> float:
    names = ("nc1_trace", "uncentred_etf_distance", "centred_duality", "bias_error")
    return digits_of_agreement(*(run.scalar(name) for name in names))


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    return CLAIM.judge([digits(run) for run in runs])


def test_minimisers_with_a_free_bias_are_simplex_etfs(supported: Check) -> None:
    supported(judge)


def test_control_decayed_bias(control: Check) -> None:
    control("The same with a decay of .1 on the bias.", judge)
