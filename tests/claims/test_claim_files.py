"""The judgements in the claim files, on runs of known depth."""

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from ncharness import PAPER_DEPTHS, Row, Run, RunConfig, Study, interpolated_depth
from ncharness.report.depth_figures import NAMED
from ncharness.store.estimates import estimated_seconds
from ncharness.store.run import Configuration
from ncharness.verdicts.claim import pivot, unfitted
from ncharness.verdicts.power import power
from ncharness.verdicts.verdict import INCONCLUSIVE, NOT_APPLICABLE, REFUTED, SUPPORTED

CLAIMS = Path(__file__).parents[2] / "claims"
SEEDS = range(1000, 1005)  # of the claims of the paper
FILES = sorted(CLAIMS.rglob("test_*.py"))
HEADLINE = {"c2", "c3", "c7", "c13"}
AXES = {"c4-collapse-depth": "depth", "c7-depth-noise": "noise", "c9-collapse-width": "width"}  # of trends


def load(name: str) -> ModuleType:
    (path,) = (file for file in FILES if file.stem == name)
    spec = importlib.util.spec_from_file_location(name, path)
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


def halves(depths: dict[int, Sequence[int]], minimal: Sequence[int], **errors: float) -> list[Run]:
    """By L, the effective depth on S1 of every split; the d_min of every split at p = .3, and one more at .4."""
    first = [
        Run(
            RunConfig(part="first", split=split, depth=L, n_train=1000),
            (*made(depth, L=L, **errors), Row(1, "network", "test", "error", 0.1)),
        )
        for L, row in depths.items()
        for split, depth in enumerate(row)
    ]
    return first + [
        Run(RunConfig(part="both", split=split, depth=4, n_train=1000, noise=noise), tuple(made(depth, L=4)))
        for split, least in enumerate(minimal)
        for noise, depth in ((0.3, least), (0.4, least + 1))
    ]


def test_a_bound_below_a_constant_guess_is_supported_and_one_above_is_refuted() -> None:
    judge = load("test_bound_nontrivial").judge
    found = judge(halves({8: [1] * 6}, [3] * 6), 0.05)
    assert found == SUPPORTED
    assert found.values == pytest.approx((0.57,) * 6)
    assert judge(halves({8: [1, 1, 1, 1, 1, 3]}, [3] * 6), 0.05) == INCONCLUSIVE
    assert judge(halves({8: [3] * 6}, [3] * 6), 0.05) == REFUTED


def test_a_bound_that_is_the_same_for_every_depth_is_supported() -> None:
    judge = load("test_bound_flat").judge
    flat = {4: [1] * 6, 6: [1] * 6, 8: [2] * 6}
    assert judge(halves(flat, [3] * 6), 0.05) == SUPPORTED
    assert judge(halves({**flat, 8: [3] * 6}, [3] * 6), 0.05) == REFUTED
    assert judge(halves({**flat, 6: [3] * 6}, [3] * 6), 0.05) == REFUTED, "whichever L it is that differs"
    assert judge(halves({**flat, 8: [1, 1, 1, 1, 1, 3]}, [3] * 6), 0.05) == INCONCLUSIVE
    assert judge(halves({L: [3] * 6 for L in flat}, [3] * 6), 0.05) == NOT_APPLICABLE, "trivial at every L"
    assert judge(halves(flat, [3] * 6, error=0.02), 0.05) == NOT_APPLICABLE


def test_with_redundant_layers_the_bound_depends_on_the_depth() -> None:
    module = load("test_bound_flat")
    assert (
        module.judge(halves({4: [2] * 6, 6: [1] * 6, 8: [2] * 6}, [3] * 6), 0.05, module.of_redundant_layers) == REFUTED
    )


def measured(config: RunConfig, *, error: float = 0.0, test_error: float = 0.1, **profiles: Sequence[float]) -> Run:
    """A run with these numbers of layers 1..L: `ncc`, `cdnv`, `test_ncc`, `test_cdnv`, with 0 appended at epoch 0."""
    metrics = {"ncc": "ncc_error", "cdnv": "cdnv"}
    rows = [Row(epoch, "network", "train", "error", error) for epoch in (0, 1)]
    rows += [Row(epoch, "network", "test", "error", test_error) for epoch in (0, 1)]
    for name, values in profiles.items():
        split, kind = ("test" if name.startswith("test_") else "train"), name.removeprefix("test_")
        epoch = 0 if kind.endswith("0") else 1
        metric = metrics[kind.removesuffix("0")]
        rows += [Row(epoch, f"block{i:02d}.pre_bn", split, metric, value) for i, value in enumerate(values, start=1)]
    return Run(config, tuple(rows))


