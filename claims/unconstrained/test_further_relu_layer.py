"""With a further ReLU layer the global minimiser of squared error is an orthogonal frame after the ReLU.

Tirer & Bruna, ICML 2022 (arXiv:2202.08087). The best of eight starts is judged, and only if it is within 1e-7 of the
least objective that is possible: one start in four ends elsewhere (u8). Before the layer the features are collapsed but
not an orthogonal frame, which is the control. Pilot, seed 0: seven digits after, .46 before.
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
    id="u7-further-relu-layer",
    title="A further ReLU layer: an orthogonal frame at the minimum",
    statement="With a further ReLU layer, the global minimiser of regularised squared error without bias is "
    "collapsed, and its class means after the ReLU are an orthogonal frame.",
    source="Tirer & Bruna, arXiv:2202.08087, the extended model with ReLU",
    quantity="per seed, for the best of 8 starts, -log10 of the larger of: tr(Sigma_W) / tr(Sigma_B) and distance of "
    "the means to an orthogonal frame, after the ReLU",
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
            runs=study_grid(
                "squared_error_features.minimum",
                further="relu",
                weight_decay=0.02,
                feature_decay=0.02,
                starts=8,
                seed=CLAIM.seeds,
            ),
        ),
    ]
}


def judge(runs: Sequence[Run], where: str = "") -> Verdict:
    """`where` the features are: after the further layer, or "first_", before it."""
    if reason := unfinished(runs, gradient=1e-8, gap=1e-7):
        return not_applicable(reason)
    names = (f"{where}nc1_trace", f"{where}frame_distance")
    digits = [digits_of_agreement(*(run.scalar(name) for name in names)) for run in runs]
    return CLAIM.judge(digits)


def test_the_minimiser_is_an_orthogonal_frame_after_the_relu(supported: Check) -> None:
    supported(judge)


def test_control_before_the_layer(control: Check) -> None:
    control("The same of the features before the further layer.", judge, "first_")
