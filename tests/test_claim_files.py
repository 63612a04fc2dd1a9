"""The judgements in the claim files, on runs of known depth."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from ncharness import Row, Run, RunConfig, interpolated_depth
from ncharness.claim import SUITES, pivot, unfitted
from ncharness.verdict import NOT_APPLICABLE, REFUTED, SUPPORTED

CLAIMS = Path(__file__).parent.parent / "claims"
FILES = sorted(CLAIMS.glob("test_*.py"))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CLAIMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made(depth: int | None, *, L: int = 12, error: float = 0.0) -> list[Row]:
    """Rows of a network whose layers separate from `depth` on (None: no layer does), after epoch 1."""
    errors = [0.0 if depth is not None and layer >= depth else 0.9 for layer in range(1, L + 1)]
    rows = [Row(1, f"block{i:02d}.pre_bn", "train", "ncc_error", value) for i, value in enumerate(errors, start=1)]
    return [*rows, Row(1, "network", "train", "error", error)]


def runs(table: dict[int, Sequence[int | None]], **errors: float) -> list[Run]:
    """By L, the effective depth of every seed."""
    return [
        Run(RunConfig(depth=L, seed=seed), tuple(made(depth, L=L, **errors)))
        for L, depths in table.items()
        for seed, depth in enumerate(depths)
    ]


CONSTANT = {4: [3] * 5, 6: [3] * 5, 8: [3] * 5, 12: [3] * 5}


def test_a_constant_depth_is_supported_and_a_growing_one_is_refuted() -> None:
    judge = load("test_depth_constant").judge
    assert judge(runs(CONSTANT), 0.05) == SUPPORTED
    assert judge(runs({4: [3] * 5, 6: [4] * 5, 8: [6] * 5, 12: [8] * 5}), 0.05) == REFUTED
    assert judge(runs({**CONSTANT, 12: [3, 3, 3, 3, 7]}), 0.05) == REFUTED, "no seed may differ by more than 2.5"


def test_a_depth_that_no_seed_separates_at_is_left_out() -> None:
    judge = load("test_depth_constant").judge
    assert judge(runs({**CONSTANT, 4: [None] * 5}), 0.05) == SUPPORTED
    assert judge(runs({**CONSTANT, 4: [None] * 5, 6: [None] * 5}), 0.05) == NOT_APPLICABLE


def test_a_seed_without_a_separable_layer_cannot_help_the_claim() -> None:
    judge = load("test_depth_constant").judge
    growing = {4: [2] * 5, 6: [5] * 5, 8: [5] * 5, 12: [6] * 5}
    assert judge(runs(growing), 0.05) == REFUTED
    assert judge(runs({**growing, 4: [2, 2, 2, 2, None]}), 0.05) == NOT_APPLICABLE
    assert judge(runs({**CONSTANT, 12: [3, 3, 3, 3, None]}), 0.05) == NOT_APPLICABLE


def test_the_number_of_redundant_layers_is_refuted_where_the_depth_is_constant() -> None:
    module = load("test_depth_constant")
    assert module.judge(runs(CONSTANT), 0.05, module.redundant_layers) == REFUTED


def test_networks_that_fitted_nothing_speak_for_no_claim() -> None:
    assert load("test_depth_constant").judge(runs(CONSTANT, error=0.2), 0.05) == NOT_APPLICABLE
    assert unfitted(runs(CONSTANT)) == ""
    assert "error nan" in unfitted(runs(CONSTANT, error=float("nan")))
    worst = [*runs({4: [3]}, error=0.02), *runs({8: [3]}, error=0.3)]
    assert "mlp-L08" in unfitted(worst)
    assert "0.300" in unfitted(worst)


def trained(before: int | None, after: int | None, seed: int) -> Run:
    start = [row._replace(epoch=0) for row in made(before)]
    return Run(RunConfig(depth=12, seed=seed), (*start, *made(after)))


def test_shrinking_is_the_first_depth_minus_the_last() -> None:
    module = load("test_depth_shrinks")
    depths = [interpolated_depth([row.value for row in made(d)[:-1]], eps=0.05) for d in (9, 3)]
    assert depths[0] is not None
    assert depths[1] is not None
    assert module.shrinkage(trained(9, 3, 0), 0.05) == pytest.approx(depths[0] - depths[1])
    assert module.shrinkage(trained(None, 3, 0), 0.05) == pytest.approx(12 - depths[1])
    assert module.shrinkage(trained(None, None, 0), 0.05) == 0
    assert module.judge([trained(9, 3, seed) for seed in range(5)], 0.05) == SUPPORTED
    assert module.judge([trained(3, 9, seed) for seed in range(5)], 0.05) == REFUTED
    mixed = [trained(9, 3, seed) for seed in range(4)] + [trained(9, None, 4)]
    assert module.judge(mixed, 0.05) != SUPPORTED


def noisy(table: Sequence[Sequence[int | None]]) -> list[Run]:
    return [
        Run(RunConfig(depth=12, seed=seed, noise=noise), tuple(made(depth)))
        for seed, depths in enumerate(table)
        for noise, depth in zip((0.0, 0.1, 0.25, 0.5), depths, strict=True)
    ]


def test_growth_with_noise_is_judged_in_the_order_of_the_noise() -> None:
    module = load("test_depth_grows_with_noise")
    assert module.judge(noisy([[2, 4, 6, 9]] * 5), 0.05) == SUPPORTED
    assert module.judge(noisy([[9, 6, 4, 2]] * 5), 0.05) == REFUTED
    assert module.judge(noisy([[2, 4, 6, 9]] * 4 + [[None, 4, 6, 9]]), 0.05) != SUPPORTED
    for row in ([2, 4, 6, 9], [1, 1, 5, 12]):
        assert module.judge(noisy([row] * 5), 0.05, module.PERMUTATIONS) != SUPPORTED
    assert all(sorted(permutation) == [0, 1, 2, 3] for permutation in module.PERMUTATIONS)


def test_a_pivot_needs_every_seed_at_every_level_once() -> None:
    complete = runs({4: [3, 3], 8: [5, 5]})
    assert pivot(complete, "depth", lambda run: run.config.depth + run.config.seed) == ([4, 8], [[4, 8], [5, 9]])
    with pytest.raises(ValueError, match="there is none with seed 1 and depth 8"):
        pivot(complete[:-1], "depth", lambda _: 0.0)
    with pytest.raises(ValueError, match="two runs have seed 1 and depth 8"):
        pivot([*complete, complete[-1]], "depth", lambda _: 0.0)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_claim_declares_its_design_and_has_a_control(file: Path) -> None:
    module = load(file.stem)
    claim = module.CLAIM
    for text in (claim.id, claim.title, claim.statement, claim.source, claim.quantity, claim.precondition):
        assert text
    assert claim.power >= 0.8
    assert claim.alpha <= 0.05
    if "in layers" in claim.quantity:
        assert claim.margin % 1 == 0.5, "a half-integer, as depths tie at integers"
    assert claim.suite in SUITES
    names = [name for name in dir(module) if name.startswith("test_")]
    assert len([name for name in names if "control" in name]) == 1
    assert len(names) == 2
    for setting in module.SETTINGS["small"]:
        seeds = {config.seed for config in (*setting.runs, *setting.control_runs)}
        assert len(seeds) >= 5
        assert not seeds & set(range(100)), "the pilots'"
        assert {config.data for config in setting.runs} == {setting.name.split("-")[0]}