def test_top_layers_are_all_of_those_from_the_sixth_on_at_every_depth() -> None:
    module = load("test_top_layers_separable")

    def judged(eight: Sequence[float], twelve: Sequence[float], eps: float = 0.05) -> object:
        of = {8: eight, 12: twelve}
        return module.judge([measured(RunConfig(depth=L, seed=seed), ncc=of[L]) for L in of for seed in range(5)], eps)

    low = [0.9] * 5
    assert judged([*low, 0.01, 0.01, 0.01], [*low, *[0.01] * 7]) == SUPPORTED
    assert judged([0.0] * 5 + [0.2, 0.0, 0.0], [0.0] * 12) == REFUTED, "a layer falls back"
    assert judged([0.0] * 8, [0.0] * 11 + [0.2]) == REFUTED, "so does the last one, in the deeper networks only"
    assert judged([0.01] * 8, [0.01] * 12, eps=0.005) == REFUTED
    verdict = judged([*low, 0.01, 0.03, 0.01], [*low, *[0.02] * 7])
    assert verdict.values == pytest.approx([0.02] * 5)  # type: ignore[attr-defined]  # a Verdict, of a file loaded by name


def test_a_small_depth_is_less_than_half_of_the_layers() -> None:
    module = load("test_depth_small")
    assert module.judge(runs({12: [4] * 5}), 0.05) == SUPPORTED
    assert module.judge(runs({12: [8] * 5}), 0.05) == REFUTED
    assert module.judge(runs({12: [4, 4, 4, 4, None]}), 0.05) != SUPPORTED
    (run,) = runs({12: [None]})
    assert module.spared(run, 0.05) == -6


def test_collapse_by_depth_is_that_of_the_last_layer() -> None:
    module = load("test_collapse_grows_with_depth")

    def table(by_depth: dict[int, float], **more: float) -> list[Run]:
        return [
            measured(RunConfig(depth=L, seed=seed), cdnv=[1.0] * (L - 1) + [last * (1 + 0.01 * seed)], **more)
            for L, last in by_depth.items()
            for seed in range(5)
        ]

    assert module.collapse(table({4: 0.01})[0]) == pytest.approx(2.0)
    falling = {4: 0.1, 6: 0.05, 8: 0.03, 12: 0.01}
    assert module.judge(table(falling)) == SUPPORTED
    assert module.judge(table(dict(zip(falling, [0.01, 0.03, 0.05, 0.1], strict=True)))) == REFUTED
    assert module.judge(table(dict(zip(falling, [0.1, 0.099, 0.098, 0.097], strict=True)))) != SUPPORTED
    assert module.judge(table(falling), module.PERMUTATIONS) != SUPPORTED
    assert module.judge(table(falling, error=0.2)) == NOT_APPLICABLE


def test_collapse_below_the_penultimate_layer_is_of_every_layer_there() -> None:
    module = load("test_collapse_below_penultimate")
    config = RunConfig(depth=6)

    def least(trained: Sequence[float]) -> float:
        return float(module.least_collapse(measured(config, cdnv0=[1.0] * 6, cdnv=trained)))

    assert least([1, 1, 0.1, 0.01, 0.001, 1]) == pytest.approx(1.0), "layers 3 to 5"
    assert least([1, 1, 0.1, 10, 0.001, 1]) == pytest.approx(-1.0)
    assert least([0.1, 0.1, 0.1, 0.1, 1, 0.1]) == pytest.approx(0.0), "the one below the last counts"
    alike = [measured(config.replace(seed=s), cdnv0=[1.0] * 6, cdnv=[0.1] * 6) for s in range(5)]
    assert module.judge(alike) == SUPPORTED
    assert module.judge([measured(run.config, cdnv0=[1.0] * 6, cdnv=[1.0] * 5 + [0.01]) for run in alike]) == REFUTED


