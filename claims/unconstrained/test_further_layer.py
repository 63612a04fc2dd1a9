"""A further linear layer leaves minimisers of squared error orthogonal frames, before it and after it.

Tirer & Bruna, ICML 2022 (arXiv:2202.08087), for W W_1 H in place of W H. Pilots, seed 0: seven digits or more.
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
    id="u6-further-layer",
    title="A further linear layer keeps the orthogonal frame",
    statement="With a further linear layer between features and classifier, minimisers of regularised squared error "
    "without bias are collapsed orthogonal frames before and after that layer.",
    source="Tirer & Bruna, arXiv:2202.08087, the linear extended model",
    quantity="per seed, -log10 of the largest of: tr(Sigma_W) / tr(Sigma_B) and distance of the means to an "
    "orthogonal frame, both before and after the layer, and distance of classifier to means",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=6.0, sd=0.5),
    precondition="the largest entry of the gradient at most 1e-8, and the objective within 1e-7 of its least value",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="C5 d12",
            eps=None,
            runs=study_grid("squared_error_features.minimum", further="linear", seed=CLAIM.seeds),
            control_runs=study_grid(
                "squared_error_features.minimum", further="linear", bias="trained", seed=CLAIM.seeds
            ),
        ),
    ]
}


NAMES = ("nc1_trace", "frame_distance", "first_nc1_trace", "first_frame_distance", "duality")


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8, gap=1e-7):
        return not_applicable(reason)
    digits = [digits_of_agreement(*(run.scalar(name) for name in NAMES)) for run in runs]
    return CLAIM.judge(digits)


def test_a_further_linear_layer_keeps_the_orthogonal_frame(supported: Check) -> None:
    supported(judge)


def test_control_free_bias(control: Check) -> None:
    control("The same with a free bias, whose frame is a simplex ETF.", judge)
