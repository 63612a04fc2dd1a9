"""The training loop: what is measured, reproducibility, resuming, and the faults of the reference code."""

import copy
import dataclasses
import importlib
import io
import itertools

import pytest
import torch
from torch.nn import functional

from ncharness import RunConfig, measure, ncc_accuracy
from ncharness.store.run import Run
from ncharness.training import datasets
from ncharness.training.datasets import Dataset
from ncharness.training.loop import State, epoch_batches, measurement, train
from ncharness.training.networks import build
from ncharness.training.rows import Row

training = importlib.import_module("ncharness.training.loop")  # the package has the function under this name


def dataset(config: RunConfig) -> Dataset:
    return datasets.load(config.data, n_train=config.n_train, noise=config.noise, seed=config.seed_for("noise"))


def rows(config: RunConfig) -> list[Row]:
    return list(train(config, dataset(config)))[-1].rows


def test_the_same_configuration_gives_the_same_bits(tiny: RunConfig) -> None:
    assert rows(tiny) == rows(tiny)
    assert rows(tiny) != rows(tiny.replace(seed=1))


def test_global_random_state_neither_matters_nor_changes(tiny: RunConfig) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = rows(tiny)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert rows(tiny) == first


@pytest.mark.parametrize("changes", [{}, {"augment": "code", "precision": "bf16"}], ids=["plain", "augmented, bf16"])
@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_resumed_run_ends_in_the_same_rows(tiny: RunConfig, stop: int, changes: dict[str, str]) -> None:
    tiny = tiny.replace(**changes)
    full = rows(tiny)
    for state in train(tiny, dataset(tiny)):
        if state.epoch == stop:
            saved = io.BytesIO()
            torch.save(vars(state), saved)
            break
    saved.seek(0)
    resumed = State(**torch.load(saved, weights_only=False))
    assert list(train(tiny, dataset(tiny), resumed))[-1].rows == full


def test_epoch_zero_and_the_last_epoch_are_measured(tiny: RunConfig) -> None:
    assert sorted({row.epoch for row in rows(tiny)}) == tiny.measured_epochs() == [0, 1, 4]


def test_rows_are_every_layer_and_the_network(tiny: RunConfig) -> None:
    found = [row[1:4] for row in rows(tiny) if row.epoch == 4]
    layers = [f"block{i:02d}.pre_bn" for i in (1, 2, 3)]
    kinds = (("train", "ncc_error"), ("train", "cdnv"), ("test", "ncc_error"), ("test", "cdnv"))
    expected = [(layer, split, metric) for (split, metric), layer in itertools.product(kinds, layers)]
    assert found[:-3] == expected
    assert found[-3:] == [
        ("network", "train", "error"),
        ("network", "train", "clean_error"),
        ("network", "test", "error"),
    ]


def test_metrics_by_name_are_rows_beside_the_others_and_change_none(tiny: RunConfig) -> None:
    plain = rows(tiny)
    with_metrics = rows(tiny.replace(metrics=("nc1", "strong_collapse", "margin", "self_duality")))
    assert [row for row in with_metrics if row in plain] == plain
    added = [row for row in with_metrics if row not in plain]
    layers = [f"block{i:02d}.pre_bn" for i in (1, 2, 3)]
    kinds = (("train", "nc1"), ("train", "strong_collapse"), ("train", "self_duality"), ("test", "strong_collapse"))
    expected = [(layer, split, metric) for (split, metric), layer in itertools.product(kinds, layers)]
    expected.append(("network", "train", "margin"))
    for epoch in (0, 1, 4):
        assert [row[1:4] for row in added if row.epoch == epoch] == expected
    run = Run(tiny, tuple(with_metrics))
    assert len(run.profile("nc1")) == 3
    assert run.scalar("margin") == added[-1].value
    weak_to_strong = run.profile("strong_collapse"), run.profile("strong_collapse", split="test")
    assert all(train > 0 and test > 0 for train, test in zip(*weak_to_strong, strict=True))


def test_measurement_is_of_the_fixed_noisy_training_set_in_eval_mode(tiny: RunConfig) -> None:
    config = tiny.replace(noise=0.3, points=("out",))
    noisy = dataset(config)
    for state in train(config, noisy):
        weights = copy.deepcopy(state.model)
    model = build("mlp", depth=3, width=16, in_shape=(1, 8, 8), n_classes=10)
    model.load_state_dict(weights)
    model.eval()
    found = {row[1:4]: row.value for row in measurement(model, config, noisy, epoch=4)}
    with torch.no_grad():
        wrong = model(noisy.train_x).argmax(1)
        for layer in ("block01", "block02", "block03"):  # all: a layer's numbers under another's name would show
            below = model[: list(dict(model.named_children())).index(layer) + 1]
            features, held_out = below(noisy.train_x), below(noisy.test_x)
            direct, test_direct = measure(features, noisy.train_y, 10), measure(held_out, noisy.test_y, 10)
            test_accuracy = float(ncc_accuracy(held_out, noisy.test_y, direct.stats))
            assert test_accuracy != float(test_direct.ncc_accuracy), "else this could not tell whose centres were used"
            assert {kind[1:]: value for kind, value in found.items() if kind[0] == f"{layer}.out"} == {
                ("train", "ncc_error"): pytest.approx(1 - float(direct.ncc_accuracy)),
                ("train", "cdnv"): pytest.approx(float(direct.cdnv), rel=1e-6),
                ("test", "ncc_error"): pytest.approx(1 - test_accuracy),
                ("test", "cdnv"): pytest.approx(float(test_direct.cdnv), rel=1e-6),
            }
    assert found["network", "train", "error"] == pytest.approx(float((wrong != noisy.train_y).double().mean()))
    assert found["network", "train", "clean_error"] == pytest.approx(
        float((wrong != noisy.train_y_clean).double().mean())
    )
    assert {row[1:]: row.value for row in state.rows if row.epoch == 4} == {
        (*kind, value): value for kind, value in found.items()
    }