def test_collapse_is_compared_on_both_sides_of_the_effective_depth() -> None:
    module = load("test_collapse_where_separable")

    def alike(ncc: Sequence[float], cdnv: Sequence[float], **more: float) -> list[Run]:
        return [measured(RunConfig(depth=4, seed=seed), ncc=ncc, cdnv=cdnv, **more) for seed in range(5)]

    together = alike([0.5, 0.5, 0.01, 0.01], [1, 1, 0.1, 0.01])
    assert module.judge(together, 0.05) == SUPPORTED
    assert module.judge(together, 0.05).effect == pytest.approx(1.5)
    assert module.judge(together, 0.05, slice(None, None, -1)) == REFUTED
    assert module.judge(alike([0.5, 0.01, 0.01, 0.01], [1, 1, 1, 0.1]), 0.05) == SUPPORTED
    assert module.judge(alike([0.5, 0.01, 0.01, 0.01], [1, 1, 0.9, 0.8]), 0.05) == REFUTED, "within a factor of two"
    for depth_less in ([0.5] * 4, [0.01] * 4):
        assert module.judge(alike(depth_less, [1, 1, 0.1, 0.01]), 0.05) == NOT_APPLICABLE
    assert module.judge([*together[:4], *alike([0.5] * 4, [1] * 4)[4:]], 0.05) == NOT_APPLICABLE, "in one seed"
    assert module.judge(alike([0.5, 0.01, 0.01, 0.01], [1] * 4, error=0.2), 0.05) == NOT_APPLICABLE


def test_collapse_without_generalisation_needs_both_halves() -> None:
    module = load("test_collapse_without_generalisation")

    def alike(middle: float, last: float, noise: float = 1.0, **more: float) -> list[Run]:
        untrained, trained = [0.8] * 4, [0.8, middle, 0.8, last]
        config = RunConfig(depth=4, noise=noise)
        return [measured(config.replace(seed=s), ncc0=untrained, ncc=trained, **more) for s in range(5)]

    clean = alike(0.05, 0.0, noise=0.0)
    assert module.judge(alike(0.7, 0.0), clean) == SUPPORTED
    assert module.judge(alike(0.7, 0.0), clean).effect == pytest.approx(0.65)
    assert module.judge(alike(0.7, 0.75), clean) == REFUTED, "the last layer did not collapse"
    assert module.judge(alike(0.1, 0.0), clean) == REFUTED, "the intermediate layer is as separable as on clean labels"
    assert module.judge(clean, clean) == REFUTED
    assert module.judge(alike(0.7, 0.0, error=0.2), clean) == NOT_APPLICABLE
    assert module.judge(alike(0.7, 0.0), alike(0.05, 0.0, noise=0.0, error=0.2)) == NOT_APPLICABLE
    assert module.generalising(alike(0.7, 0.0, test_error=0.9)) == ""
    assert "test error of only 0.500" in module.generalising(alike(0.7, 0.0, test_error=0.5))


def test_collapse_by_width_is_of_intermediate_layers_on_both_splits() -> None:
    module = load("test_collapse_grows_with_width")

    def table(train: Sequence[float], test: Sequence[float], **more: float) -> list[Run]:
        return [
            measured(
                RunConfig(depth=4, width=width, seed=seed),
                cdnv=[1.0, a * (1 + 0.01 * seed), a, 1.0],
                test_cdnv=[1.0, b * (1 + 0.01 * seed), b, 1.0],
                **more,
            )
            for width, a, b in zip((32, 64, 128), train, test, strict=True)
            for seed in range(5)
        ]

    down, up, flat = (1, 0.5, 0.1), (0.1, 0.5, 1), (1, 1, 1)
    assert module.collapse(table(up, flat)[0], "train") == pytest.approx(1.0)
    assert module.collapse(table(up, flat)[0], "test") == pytest.approx(0.0)
    assert module.judge(table(down, down)) == SUPPORTED
    for train, test, weak in ((down, up, "test data"), (up, down, "training data"), (down, flat, "test data")):
        assert module.judge(table(train, test)) == REFUTED
        assert module.judge(table(train, test)).reason.startswith(f"{weak}: ")
    assert module.judge(table(down, down), permuted=True) != SUPPORTED
    assert module.judge(table(down, down, error=0.2)) == NOT_APPLICABLE


