"""Runs trained as one program: what each would be alone, to rounding; the same bits when resumed; clear refusals."""

import copy
import dataclasses
import io
import itertools
from collections.abc import Sequence

import pytest
import torch

from ncharness import RunConfig
from ncharness.training import datasets
from ncharness.training.augment import draw, joined
from ncharness.training.batched import _placed, shape, train_together
from ncharness.training.datasets import Dataset
from ncharness.training.loop import State, train
from ncharness.training.rows import Row

CONV = RunConfig(arch="conv", depth=2, width=4, n_train=150, batch_size=64, epochs=2, measurements=2)


def dataset(config: RunConfig) -> Dataset:
    return datasets.load(
        config.data,
        n_train=config.n_train,
        noise=config.noise,
        noise_kind=config.noise_kind,
        part=config.part,
        seed=config.data_seed(),
    )


def together(configs: Sequence[RunConfig], resume: Sequence[State] | None = None) -> list[list[State]]:
    """The states of all epochs."""
    return list(train_together(configs, [dataset(config) for config in configs], resume))


def seeds(config: RunConfig, count: int = 2) -> list[RunConfig]:
    return [config.replace(seed=seed) for seed in range(count)]


def assert_close(found: Sequence[Row], expected: Sequence[Row]) -> None:
    assert [row[:4] for row in found] == [row[:4] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row.value == pytest.approx(other.value, rel=1e-4, abs=1e-6), row


VARIANTS = {
    "mlp": seeds(RunConfig(depth=3, width=16, n_train=200, epochs=3, measurements=3), 3),
    "conv": seeds(CONV),
    "convres": seeds(CONV.replace(arch="convres")),
    "augmented": seeds(CONV.replace(augment="code")),
    "noise": [CONV.replace(seed=1), CONV.replace(noise=0.3), CONV.replace(noise=0.3, noise_kind="reference", seed=2)],
    "measured differently": [CONV, CONV.replace(seed=1, metrics=("nc1", "margin"), points=("out",), measurements=12)],
    "no momentum, no decay": seeds(CONV.replace(momentum=0.0, weight_decay=0.0)),
    "a schedule": seeds(CONV.replace(schedule="readme", epochs=8, lr=0.02)),
    "first halves": seeds(CONV.replace(part="first", n_train=400, split=3, epochs=1)),
    "both halves": [CONV.replace(part="both", n_train=400, noise=p, seed=i, epochs=1) for i, p in ((0, 0.1), (1, 0.3))],
}


@pytest.mark.parametrize("configs", VARIANTS.values(), ids=VARIANTS)
def test_each_run_is_what_it_is_alone_but_for_rounding(configs: list[RunConfig]) -> None:
    for config, found in zip(configs, together(configs)[-1], strict=True):
        *_, alone = train(config, dataset(config))
        assert found.epoch == alone.epoch == config.epochs
        assert found.loss == pytest.approx(alone.loss, rel=1e-5)
        assert list(found.model) == list(alone.model)
        for name, value in alone.model.items():
            torch.testing.assert_close(found.model[name], value, rtol=1e-4, atol=1e-5)
        assert_close(found.rows, alone.rows)


def test_runs_are_told_apart(tiny: RunConfig) -> None:
    first, second = together(seeds(tiny))[-1]
    assert first.rows != second.rows
    again = together(list(reversed(seeds(tiny))))[-1]
    assert_close(again[1].rows, first.rows)
    assert_close(again[0].rows, second.rows)


@pytest.mark.parametrize("changes", [{}, {"augment": "code", "precision": "bf16"}], ids=["plain", "augmented, bf16"])
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_resumed_from_any_epoch_they_end_in_the_same_bits(changes: dict[str, str], stop: int) -> None:
    configs = seeds(CONV.replace(**changes), 3)
    full = together(configs)[-1]
    for states in train_together(configs, [dataset(config) for config in configs]):
        if states[0].epoch == stop:
            saved = io.BytesIO()
            torch.save([vars(state) for state in states], saved)
            break
    saved.seek(0)
    resumed = [State(**values) for values in torch.load(saved, weights_only=False)]
    ended = together(configs, resumed)
    assert [states[0].epoch for states in ended] == list(range(stop + 1, CONV.epochs + 1))
    for found, expected in zip(ended[-1] if ended else resumed, full, strict=True):
        assert found.rows == expected.rows
        assert all(torch.equal(found.model[name], value) for name, value in expected.model.items())


def test_a_run_goes_on_alone_from_a_state_together_and_the_other_way_round(tiny: RunConfig) -> None:
    configs = seeds(tiny)
    for states in train_together(configs, [dataset(config) for config in configs]):
        if states[0].epoch == 2:
            middle = copy.deepcopy(states)
    for config, state, whole in zip(configs, middle, states, strict=True):
        *_, on_its_own = train(config, dataset(config), copy.deepcopy(state))
        assert_close(on_its_own.rows, whole.rows)
    alone = []
    for config in configs:
        for state in train(config, dataset(config)):
            if state.epoch == 2:
                alone.append(copy.deepcopy(state))
    for found, whole in zip(together(configs, alone)[-1], states, strict=True):
        assert_close(found.rows, whole.rows)


@pytest.mark.filterwarnings("ignore:features. NaN or infinite:RuntimeWarning")  # which is what it is about
@pytest.mark.parametrize("config", [CONV, RunConfig(depth=3, width=16, n_train=200, epochs=2)], ids=["conv", "mlp"])
def test_a_network_that_breaks_down_leaves_the_others_alone(config: RunConfig) -> None:
    configs = seeds(config, 3)
    healthy = [copy.deepcopy(together(configs)[0]) for _ in range(2)]
    healthy[1][1].model["head.weight"].fill_(torch.nan)
    expected, found = (together(configs, states)[-1] for states in healthy)
    assert found[1].loss != found[1].loss
    for i in (0, 2):
        assert found[i].loss == expected[i].loss
        assert all(torch.equal(value, expected[i].model[name]) for name, value in found[i].model.items())


def test_the_states_are_copies_of_their_own_size(tiny: RunConfig) -> None:
    """A file would hold the whole of what a view is of."""
    all_states = together(seeds(tiny, 3))
    for state in all_states[-1]:
        buffers = [values["momentum_buffer"] for values in state.optimizer["state"].values()]
        for value in (*state.model.values(), *buffers):
            assert value.untyped_storage().nbytes() == value.numel() * value.element_size()
    weights = [states[0].model["head.weight"] for states in all_states]
    assert not any(torch.equal(one, other) for one, other in itertools.pairwise(weights))


def test_each_run_is_measured_at_its_own_epochs(tiny: RunConfig) -> None:
    configs = [tiny, tiny.replace(seed=1, measurements=12)]
    for state, config in zip(together(configs)[-1], configs, strict=True):
        assert sorted({row.epoch for row in state.rows}) == config.measured_epochs()


def test_global_random_state_neither_matters_nor_changes(tiny: RunConfig) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = together(seeds(tiny))[-1]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert [state.rows for state in together(seeds(tiny))[-1]] == [state.rows for state in first]


def test_learning_rate_zero_changes_no_weight_but_batch_norm_statistics(tiny: RunConfig) -> None:
    before, *_, after = together(seeds(tiny.replace(lr=0)))
    for old, new in zip(before, after, strict=True):
        changed = {name for name in old.model if not torch.equal(old.model[name], new.model[name])}
        assert changed
        assert all("running" in name or "num_batches" in name for name in changed)


def test_bf16_is_of_training_alone_and_near_what_it_is_alone() -> None:
    configs = seeds(CONV.replace(epochs=1, precision="bf16", lr=0.01))
    precise = together([config.replace(precision="float32") for config in configs])[-1]
    for config, coarse, exact in zip(configs, together(configs)[-1], precise, strict=True):
        *_, alone = train(config, dataset(config))
        start = [row for row in coarse.rows if row.epoch == 0]
        assert start == [row for row in exact.rows if row.epoch == 0], "measured in float32"
        assert coarse.loss == pytest.approx(alone.loss, rel=2e-2)
        assert coarse.loss != pytest.approx(exact.loss, rel=1e-6), "trained in bfloat16"
        for name, value in alone.model.items():
            torch.testing.assert_close(coarse.model[name], value, rtol=0.05, atol=0.02)


def test_a_compiled_program_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tracer of torch.compile, but not its compiler, which takes a minute."""
    compile_, asked = torch.compile, []

    def traced(forward: object, **settings: object) -> object:
        asked.append(settings)
        return compile_(forward, backend="eager", **settings)

    monkeypatch.setattr(torch, "compile", traced)
    compiled = together([config.replace(compiled=True) for config in seeds(CONV)])[-1]
    assert [state.rows for state in compiled] == [state.rows for state in together(seeds(CONV))[-1]]
    assert asked == [{"dynamic": False}]


def test_one_shape_is_all_but_seed_noise_and_what_is_measured(tiny: RunConfig) -> None:
    alike = tiny.replace(seed=3, noise=0.2, noise_kind="reference", points=("out",), metrics=("nc1",), measurements=9)
    assert shape(alike) == shape(tiny)
    changed = {"depth": 4, "width": 8, "data": "mnist1d", "n_train": 100, "epochs": 9, "batch_size": 9, "lr": 0.2}
    changed |= {"momentum": 0.5, "weight_decay": 0.1, "schedule": "readme", "part": "first", "augment": "code"}
    changed |= {"precision": "bf16", "compiled": True, "arch": "conv"}
    for name, value in changed.items():
        assert shape(tiny.replace(**{name: value})) != shape(tiny), name
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    ours = {"seed", "noise", "noise_kind", "points", "metrics", "measurements"}
    assert fields == {*changed, *ours, "split"}, "a new field is of the shape or not: say it here"
    half = tiny.replace(part="first", n_train=400)
    assert shape(half.replace(split=1)) != shape(half)


def test_what_cannot_be_trained_together_is_refused(tiny: RunConfig) -> None:
    two, own = seeds(tiny), dataset(tiny)
    cases = [
        ([], [], None, "configs: expected at least one run, got none"),
        ([tiny, tiny.replace(depth=5)], [own, own], None, "configs: expected runs that agree in depth, got 3 and 5"),
        ([RunConfig(arch="vgg11")], [own], None, "configs: expected networks of mlp, conv, convres, got vgg11"),
        (two, [own], None, "data: expected one for each of the 2 runs, got 1"),
        (two, [own, own], [State(1, {}, {}, [], 0.0)], "resume: expected one for each of the 2 runs, got 1"),
        (
            two,
            [own, own],
            [State(1, {}, {}, [], 0.0), State(3, {}, {}, [], 0.0)],
            r"resume: expected states of one epoch, got \[1, 3\]",
        ),
        (two, [own, dataset(tiny.replace(n_train=100))], None, "train_x: expected that of digits in both data sets"),
    ]
    for configs, sets, resume, message in cases:
        with pytest.raises(ValueError, match=message):
            next(train_together(configs, sets, resume))


def test_data_sets_share_all_but_the_labels_to_train_on(tiny: RunConfig) -> None:
    clean, noisy = dataset(tiny), dataset(tiny.replace(noise=0.5))
    shared = noisy.sharing(clean)
    assert shared.train_x is clean.train_x
    assert shared.test_x is clean.test_x
    assert shared.train_y is noisy.train_y
    assert shared.noise_mask is noisy.noise_mask
    half = dataset(tiny.replace(part="first", n_train=400))
    with pytest.raises(ValueError, match="expected that of digits in both data sets, got others"):
        half.sharing(dataset(tiny.replace(part="first", n_train=400, split=1)))
    with pytest.raises(ValueError, match="second_x: expected that of digits in both data sets, got others"):
        dataclasses.replace(half, second_x=None).sharing(half)


def test_on_a_device_inputs_lie_once_and_labels_are_each_runs_own(tiny: RunConfig) -> None:
    sets = [dataset(tiny), dataset(tiny.replace(noise=0.5, seed=1))]
    placed = _placed(sets, torch.device("cpu"))
    assert placed[1].train_x is placed[0].train_x
    for own, there in zip(sets, placed, strict=True):
        for name, value in vars(own).items():
            assert (
                torch.equal(value, vars(there)[name]) if isinstance(value, torch.Tensor) else value == vars(there)[name]
            )


def test_joined_draws_stand_one_behind_the_other() -> None:
    own = [draw("code", 5, seed=seed, device=torch.device("cpu")) for seed in range(3)]
    both = joined(own).at(torch.tensor([1, 5 + 4, 10 + 0]))
    for i, at in enumerate((1, 4, 0)):
        for name, value in vars(both).items():
            assert torch.equal(value[i], vars(own[i])[name][at])
