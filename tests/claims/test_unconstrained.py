"""The judgements of the claims about unconstrained features, on made rows for the runs that each of them declares."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest
from test_claim_files import load

from ncharness import Run, RunConfig, Study, Verdict
from ncharness.training.rows import network_rows
from ncharness.verdicts.claim import digits_of_agreement, unfinished
from ncharness.verdicts.verdict import NOT_APPLICABLE, REFUTED, SUPPORTED

Rows = Mapping[str, float]
SOLVED = {"gradient": 1e-10, "gap": 1e-15, "disagreement": 0.0, "slack": 0.0, "loss": 1e-9}


def made(module: ModuleType, values: Callable[[Study], Rows] | Rows, *, setting: int = 0, epoch: int = 0) -> list[Run]:
    """A run with these numbers for each of those that the claim declares for one of its settings."""
    configs = module.SETTINGS["small"][setting].runs
    told = [values(config) if callable(values) else values for config in configs]
    return [
        Run(config, tuple(network_rows(epoch, "train", **{**SOLVED, **numbers})))
        for config, numbers in zip(configs, told, strict=True)
    ]


# By claim: numbers of which one alone, when it is a tenth, refutes it, and those that must be small for it to apply.
OF_DIGITS = {
    "global_minimiser": (("nc1_trace", "etf_distance", "product_duality"), ("gradient",)),
    "orthogonal_frame": (
        ("nc1_trace", "frame_distance", "etf_distance", "duality", "norm_error"),
        ("gradient",),
    ),
    "free_bias": (("nc1_trace", "uncentred_etf_distance", "centred_duality", "bias_error"), ("gradient",)),
    "further_layer": (
        ("nc1_trace", "frame_distance", "first_nc1_trace", "first_frame_distance", "duality"),
        ("gradient", "gap"),
    ),
    "further_relu_layer": (("nc1_trace", "frame_distance"), ("gradient", "gap")),
    "signal_to_noise": (("change",), ()),
    "other_losses": (("nc1_trace", "etf_distance", "gap"), ("gradient",)),
    "benign_landscape": (("largest_gap", "least_gap"), ("gradient",)),
    "fixed_etf": (("nc1_trace", "etf_distance"), ("gradient",)),
    "random_labels": (("nc1_trace", "etf_distance", "difference"), ("gradient",)),
    "batch_norm": (("nc1_trace", "etf_distance"), ("gap",)),
}


@pytest.mark.parametrize("name", OF_DIGITS)
def test_each_number_of_a_claim_in_digits_decides_alone(name: str) -> None:
    module, (errors, limited) = load(f"test_{name}"), OF_DIGITS[name]
    exact = {**dict.fromkeys(errors, 1e-12), "balance": 1.0}
    assert module.judge(made(module, exact)) == SUPPORTED
    for error in errors:
        assert module.judge(made(module, {**exact, error: 0.1})) == REFUTED, error
    for limit in limited:
        assert module.judge(made(module, {**exact, limit: 0.1})) in (NOT_APPLICABLE, REFUTED), limit
        assert limit in errors or module.judge(made(module, {**exact, limit: 0.1})) == NOT_APPLICABLE, limit
        assert module.judge(made(module, {**exact, limit: float("nan")})) != SUPPORTED, limit


def test_the_balance_of_norms_counts_from_one() -> None:
    module = load("test_global_minimiser")
    exact = {"nc1_trace": 1e-12, "etf_distance": 1e-12, "product_duality": 1e-12}
    assert module.judge(made(module, {**exact, "balance": 1.01})) == REFUTED
    assert module.judge(made(module, {**exact, "balance": 0.99})) == REFUTED


def test_controls_look_at_another_number() -> None:
    for name, argument, number in (
        ("further_relu_layer", "first_", "first_frame_distance"),
        ("signal_to_noise", "nc1_change", "nc1_change"),
        ("random_labels", "true_nc1_trace", "true_nc1_trace"),
        ("batch_norm", "uncentred_etf_distance", "uncentred_etf_distance"),
    ):
        module = load(f"test_{name}")
        exact = dict.fromkeys([*OF_DIGITS[name][0], "first_nc1_trace"], 1e-12)
        assert module.judge(made(module, {**exact, number: 1e-12}), argument) == SUPPORTED
        assert module.judge(made(module, {**exact, number: 0.1}), argument) == REFUTED


def test_the_landscape_of_single_starts_is_judged_by_their_gap() -> None:
    module = load("test_benign_landscape")
    assert module.judge(made(module, {"gap": 1e-12}, setting=1)) == SUPPORTED
    assert module.judge(made(module, {"gap": 1e-6}, setting=1)) == REFUTED
    assert module.judge(made(module, {"gap": -1e-6}, setting=1)) == REFUTED, "below the least is as wrong"


def test_errors_of_strong_collapse_are_powers_of_the_scale() -> None:
    module = load("test_initial_scale")
    scales = (*module.SMALL, *module.LARGE)

    def judged(bent: str = "", by: float = 0.0, loss: float = 0.0, scales_of: Any = module.SMALL) -> Verdict:
        rows = {f"loss {s:g}": loss for s in scales}
        for name, exponent in (("classifier", 2), ("features", 1), ("bias", 1)):
            rows |= {f"{name} {s:g}": s ** (exponent * (1 + by * (name == bent))) for s in scales}
        found = module.judge(made(module, rows), scales_of)
        assert isinstance(found, Verdict)
        return found

    assert judged() == SUPPORTED
    for name in ("classifier", "features", "bias"):
        assert judged(name, 0.2) == REFUTED
        assert judged(name, -0.2) == REFUTED
        assert judged(name, 0.05) == SUPPORTED
    assert judged(loss=1e-4) == NOT_APPLICABLE
    assert judged("bias", 0.2, scales_of=module.LARGE) == REFUTED


def test_strong_collapse_is_that_of_one_scale() -> None:
    module = load("test_strong_collapse")
    rows = {
        f"{name} {s}": value for name in ("classifier", "features", "bias") for s, value in (("0.0001", 1e-3), ("1", 1))
    }
    rows |= {"loss 0.0001": 0.0, "loss 1": 0.0}
    assert module.judge(made(module, rows)) == SUPPORTED
    assert module.judge(made(module, rows), 1.0) == REFUTED
    for name in ("classifier", "features", "bias"):
        assert module.judge(made(module, {**rows, f"{name} 0.0001": 0.1})) == REFUTED
    assert module.judge(made(module, {**rows, "loss 0.0001": 1e-4})) == NOT_APPLICABLE


def test_every_start_is_a_share_of_starts() -> None:
    module = load("test_further_relu_any_start")
    assert module.judge(made(module, {"reached": 1.0})) == SUPPORTED
    assert module.judge(made(module, {"reached": 0.75})) == REFUTED
    assert module.judge(made(module, {"reached": 1.0, "gap": 1e-3})) == NOT_APPLICABLE


def test_over_regularised_minimisers_are_zero_beyond_the_threshold_only() -> None:
    module = load("test_over_regularised")

    def rows(study: Study) -> Rows:
        zero = study.settings["weight_decay"] == 1.05
        return {"size": 1e-6 if zero else 1.5, "norm_error": 1.0 if zero else 1e-6}

    assert module.judge(made(module, rows)) == SUPPORTED
    assert module.judge(made(module, rows), module.BELOW) == REFUTED
    assert module.judge(made(module, {"size": 1.0, "norm_error": 1e-6})) == REFUTED
    assert module.judge(made(module, {"size": 1e-6, "norm_error": 0.1})) == REFUTED
    assert module.judge(made(module, {**rows(made(module, {})[0].config), "gradient": 1e-3})) == NOT_APPLICABLE


def test_minority_collapse_is_on_both_sides_of_the_threshold() -> None:
    module = load("test_minority_collapse")

    def judged(below: float, above: float, **more: float) -> Any:
        ratios = sorted({run.config.settings["ratio"] for run in made(module, {})})  # type: ignore[union-attr]
        of = dict(zip(ratios, (below, above), strict=True))
        return module.judge(made(module, lambda study: {"spread": of[study.settings["ratio"]], **more}))

    assert judged(0.3, 1e-8) == SUPPORTED
    assert judged(0.3, 1e-3) == REFUTED, "above they are still apart"
    assert judged(0.01, 1e-8) == REFUTED, "below they have merged"
    assert judged(1e-8, 0.3) == REFUTED
    for limit in ("gradient", "disagreement", "slack"):
        assert judged(0.3, 1e-8, **{limit: 0.1}) == NOT_APPLICABLE


@pytest.mark.parametrize(
    ("setting", "axis"), [(0, "feature_level"), (1, "feature_level"), (2, "minority"), (3, "minority")]
)
def test_the_tighter_model_merges_first(setting: int, axis: str) -> None:
    module = load("test_minority_threshold")
    levels = sorted({run.config.settings[axis] for run in made(module, {}, setting=setting)})  # type: ignore[union-attr]

    def judged(earlier: float, later: float, *order: slice) -> Any:
        of = dict(zip(levels, (earlier, later), strict=True))
        return module.judge(made(module, lambda study: {"spread": of[study.settings[axis]]}, setting=setting), *order)

    assert judged(1e-8, 0.3) == SUPPORTED
    assert judged(0.3, 1e-8) == REFUTED
    assert judged(0.3, 0.3) == REFUTED
    assert judged(1e-8, 0.3, slice(None, None, -1)) == REFUTED


def test_the_cosine_alone_is_judged_as_it_is() -> None:
    module = load("test_minority_cosine")
    assert module.judge(made(module, {"cosine": 1.0})) == SUPPORTED
    assert module.judge(made(module, {"cosine": 0.7})) == REFUTED
    assert module.judge(made(module, {"cosine": 1.0, "slack": 0.1})) == NOT_APPLICABLE


def test_the_split_by_class_is_asked_of_balanced_classes_only() -> None:
    module = load("test_loss_decomposition")

    def rows(within: float, apart: float = 2.0) -> Callable[[Study], Rows]:
        return lambda study: {
            "loss": 3.0,
            "least_squares": 1.0,
            "perpendicular": apart,
            "within": 0.4 if study.settings["balanced"] else within,
            "between": 0.6,
        }

    assert module.judge(made(module, rows(0.5))) == SUPPORTED
    assert module.judge(made(module, rows(0.5)), (True, False)) == REFUTED
    assert module.judge(made(module, rows(0.4)), (True, False)) == SUPPORTED
    assert module.judge(made(module, rows(0.5, apart=2.01))) == REFUTED
    wrong = {"loss": 3.0, "least_squares": 1.0, "perpendicular": 2.0, "within": 0.5, "between": 0.6}
    assert module.judge(made(module, wrong)) == REFUTED


def test_the_central_path_is_near_at_the_end_and_nearer_than_before() -> None:
    module = load("test_central_path")

    def judged(*ratios: float, error: float = 0.0, end: int = 60) -> Any:
        rows = [
            row
            for epoch, ratio in zip((0, 5, 20, 60), ratios, strict=True)
            for row in network_rows(epoch, "train", perpendicular=0.5 * ratio, least_squares=0.5, error=error)
        ]
        return module.judge([Run(config, tuple(rows)) for config in module.SETTINGS["small"][0].runs], end)

    assert judged(1.0, 0.3, 0.5, 0.05) == SUPPORTED
    assert judged(1.0, 0.9, 0.5, 0.15) == REFUTED, "not near at the end"
    assert judged(1.0, 0.1, 0.5, 0.05) == REFUTED, "near since epoch 5"
    assert judged(1.0, 0.3, 0.5, 0.05, end=0) == REFUTED
    assert judged(1.0, 0.3, 0.5, 0.05, error=0.2) == NOT_APPLICABLE


def margins(module: ModuleType, shares: Mapping[int, float], *, loss: float = 1e-9) -> list[Run]:
    rows = [row for step, share in shares.items() for row in network_rows(step, "train", margin_share=share, loss=loss)]
    return [Run(config, tuple(rows)) for config in module.SETTINGS["small"][0].runs]


def test_the_margin_is_that_of_the_end() -> None:
    module = load("test_max_margin")
    assert module.judge(margins(module, {4000: 0.9, 16000: 0.99})) == SUPPORTED
    assert module.judge(margins(module, {4000: 0.9, 16000: 0.99}), module.EARLY) == REFUTED
    assert module.judge(margins(module, {4000: 0.99, 16000: 0.9})) == REFUTED
    assert module.judge(margins(module, {16000: 0.99}, loss=1e-3)) == NOT_APPLICABLE
    assert module.judge(margins(module, {16000: 1.01})) == NOT_APPLICABLE, "more than is possible"


def test_the_margin_rises_at_every_checkpoint() -> None:
    module = load("test_margin_increases")
    rising = {250: -0.5, 500: -0.6, 1000: 0.1, 2000: 0.4, 4000: 0.8, 8000: 0.9, 16000: 0.95}
    assert module.judge(margins(module, rising)) == SUPPORTED, "before the data are separated it may fall"
    assert module.judge(margins(module, rising)).values == pytest.approx([0.05] * 5)
    assert module.judge(margins(module, {**rising, 8000: 0.79})) == REFUTED
    assert module.judge(margins(module, {**rising, 4000: 0.4})) == REFUTED
    assert module.judge(margins(module, {**rising, 250: 0.1})) == REFUTED, "it falls below zero again"
    assert module.judge(margins(module, rising), module.STEPS[::-1]) == REFUTED
    late = dict.fromkeys((250, 500, 1000, 2000, 4000), -0.1)
    assert module.judge(margins(module, {**rising, **late})) == NOT_APPLICABLE


def test_the_difference_of_norms_is_conserved_and_a_weighted_one_is_not() -> None:
    module = load("test_conserved_norms")

    def judged(features: float, *sign: float, loss: float = 1e-3) -> Any:
        start = network_rows(0, "train", classifier_norm=1.0, feature_norm=3.0, loss=1.4)
        end = network_rows(9, "train", classifier_norm=51.0, feature_norm=features, loss=loss)
        return module.judge([Run(config, (*start, *end)) for config in module.SETTINGS["small"][0].runs], *sign)

    assert judged(53.0) == SUPPORTED
    assert judged(54.0) == REFUTED
    assert judged(52.0) == REFUTED
    assert judged(53.0, -0.9) == REFUTED
    assert judged(53.0, loss=0.5) == NOT_APPLICABLE


def test_the_origin_is_judged_on_both_sides_of_the_threshold() -> None:
    module = load("test_origin")

    def judged(norm_beyond: float = 1e-7, norm_below: float = 0.5, eigenvalue: float = -0.1, *threshold: float) -> Any:
        def rows(study: Study) -> Rows:
            beyond = study.settings["threshold_share"] == 1.05
            return {
                "eigenvalue": eigenvalue,
                "expected_eigenvalue": -0.1,
                "norm": norm_beyond if beyond else norm_below,
                "expected_norm": 0.0 if beyond else 0.5,
            }

        return module.judge(made(module, rows), *threshold)

    assert judged() == SUPPORTED
    assert judged(norm_beyond=0.1) == REFUTED
    assert judged(norm_below=0.4) == REFUTED
    assert judged(eigenvalue=-0.09) == REFUTED
    assert judged(1e-7, 0.5, -0.1, 0.9) == REFUTED


def test_too_few_dimensions_need_both_parts() -> None:
    module = load("test_too_few_dimensions")
    assert module.judge(made(module, {"nc1_trace": 1e-16, "etf_distance": 0.5})) == SUPPORTED
    assert module.judge(made(module, {"nc1_trace": 1e-16, "etf_distance": 1e-8})) == REFUTED
    assert module.judge(made(module, {"nc1_trace": 0.1, "etf_distance": 0.5})) == REFUTED
    unsolved = {"nc1_trace": 1e-16, "etf_distance": 0.5, "gradient": 0.1}
    assert module.judge(made(module, unsolved)) == NOT_APPLICABLE


def test_digits_of_agreement_are_of_the_largest_error() -> None:
    assert digits_of_agreement(1e-3, -1e-2, 0.0) == pytest.approx(2.0)
    assert digits_of_agreement(0.0) == 16.0
    assert digits_of_agreement(1e-9, float("nan")) == digits_of_agreement(float("inf")) == -16.0


def test_what_is_unfinished_is_named() -> None:
    runs = [
        Run(RunConfig(seed=s), tuple(network_rows(0, "train", gradient=g, gap=0.5))) for s, g in ((0, 1e-9), (1, 0.25))
    ]
    assert unfinished(runs[:1], gradient=1e-8) == ""
    assert unfinished(runs, gradient=1e-8).endswith("-s1 did not reach a minimum: gradient 0.25, above 1e-08")
    assert "gap 0.5, above 0.1" in unfinished(runs[:1], gradient=1e-8, gap=0.1)