def test_the_first_epoch_learns(tiny: RunConfig) -> None:
    """The reference code trains its first epoch at learning rate 0."""
    states = train(tiny, dataset(tiny))
    before = copy.deepcopy(next(states).model)
    after = next(states).model
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_learning_rate_zero_changes_no_weight_but_batch_norm_statistics(tiny: RunConfig) -> None:
    states = train(tiny.replace(lr=0), dataset(tiny))
    before = copy.deepcopy(next(states).model)
    after = next(states).model
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("running" in name or "num_batches" in name for name in changed)


def test_the_optimiser_is_sgd_with_momentum_and_weight_decay(tiny: RunConfig) -> None:
    """One epoch by hand, on labels some of which are wrong: v = m v + (g + wd w), w -= lr v."""
    config = tiny.replace(epochs=1, n_train=150, noise=0.3)
    samples = dataset(config)
    assert samples.noise_mask.any()
    states = train(config, samples)
    start = copy.deepcopy(next(states).model)
    final = next(states).model
    model = build("mlp", depth=3, width=16, in_shape=(1, 8, 8), n_classes=10)
    model.load_state_dict(start)
    model.train()
    velocity = [torch.zeros_like(parameter) for parameter in model.parameters()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed_for("epoch/0"))
        batches = epoch_batches(150, 128)
    for batch in batches:
        loss = functional.cross_entropy(model(samples.train_x[batch]), samples.train_y[batch])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient, v in zip(model.parameters(), gradients, velocity, strict=True):
                v.mul_(0.9).add_(gradient + 5e-4 * parameter)
                parameter.sub_(0.1 * v)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, final[name], rtol=1e-4, atol=1e-6)


CONV = RunConfig(arch="conv", depth=2, width=4, n_train=150, epochs=2, measurements=2)


def seen_by(network: list[torch.Tensor], config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows of a run; `network` is given the output of the first block of every forward pass."""
    original = training.build

    def hooked(*arguments: object, **settings: object) -> torch.nn.Module:
        model = original(*arguments, **settings)
        model.block01.register_forward_hook(lambda _module, _inputs, output: network.append(output.detach()))
        return model

    monkeypatch.setattr(training, "build", hooked)
    return rows(config)


def test_bf16_is_of_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[torch.Tensor] = []
    last = seen_by(found, CONV.replace(precision="bf16"), monkeypatch)
    kinds = [output.dtype for output in found]
    batches = [torch.bfloat16] * 2  # an epoch, of 128 and 22
    measured = [torch.float32] * 3  # two sweeps of the training set and one of the test set
    assert kinds == [*measured, *batches, *measured, *batches, *measured]
    for precise, coarse in zip(rows(CONV), last, strict=True):
        assert precise[:-1] == coarse[:-1]
        assert coarse.value == pytest.approx(precise.value, abs=0.05 if precise.metric != "cdnv" else 2.0)
    assert last != rows(CONV)


def test_weights_of_convolutions_lie_with_channels_last_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU here: it is the same network, to rounding."""
    assert training.MEMORY_FORMATS["cuda"] == torch.channels_last
    plain = rows(CONV)
    monkeypatch.setitem(training.MEMORY_FORMATS, "cpu", torch.channels_last)
    found: list[torch.Tensor] = []
    last = seen_by(found, CONV.replace(epochs=1), monkeypatch)
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in found)
    start = [row for row in plain if row.epoch == 0]
    for row, other in zip(start, last, strict=False):
        assert other[:-1] == row[:-1]
        assert other.value == pytest.approx(row.value, rel=1e-4, abs=0.01)