def over_epochs(ncc: Sequence[float], cdnv: Sequence[float], *, error: float = 0.0) -> list[Run]:
    """Five seeds whose last of two layers has these test NCC errors and test CDNVs after epochs 0, 1, 2, ..."""
    rows = [Row(len(ncc) - 1, "network", "train", "error", error)]
    for epoch, values in enumerate(zip(ncc, cdnv, strict=True)):
        for metric, value in zip(("ncc_error", "cdnv"), values, strict=True):
            rows += [
                Row(epoch, "block01.pre_bn", "test", metric, 0.7),
                Row(epoch, "block02.pre_bn", "test", metric, value),
            ]
    return [Run(RunConfig(depth=2, seed=seed), tuple(rows)) for seed in range(5)]


def test_held_out_collapse_saturates_and_goes_together() -> None:
    module = load("test_held_out_collapse")
    ncc, cdnv = [0.9, 0.5, 0.3, 0.2, 0.19], [10, 1, 0.5, 0.1, 0.09]
    assert module.late_share(ncc) == pytest.approx(0.01 / 0.71)
    assert module.late_share([0.2, 0.3, 0.2]) == module.late_share([0.2, 0.3, 0.4]) == 1.0
    assert module.judge(over_epochs(ncc, cdnv)) == SUPPORTED
    for parts, weak in (
        (([*ncc[:3], 0.29, 0.19], cdnv), "late share of test NCC error"),
        ((ncc, [10, 1, 0.9, 0.8, 0.09]), "late share of test CDNV"),
        (([0.9, 0.2, 0.21, 0.22, 0.19], [10, 0.07, 0.06, 0.05, 0.08]), "rank correlation"),
    ):
        assert module.judge(over_epochs(*parts)) == REFUTED
        assert module.judge(over_epochs(*parts)).reason.startswith(f"{weak}: ")
    assert module.judge(over_epochs(ncc, cdnv), slice(None, None, -1)) == REFUTED
    assert module.judge(over_epochs(ncc, cdnv, error=0.2)) == NOT_APPLICABLE


def test_the_claims_share_their_runs() -> None:
    """Every run more is minutes more: the headline must end within 10 of them on two cores, the paper within 30."""
    modules = [load(file.stem) for file in FILES]
    headline: dict[str, float] = {}
    every: list[set[str]] = []
    for module in modules:
        settings = module.SETTINGS["small"]
        every.append({config.key() for s in settings for config in (*s.runs, *s.control_runs)})
        if module.CLAIM.suite == "headline":
            runs = [config for s in settings for config in (*s.runs, *s.control_runs)]
            headline |= {config.key(): estimated_seconds(config) for config in runs}
    assert sum(headline.values()) / 2 < 600, "seconds on two cores"
    of_paper = [(of, module.CLAIM) for of, module in zip(every, modules, strict=True)]
    shared = [of for of, claim in of_paper if "bound" not in claim.id and claim.suite != "literature"]
    assert 2 * len(set.union(*shared)) < sum(map(len, shared))
    assert {module.CLAIM.id.split("-")[0] for module in modules if module.CLAIM.suite == "headline"} == HEADLINE


OF_THE_PAPER = [file for file in FILES if file.parent == CLAIMS]
WITHOUT = {"c10-bound-nontrivial", "c11-bound-flat"}
"""Claims whose published setting is not public."""


@pytest.mark.parametrize("file", OF_THE_PAPER, ids=lambda file: file.stem)
def test_scale_paper_is_the_published_network_in_both_schedules_or_says_why_not(file: Path) -> None:
    module = load(file.stem)
    settings = module.SETTINGS["paper"]
    assert isinstance(settings, str) == (module.CLAIM.id in WITHOUT)
    if isinstance(settings, str):
        assert settings.startswith("no published setting: ")
        return
    assert [setting.name for setting in settings] == ["cifar10-code", "cifar10-readme"]
    for setting, schedule in zip(settings, ("code", "readme"), strict=True):
        configs = [*setting.runs, *setting.control_runs]
        assert {config.seed for config in configs} == set(SEEDS)
        for config in configs:
            assert (config.arch, config.data, config.n_train, config.schedule) == ("conv", "cifar10", None, schedule)
            assert (config.batch_size, config.momentum, config.weight_decay) == (128, 0.9, 5e-4)
            assert (config.augment, config.precision, config.points) == ("code", "bf16", ("paper",))
            assert (config.lr, config.epochs) in ((0.1, 500), (0.0, 10))
            of_width = config.depth == 10 and config.width in (20, 40, 80, 160, 320)
            assert of_width or (config.width == 400 and config.depth in (3, 5, 8, 12, 16, 20))
    both = (settings[0].runs[0], settings[1].runs[0])
    rates = [[config.lr_at(epoch) for epoch in (0, 59, 60, 100, 120, 160, 200, 499)] for config in both]
    assert rates[0] == pytest.approx([0.1, 0.1, 0.02, 0.004, 0.004, 0.004, 0.0008, 0.0008])
    assert rates[1] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.0001, 0.0001, 0.0001])
    late = both[0].measured_epochs()[-2] / 500
    assert late == pytest.approx(0.6, abs=0.01), "what C12 calls late"


