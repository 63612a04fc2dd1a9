"""Studies: their names and keys, reproducible rows, and storage like that of runs."""

import json
import types
from pathlib import Path

import pytest
import torch

from ncharness import Row, Run, RunConfig, Store, Study, study_grid
from ncharness.store.estimates import estimated_seconds
from ncharness.store.processes import ensure
from ncharness.store.run import configuration_from
from ncharness.studies import fitting
from ncharness.studies import unconstrained as subject
from ncharness.studies.study import carry_out
from ncharness.training.rows import network_rows
from ncharness.verdicts.claim import pivot

SMALL = {"classes": 3, "samples": 2, "dim": 4}


def small(seed: int = 0, **settings: object) -> Study:
    return Study(experiment="unconstrained.minimum", settings={**SMALL, **settings}, seed=seed)


def test_defaults_are_filled_in_and_do_not_change_the_key() -> None:
    bare = Study(experiment="unconstrained.minimum", seed=3)
    assert bare.settings["classes"] == 4
    assert list(bare.settings) == sorted(bare.settings)
    assert bare == Study(experiment="unconstrained.minimum", settings={"classes": 4}, seed=3)
    assert bare.key() == Study(experiment="unconstrained.minimum", settings={"classes": 4}, seed=3).key()
    assert hash(bare) == hash(configuration_from(json.loads(json.dumps(bare.to_dict()))))
    assert len({bare.key(), small().key(), small(seed=1).key(), small(dim=5).key(), RunConfig().key()}) == 5


def test_a_whole_number_and_an_integer_are_one_setting_that_nobody_changes() -> None:
    assert small(feature_decay=1) == small(feature_decay=1.0)
    assert small(feature_decay=1).key() == small(feature_decay=1.0).key()
    with pytest.raises(TypeError, match="does not support item assignment"):
        small().settings["dim"] = 9  # type: ignore[index]  # wrong on purpose


def test_the_key_changes_with_the_version_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    before = small().key()
    monkeypatch.setattr(subject, "VERSION", 99)
    assert small().key() != before


def test_the_name_tells_what_is_no_default() -> None:
    assert small(seed=7).name() == "unconstrained.minimum-classes3-dim4-samples2-s7"
    assert small(feature_decay=0.25).name().endswith("-feature_decay0.25-samples2-s0")
    assert Study(experiment="unconstrained.minimum").name() == "unconstrained.minimum-s0"


@pytest.mark.parametrize(
    "experiment", ["unconstrained.nothing", "unconstrained.minimise", "nothing.minimum", "unconstrained", "", "."]
)
def test_an_experiment_that_is_none_is_refused(experiment: str) -> None:
    with pytest.raises(ValueError, match=r"experiment: expected module\.function of studies, got"):
        Study(experiment=experiment)


def test_settings_and_seeds_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match=r"settings of unconstrained.minimum: .*'clases'"):
        small(clases=3)
    for name, value, word in (
        ("classes", [3], "an integer"),
        ("classes", 3.0, "an integer"),
        ("classes", True, "an integer"),
        ("feature_decay", float("nan"), "a finite number"),
        ("feature_decay", "much", "a finite number"),
        ("feature_decay", True, "a finite number"),
    ):
        with pytest.raises(TypeError, match=f"settings: expected {name} to be {word}, got"):
            small(**{name: value})
    for seed in (-1, True, 1.0):
        with pytest.raises(ValueError, match="seed: expected an integer of at least 0"):
            small(seed=seed)  # type: ignore[arg-type]  # wrong on purpose


def test_a_grid_is_every_combination_with_every_seed() -> None:
    found = study_grid("unconstrained.minimum", classes=(3, 4), dim=[5, 6], samples=2, seed=range(2))
    assert [(s.settings["classes"], s.settings["dim"], s.seed) for s in found] == [
        (c, d, seed) for c in (3, 4) for d in (5, 6) for seed in (0, 1)
    ]


def test_carrying_out_is_repeatable_and_leaves_the_callers_random_state_alone() -> None:
    state = torch.get_rng_state()
    first = carry_out(small())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert carry_out(small()) == first
    assert carry_out(small(seed=1)) != first


