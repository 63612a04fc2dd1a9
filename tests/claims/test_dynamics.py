"""The judgements of the claims on dynamics, on made runs."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ncharness import Row, Run
from ncharness.training.rows import network_rows
from ncharness.verdicts.verdict import NOT_APPLICABLE, REFUTED, SUPPORTED

FOLDER = Path(__file__).parents[2] / "claims" / "dynamics"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(
    module: ModuleType,
    numbers: Callable[[dict[str, Any]], dict[str, float]],
    *,
    setting: int = 0,
    control: bool = False,
    epoch: int = 0,
    split: str = "train",
    error: float = 0.0,
) -> list[Run]:
    """The runs of a setting with what `numbers` says of their settings, all of them slightly apart by seed."""
    chosen = module.SETTINGS["small"][setting]
    runs = []
    for study in chosen.control_runs if control else chosen.runs:
        values = {name: value * (1 + 1e-4 * (study.seed - 1000)) for name, value in numbers(study.settings).items()}
        rows = [*network_rows(epoch, split, **values), *network_rows(epoch, error=error)]
        runs.append(Run(study, tuple(rows)))
    return runs


def test_separation_is_that_at_the_smaller_beta_less_that_at_the_larger() -> None:
    module = load("test_separation_phase")

    def shares(small: float, large: float, begun: float = 0.0) -> list[Run]:
        of = {0.5: small, 1.1: large}
        return made(module, lambda s: {"separated": of[s["beta"]], "separated_at_start": begun})

    assert module.judge(shares(0.95, 0.05)) == SUPPORTED
    assert module.judge(shares(0.6, 0.05)) == REFUTED
    assert module.judge(shares(0.05, 0.95)) == REFUTED
    assert module.judge(shares(0.95, 0.05, begun=0.1)) == NOT_APPLICABLE


def test_class_means_are_in_a_simplex_to_four_digits() -> None:
    module = load("test_residual_drift_simplex")

    def distances(end: float, start: float = 0.5) -> list[Run]:
        return made(module, lambda _: {"etf_distance": end, "etf_distance_at_start": start})

    assert module.judge(distances(1e-10)) == SUPPORTED
    assert module.judge(distances(0.0)) == SUPPORTED
    assert module.judge(distances(1e-3)) == REFUTED
    assert module.judge(distances(1e-10), "etf_distance_at_start") == REFUTED
    names = {(s.name, *{r.settings["reading"] for r in s.runs}) for s in module.SETTINGS["small"]}
    assert names == {("own C5", "own"), ("own C3", "own"), ("cross C5", "cross"), ("cross C3", "cross")}


def test_the_sign_of_beta_that_brings_a_simplex_is_another_for_each_reading() -> None:
    module = load("test_residual_drift_sign")
    right = {("own", -0.3), ("cross", 0.3)}

    def distances(brings: set[tuple[str, float]]) -> list[Run]:
        return made(module, lambda s: {"etf_distance": 1e-12 if (s["reading"], s["beta"]) in brings else 0.6})

    assert module.judge(distances(right)) == SUPPORTED
    assert module.judge(distances({("own", 0.3), ("cross", -0.3)})) == REFUTED
    assert module.judge(distances({("own", 0.3), ("cross", 0.3)})) == REFUTED, "one reading alone does not do"
    assert module.judge(distances(right | {("own", 0.3)})) == REFUTED


def test_elasticity_is_that_of_both_early_epochs_with_clean_labels_less_random_ones() -> None:
    module = load("test_elastic_on_learnable_labels")

    def ratios(clean: tuple[float, float], random: float, error: float = 0.01) -> list[Run]:
        runs = []
        for study in module.SETTINGS["small"][0].runs:
            noisy = study.settings["noise"] > 0
            first, second = (random, random) if noisy else clean
            rows = network_rows(0, ratio=1.0 if noisy else 50.0, error=0.7) + network_rows(1, ratio=first, error=0.5)
            rows += network_rows(2, ratio=second * (1 + 1e-4 * (study.seed - 1000)), error=0.6 if noisy else error)
            runs.append(Run(study, tuple(rows)))
        return runs

    assert module.judge(ratios((1.9, 2.0), 1.0)) == SUPPORTED
    assert module.judge(ratios((1.0, 1.2), 1.0)) == REFUTED, "the start does not count"
    assert module.judge(ratios((1.1, 3.0), 1.0)) == SUPPORTED
    assert module.judge(ratios((3.0, 3.0), 3.0)) == REFUTED
    assert module.judge(ratios((1.9, 2.0), 1.0, error=0.2)) == NOT_APPLICABLE
    assert module.judge(ratios((1.9, 2.0), 1.0, error=0.2), learnt=1.0) == SUPPORTED


def test_on_random_labels_both_impacts_are_the_same_to_a_margin() -> None:
    module = load("test_inelastic_on_random_labels")

    def judged(ratio: float, *, setting: int = 0, epoch: int = 2, error: float = 0.6) -> object:
        return module.judge(made(module, lambda _: {"ratio": ratio}, setting=setting, epoch=epoch, error=error))

    assert judged(1.02) == SUPPORTED
    assert judged(0.97) == SUPPORTED
    assert judged(1.4) == REFUTED
    assert judged(0.7) == REFUTED
    assert judged(1.02, setting=1, epoch=100) == NOT_APPLICABLE
    assert judged(1.02, setting=1, epoch=100, error=0.0) == SUPPORTED
    assert [{r.settings["epochs"] for r in s.runs} for s in module.SETTINGS["small"]] == [{2}, {100}]


def test_on_the_torus_only_relu_may_depend_on_the_distance() -> None:
    module = load("test_local_elasticity_torus")

    def judged(relu: tuple[float, float], linear: tuple[float, float], **more: float) -> object:
        least, error = more.get("least", 1e-3), more.get("error", 0.0)
        runs = made(
            module,
            lambda s: {
                "correlation": (linear if s["linear"] else relu)[0],
                "far_over_near": (linear if s["linear"] else relu)[1],
                "least_change": least,
            },
            error=error,
        )
        return module.judge(runs[:6], runs[6:])

    assert judged((-0.95, 0.01), (-0.02, 0.95)) == SUPPORTED
    assert judged((-0.2, 0.01), (-0.02, 0.95)) == REFUTED
    assert judged((0.95, 0.01), (-0.02, 0.95)) == REFUTED
    assert judged((-0.95, 0.01), (-0.6, 0.95)) == REFUTED
    assert judged((-0.95, 0.9), (-0.02, 0.95)) == REFUTED
    assert judged((-0.95, 0.01), (-0.02, 0.95), least=0.0) == NOT_APPLICABLE
    assert judged((-0.95, 0.01), (-0.02, 0.95), error=0.3) == NOT_APPLICABLE


def test_every_amplification_must_end_at_the_loss_of_sgd() -> None:
    module = load("test_amplified_noise")

    def judged(*losses: float) -> object:
        of = dict(zip(module.AMPLIFICATIONS, losses, strict=True))
        return module.judge(made(module, lambda s: {"loss": of[s["amplification"]]}))

    assert judged(0.1, 0.1005, 0.0995, 0.1) == SUPPORTED
    for off in ((0.1, 0.11, 0.1, 0.1), (0.1, 0.1, 0.1, 0.09), (0.11, 0.1, 0.1, 0.1)):
        assert judged(*off) == REFUTED
    control = made(module, lambda s: {"loss": 0.09 if s["full_batch"] else 0.1}, control=True)
    assert module.judge(control) == REFUTED


def test_the_margin_must_grow_and_at_no_measurement_fall() -> None:
    module = load("test_margin_grows")

    def judged(margins: list[float], first: float = 20.0, order: slice = slice(None)) -> object:
        runs = []
        for study in module.SETTINGS["small"][0].runs:
            scale = 1 + 1e-4 * (study.seed - 1000)
            rows = [row for i, value in enumerate(margins) for row in network_rows(20 * i, margin=scale * value)]
            runs.append(Run(study, (*rows, *network_rows(20 * (len(margins) - 1), first_separated=first))))
        return module.judge(runs, order)

    growing = [5.0, *[1 + 0.02 * i for i in range(30)]]
    assert judged(growing) == SUPPORTED, "what was before separation does not count"
    assert judged(growing, order=slice(None, None, -1)) == REFUTED
    assert judged([*growing[:15], growing[14] - 0.01, *growing[15:]]) == REFUTED
    assert judged([5.0, *[1 + 0.002 * i for i in range(30)]]) == REFUTED
    assert judged(growing, first=-1.0) == NOT_APPLICABLE
    assert judged(growing, first=400.0) == NOT_APPLICABLE


def penalised(module: ModuleType, without: float, with_it: float, **more: float) -> list[Run]:
    runs = []
    for study in module.SETTINGS["small"][0].runs:
        low = study.settings["strength"] > 0
        scale = 1 + 1e-3 * (study.seed - 1000)
        rows = [Row(0, f"block0{i}.out", "test", "nc4_mismatch", scale * (with_it if low else without)) for i in (1, 2)]
        rows.append(Row(0, "block03.out", "test", "nc4_mismatch", 0.5))
        rows += network_rows(split="test", accuracy=scale * (1 - with_it if low else 1 - without))
        runs.append(Run(study, (*rows, *network_rows(error=more.get("error", 0.0)))))
    return runs


def test_the_mismatch_is_that_of_the_layers_below_the_last() -> None:
    module = load("test_variability_penalty")
    assert module.judge(penalised(module, 0.05, 0.02)) == SUPPORTED
    assert module.judge(penalised(module, 0.05, 0.048)) == REFUTED
    assert module.judge(penalised(module, 0.02, 0.05)) == REFUTED
    assert module.judge(penalised(module, 0.05, 0.02, error=0.1)) == NOT_APPLICABLE
    (one, *_) = penalised(module, 0.05, 0.05)
    assert module.mismatch(one) == pytest.approx(-2.9957, abs=1e-3)


def test_accuracy_must_rise_by_half_a_point() -> None:
    module = load("test_variability_penalty_accuracy")
    assert module.judge(penalised(module, 0.04, 0.02)) == SUPPORTED
    assert module.judge(penalised(module, 0.04, 0.038)) == REFUTED
    assert module.judge(penalised(module, 0.04, 0.02, error=0.1)) == NOT_APPLICABLE


def test_redundancy_by_fraction_compares_what_is_lost() -> None:
    module = load("test_redundant_fraction")

    def chunks(narrow: float, wide: float, error: float = 0.0) -> list[Run]:
        return made(
            module,
            lambda s: {"accuracy": 0.95, "eighth": 0.95 - (wide if s["width"] == 512 else narrow), "counted": 0.3},
            split="test",
            error=error,
        )

    assert module.judge(chunks(0.7, 0.1)) == SUPPORTED
    assert module.judge(chunks(0.3, 0.1)) == REFUTED
    assert module.judge(chunks(0.1, 0.7)) == REFUTED
    assert module.judge(chunks(0.7, 0.1), "counted") == REFUTED
    assert module.judge(chunks(0.7, 0.1, error=0.1)) == NOT_APPLICABLE
    assert {r.settings["count"] for r in module.SETTINGS["small"][0].control_runs} == {4}


def over_training(module: ModuleType, early: dict[int, float], late: dict[int, float], chunk: str) -> list[Run]:
    runs = []
    for study in module.SETTINGS["small"][0].runs:
        rows = []
        for epoch, lost in ((3, early), (60, late)):
            value = lost[study.settings["width"]] * (1 + 1e-3 * (study.seed - 1000))
            rows += network_rows(epoch, "test", **{"accuracy": 0.95, chunk: 0.95 - value})
            rows += network_rows(epoch, error=0.5 if epoch == 3 else 0.0)
        runs.append(Run(study, tuple(rows)))
    return runs


def test_redundancy_by_count_compares_what_is_lost_at_the_end() -> None:
    module = load("test_redundant_count")
    runs = over_training(module, {128: 0.1, 512: 0.2}, {128: 0.12, 512: 0.06}, "counted")
    assert module.judge(runs) == SUPPORTED
    assert module.judge(runs, 0) == REFUTED
    assert module.judge(over_training(module, {128: 0.2, 512: 0.1}, {128: 0.06, 512: 0.12}, "counted")) == REFUTED


def test_redundancy_by_training_is_the_share_that_is_lost_no_longer() -> None:
    module = load("test_redundancy_by_training")
    assert module.judge(over_training(module, {512: 0.2}, {512: 0.1}, "eighth")) == SUPPORTED
    assert module.judge(over_training(module, {512: 0.2}, {512: 0.18}, "eighth")) == REFUTED
    assert module.judge(over_training(module, {512: 0.1}, {512: 0.2}, "eighth")) == REFUTED
    (run, *_) = over_training(module, {512: 0.2}, {512: 0.1}, "eighth")
    assert module.lost(run, 3) == pytest.approx(0.2)


def test_the_tangent_kernel_is_judged_by_the_activation_of_the_setting() -> None:
    module = load("test_tangent_kernel")
    runs = made(module, lambda _: {"erf_ntk": 0.2, "erf_nngp": 0.1, "relu_ntk": 0.1, "relu_nngp": 0.1})
    assert module.judge(runs, "erf") == SUPPORTED
    assert module.judge(runs, "relu") == REFUTED
    names = [setting.name.split()[0] for setting in module.SETTINGS["small"]]
    assert set(names) == {"relu", "erf"}


def test_both_kernels_of_the_error_function_must_be_more_collapsed() -> None:
    module = load("test_smooth_activation_kernel")

    def judged(nngp: float, ntk: float) -> object:
        return module.judge(
            made(module, lambda _: {"relu_nngp": 0.2, "relu_ntk": 0.4, "erf_nngp": nngp, "erf_ntk": ntk})
        )

    assert judged(0.1, 0.2) == SUPPORTED
    assert judged(0.3, 0.2) == REFUTED
    assert judged(0.1, 0.5) == REFUTED
    assert judged(0.199, 0.2) == REFUTED


def test_soft_thresholding_is_judged_by_the_quotient_and_by_the_gain() -> None:
    module = load("test_soft_thresholding")
    assert module.judge(made(module, lambda _: {"fisher_soft": 2.4, "fisher_raw": 2.0})) == SUPPORTED
    assert module.judge(made(module, lambda _: {"fisher_soft": 2.0, "fisher_raw": 2.0})) == REFUTED
    module = load("test_soft_thresholding_accuracy")

    def accuracies(soft: float, raw: float) -> list[Run]:
        return made(module, lambda _: {"accuracy_soft": soft, "accuracy_raw": raw}, split="test")

    assert module.judge(accuracies(0.97, 0.96)) == SUPPORTED
    assert module.judge(accuracies(0.96, 0.97)) == REFUTED


def test_phase_collapse_asks_for_both_and_against_both() -> None:
    module = load("test_phase_collapse")

    def judged(relu: float, absolute: float, raw: float, soft: float) -> object:
        values = {"fisher_relu": relu, "fisher_abs": absolute, "fisher_raw": raw, "fisher_soft": soft}
        return module.judge(made(module, lambda _: values))

    assert judged(1.0, 2.0, 0.02, 0.03) == SUPPORTED
    for values in ((0.1, 2.0, 0.02, 0.03), (2.0, 0.1, 0.02, 0.03), (1.0, 2.0, 0.5, 0.03), (1.0, 2.0, 0.02, 0.5)):
        assert judged(*values) == REFUTED


@pytest.mark.parametrize("name", ["test_feature_decay_removed", "test_feature_decay_raised"])
def test_the_feature_layers_decay_must_matter_more(name: str) -> None:
    module = load(name)

    def judged(right: bool, by: float, error: float = 0.0) -> object:
        def collapse(settings: dict[str, Any]) -> dict[str, float]:
            less = settings["feature_decay"] < settings["last_decay"]  # of the feature layers, in either claim
            return {"nc1_trace": 1.0 + by if less == right else 1.0}

        return module.judge(made(module, collapse, error=error))

    assert judged(True, 0.5) == SUPPORTED
    assert judged(True, 0.01) == REFUTED
    assert judged(False, 0.5) == REFUTED
    assert judged(True, 0.5, error=0.2) == NOT_APPLICABLE
    decays = {
        (study.settings["feature_decay"], study.settings["last_decay"]) for study in module.SETTINGS["small"][0].runs
    }
    assert (
        decays
        == {
            "test_feature_decay_removed": {(0.0, 5e-3), (5e-3, 0.0)},
            "test_feature_decay_raised": {(5e-3, 2e-2), (2e-2, 5e-3)},
        }[name]
    )