def test_a_compiled_network_trains_the_same_and_is_measured_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tracer of torch.compile, but not its compiler, which takes a minute."""
    compile_, asked = torch.compile, []

    def traced(model: torch.nn.Module, **settings: object) -> object:
        asked.append(settings)
        return compile_(model, backend="eager", **settings)

    monkeypatch.setattr(torch, "compile", traced)
    assert rows(CONV.replace(compiled=True)) == rows(CONV)
    assert asked == [{"dynamic": False}]


@pytest.mark.parametrize("n", [1, 2, 128, 129, 130, 256, 257, 1400])
def test_no_sample_is_left_out_of_an_epoch(n: int) -> None:
    batches = epoch_batches(n, 128)
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert n == 1 or all(len(batch) > 1 for batch in batches), "batch norm cannot train on one sample"


@pytest.mark.parametrize("arch", ["conv", "convres"])
def test_convolutional_networks_train_and_are_measured(arch: str) -> None:
    config = RunConfig(arch=arch, depth=2, width=4, n_train=130, epochs=2, measurements=2)
    last = [row for row in rows(config) if row.epoch == 2]
    point = "out" if arch == "convres" else "pre_bn"
    for split in ("train", "test"):
        layers = [row.layer for row in last if (row.metric, row.split) == ("cdnv", split)]
        assert layers == [f"block01.{point}", f"block02.{point}"]
    assert all(0 <= row.value <= 1 for row in last if row.metric != "cdnv")


def test_the_mistakes_on_the_second_half_are_kept_after_the_last_epoch(tiny: RunConfig) -> None:
    config = tiny.replace(part="first", n_train=400)
    halves = datasets.load(config.data, n_train=400, part="first", seed=config.data_seed())
    assert halves.second_x is not None
    assert halves.second_y is not None
    for state in train(config, halves):
        weights = copy.deepcopy(state.model)
    model = build("mlp", depth=3, width=16, in_shape=(1, 8, 8), n_classes=10)
    model.load_state_dict(weights)
    model.eval()
    with torch.no_grad():
        predicted = model(halves.second_x).argmax(1)
    wrong = {int(i): int(predicted[i]) for i in torch.nonzero(predicted != halves.second_y)[:, 0]}
    kept = [row for row in state.rows if row.split == "second"]
    assert {row.epoch for row in kept} == {config.epochs}
    assert {row.layer for row in kept} == {"network"}
    assert {row.metric: row.value for row in kept} == {
        "error": pytest.approx(len(wrong) / 200),
        **{f"mistake {i}": label for i, label in wrong.items()},
    }
    assert 0 < len(wrong) < 200
    assert not [row for row in rows(tiny) if row.split == "second"]


CLASSIFIER = RunConfig(arch="resnet18", n_train=40, epochs=1, measurements=2)


@pytest.fixture(scope="module")
def classifier_run() -> tuple[Dataset, list[Row], dict[str, torch.Tensor]]:
    """Digits at 8 x 8 pixels, few of them, on a ResNet-18: data, rows and final weights."""
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    whole = dataset(CLASSIFIER)
    samples = dataclasses.replace(whole, test_x=whole.test_x[:40], test_y=whole.test_y[:40])
    for state in train(CLASSIFIER, samples):
        weights = copy.deepcopy(state.model)
    return samples, state.rows, weights


Trained = tuple[Dataset, list[Row], dict[str, torch.Tensor]]


def test_a_classifier_of_torchvision_trains_and_its_blocks_are_the_layers_of_its_profile(
    classifier_run: Trained,
) -> None:
    samples, found, weights = classifier_run
    run = Run(CLASSIFIER, tuple(found))
    layers = [f"layer{stage}.{block}.out" for stage in (1, 2, 3, 4) for block in (0, 1)] + ["avgpool.out"]
    for split in ("train", "test"):
        assert [row.layer for row in found if row[:1] + row[2:4] == (1, split, "ncc_error")] == layers
    assert run.points == ["out"]
    assert run.epochs == [0, 1]
    assert run.profile(epoch=0) != run.profile()
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    assert weights.keys() == torchvision.models.resnet18(num_classes=10).state_dict().keys()
    model = build("resnet18", depth=0, width=0, in_shape=(1, 8, 8), n_classes=10)
    model.load_state_dict(weights)
    model.eval()
    with torch.no_grad():
        stem = model.maxpool(model.relu(model.bn1(model.conv1(samples.train_x))))
        first = measure(model.layer1[0](stem).flatten(1), samples.train_y, 10)
        below = model.layer4(model.layer3(model.layer2(model.layer1(stem))))
        last = measure(below.mean((2, 3)), samples.train_y, 10)
    for i, direct in ((0, first), (8, last)):
        assert run.profile()[i] == pytest.approx(1 - float(direct.ncc_accuracy))
        assert run.profile("cdnv")[i] == pytest.approx(float(direct.cdnv), rel=1e-4)


def test_the_layers_of_a_classifier_have_the_metrics_that_were_asked_for(classifier_run: Trained) -> None:
    samples, _, weights = classifier_run
    config = CLASSIFIER.replace(metrics=("nc1", "strong_collapse"))
    model = build("resnet18", depth=0, width=0, in_shape=(1, 8, 8), n_classes=10)
    model.load_state_dict(weights)
    run = Run(config, tuple(measurement(model, config, samples, epoch=1)))
    assert len(run.profile("nc1")) == len(run.profile("strong_collapse", split="test")) == 9