@pytest.mark.slow
def test_the_store_keeps_studies_and_the_workers_carry_them_out(tmp_path: Path) -> None:
    store, wanted = Store(tmp_path), [small(seed=seed) for seed in range(3)]
    assert store.status(wanted[0]).state == "missing"
    run = store.train(wanted[0])
    assert run is not None
    assert run.rows == carry_out(wanted[0])
    assert store.load(wanted[0]) == run
    assert run.provenance["seconds"] >= 0
    assert [path.name for path in store.path(wanted[0]).iterdir()] == ["result.json"]
    events = []
    runs = ensure(store, wanted, jobs=2, on_event=events.append)
    assert [runs[study.key()].rows for study in wanted] == [carry_out(study) for study in wanted]
    assert {event.key for event in events if event.kind == "done"} == {study.key() for study in wanted[1:]}
    assert {run.config for _, run, _ in store.runs() if run is not None} == set(wanted)


def test_a_study_is_no_training_and_says_so() -> None:
    with pytest.raises(TypeError, match=r"expected a run of the training loop, got the study unconstrained\.minimum"):
        _ = Run(small(), ()).training
    assert Run(RunConfig(), ()).training == RunConfig()


def test_a_pivot_takes_settings_of_studies() -> None:
    runs = [Run(small(seed=s, dim=d), tuple(network_rows(loss=d + s))) for d in (5, 4) for s in (0, 1)]
    assert pivot(runs, "dim", lambda run: run.scalar("loss")) == ([4, 5], [[4.0, 5.0], [5.0, 6.0]])


def modules() -> list[types.ModuleType]:
    folder = Path(fitting.__file__).parent
    names = sorted(file.stem for file in folder.glob("*.py") if file.stem not in ("__init__", "fitting", "study"))
    return [__import__(f"ncharness.studies.{name}", fromlist=["VERSION"]) for name in names]


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_every_subject_says_how_long_its_experiments_take(module: types.ModuleType) -> None:
    assert module.VERSION >= 1
    for name, seconds in module.SECONDS.items():
        assert estimated_seconds(Study(experiment=f"{module.__name__.rpartition('.')[2]}.{name}")) == seconds > 0


def test_the_network_has_the_parts_asked_for() -> None:
    network = fitting.mlp([6, 5, 4, 3])
    assert fitting.hidden(network) == ["layer1", "layer2"]
    assert [type(part).__name__ for part in network.layer1] == ["Linear", "BatchNorm1d", "ReLU"]
    linear = fitting.mlp([6, 5, 4, 3], batch_norm=False, activation=None)
    x = torch.randn(7, 6)
    doubled = linear(2 * x) - linear(torch.zeros_like(x))
    torch.testing.assert_close(doubled, 2 * (linear(x) - linear(torch.zeros_like(x))))
    assert linear(x).shape == (7, 3)


def test_fitting_lowers_the_loss_at_falling_rates_and_tells_of_every_epoch() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(60, 6), torch.arange(60) % 3
    network, told, rates = fitting.mlp([6, 32, 3]), [], []
    optimizer = fitting.optimiser("sgd", network.parameters(), lr=0.1, weight_decay=0.0)

    def after(epoch: int) -> None:
        told.append(epoch)
        rates.append(optimizer.param_groups[0]["lr"])

    before = fitting.squared_error(network(x), y).item()
    fitting.fit(network, x, y, optimizer, epochs=6, batch_size=16, loss=fitting.squared_error, after=after)
    assert told == [0, 1, 2, 3, 4, 5, 6]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert fitting.squared_error(network(x), y).item() < 0.5 * before


def test_the_squared_error_is_half_of_the_sum_over_classes() -> None:
    outputs = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    assert float(fitting.squared_error(outputs, torch.tensor([0, 1]))) == pytest.approx((0.5 * 4 + 0.5 * 1) / 2)


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_an_optimiser_by_name(name: str, kind: type) -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    made = fitting.optimiser(name, [weight], lr=0.3, weight_decay=0.2)
    assert type(made) is kind
    assert (made.param_groups[0]["lr"], made.param_groups[0]["weight_decay"]) == (0.3, 0.2)
    with pytest.raises(ValueError, match="name: expected sgd, adam or adamw, got 'lion'"):
        fitting.optimiser("lion", [weight], lr=0.3, weight_decay=0.2)


def test_rows_of_the_network_by_name() -> None:
    assert network_rows(2, "test", error=1) == [Row(2, "network", "test", "error", 1.0)]