def test_scale_paper_is_the_whole_figure_and_the_claims_share_its_runs() -> None:
    settings = {file.stem: load(file.stem).SETTINGS["paper"] for file in OF_THE_PAPER}
    figure = {(config.depth, config.seed) for config in settings["test_depth_constant"][0].runs}
    assert figure == {(L, seed) for L in PAPER_DEPTHS for seed in SEEDS}
    widths = {config.width for config in settings["test_collapse_grows_with_width"][0].runs}
    assert widths == {20, 40, 80, 160, 320}
    used = [
        config
        for declared in settings.values()
        for setting in declared
        if not isinstance(declared, str)
        for config in (*setting.runs, *setting.control_runs)
    ]
    kinds = Counter(
        "untrained" if not config.lr else "noisy" if config.noise else "width" if config.width != 400 else "figure"
        for config in {config.key(): config for config in used}.values()
    )
    schedules = len({config.schedule for config in used})
    noisy = {config.noise for config in used if config.noise}
    per_seed = {"figure": 6, "width": len(widths), "noisy": len(noisy), "untrained": 1}
    assert kinds == {kind: count * len(SEEDS) * schedules for kind, count in per_seed.items()}, "no run twice"


@pytest.mark.parametrize("n", [3, 5])
def test_the_permutations_of_the_widths_leave_no_order(n: int) -> None:
    module = load("test_collapse_grows_with_width")
    one, other = module.PERMUTATIONS[n]
    assert sorted(one) == sorted(other) == list(range(n))
    assert one == other[::-1], "what is left of the order in one, the other takes away"
    widths = (20, 40, 80, 160, 320)[:n]
    runs = [
        measured(
            RunConfig(depth=4, width=width, seed=seed),
            cdnv=[1.0, value, value, 1.0],
            test_cdnv=[1.0, value, value, 1.0],
        )
        for width in widths
        for seed in range(5)
        if (value := (20 / width) * (1 + 0.01 * seed))
    ]
    assert module.judge(runs) == SUPPORTED
    assert module.judge(runs, permuted=True) != SUPPORTED


def level(config: Configuration, axis: str) -> object:
    return config.settings[axis] if isinstance(config, Study) else getattr(config, axis)


@pytest.mark.parametrize("spread", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_at_its_margin_no_claim_is_supported_more_often_than_alpha(file: Path, spread: float) -> None:
    module = load(file.stem)
    claim, scale = module.CLAIM, abs(module.CLAIM.margin) or 0.01
    seeds = {config.seed for setting in module.SETTINGS["small"] for config in setting.runs}
    levels = (
        {"n_levels": len({level(c, axis) for c in module.SETTINGS["small"][0].runs})}
        if (axis := AXES.get(claim.id))
        else {}
    )
    false = power(
        claim.test,
        effect=claim.margin,
        sd=spread * scale,
        n=len(seeds),
        margin=claim.margin,
        alpha=claim.alpha,
        **levels,
    )
    assert false <= claim.alpha + 4 * (claim.alpha * (1 - claim.alpha) / 4_000) ** 0.5


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
    assert claim.suite in ("headline", "paper", "literature")
    assert (claim.suite == "literature") == (file.parent != CLAIMS), "a folder is a subject of the literature"
    assert claim.figure in NAMED or (claim.suite == "literature" and not claim.figure)
    names = [name for name in dir(module) if name.startswith("test_")]
    assert len([name for name in names if "control" in name]) == 1
    assert len(names) == 2
    for setting in [s for of in module.SETTINGS.values() if not isinstance(of, str) for s in of]:
        seeds = {config.seed for config in (*setting.runs, *setting.control_runs)}
        assert len(seeds) >= 5
        assert not seeds & set(range(100)), "the pilots'"
        if data := {config.data for config in setting.runs if isinstance(config, RunConfig)}:
            assert data == {setting.name.split("-")[0]}
