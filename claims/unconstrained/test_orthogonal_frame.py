"""Without bias, minimisers of squared error are collapsed to an orthogonal frame, which centring makes a simplex ETF.

Tirer & Bruna, ICML 2022 (arXiv:2202.08087): class means are orthogonal with squared norms (1 - c) sqrt(lambda_W /
lambda_H), c = sqrt(lambda_W lambda_H), and the classifier's rows are multiples of them; any d of at least C. Uncentred,
an orthogonal frame of 5 is .46 from a simplex ETF. Pilots, seed 0: eight digits.
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
    id="u4-orthogonal-frame",
    title="Squared error without bias: orthogonal frames",
    statement="Without bias, minimisers of regularised squared error over features and classifier are collapsed, "
    "their class means an orthogonal frame of the theorem's norms, a simplex ETF once centred, and the classifier's "
    "rows proportional to them.",
    source="Tirer & Bruna, arXiv:2202.08087, the model without bias",
    quantity="per seed, -log10 of the largest of: tr(Sigma_W) / tr(Sigma_B), distance of the means to an orthogonal "
    "frame, of the centred means to an ETF, of classifier to means, and relative error of the squared norms",
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
                name=f"C{classes} d{dim}",
                eps=None,
                runs=study_grid("squared_error_features.minimum", classes=classes, dim=dim, seed=CLAIM.seeds),
                control_runs=study_grid(
                    "squared_error_features.minimum", classes=classes, dim=classes - 1, seed=CLAIM.seeds
                ),
            )
            for classes, dim in ((5, 5), (5, 12), (8, 10))
        ),
    ]
}


def digits(run: Run) -> float:
    names = ("nc1_trace", "frame_distance", "etf_distance", "duality", "norm_error")
    return digits_of_agreement(*(run.scalar(name) for name in names))


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    return CLAIM.judge([digits(run) for run in runs])


def test_minimisers_without_bias_are_orthogonal_frames(supported: Check) -> None:
    supported(judge)


def test_control_too_few_dimensions(control: Check) -> None:
    control("The same with d = C - 1, in which C vectors cannot be orthogonal.", judge)
