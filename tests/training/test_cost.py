"""Cost of runs: FLOPs against networks counted by hand and by hooks, hours against the declared rates."""

import dataclasses

import pytest
import torch
from torch import nn

from ncharness import RunConfig, Study
from ncharness.store.estimates import estimated_hours, estimated_seconds
from ncharness.training import dataset_specs, datasets
from ncharness.training.cost import ASSUMED_RATES, ASSUMED_STEP, Flops, flops, forward_flops, steps
from ncharness.training.networks import ARCHITECTURES, build


def test_networks_counted_by_hand() -> None:
    # MLP-2-3 on 40 numbers, 10 classes: 40 -> 3 -> 3 -> 10, multiply-adds 120 + 9 + 30.
    assert forward_flops("mlp", depth=2, width=3, in_shape=(40,), n_classes=10) == 2 * (120 + 9 + 30)
    # CONV-1-2 on (1, 8, 8): 4x4 of 2 from 1 by 2x2, 2x2 of 2 from 2 by 2x2, 2x2 of 2 from 2 by 3x3, 8 -> 10.
    by_hand = 16 * 2 * 1 * 4 + 4 * 2 * 2 * 4 + 4 * 2 * 2 * 9 + 80
    assert forward_flops("conv", depth=1, width=2, in_shape=(1, 8, 8), n_classes=10) == 2 * by_hand
    # CONVRES has a second convolution in its block.
    assert forward_flops("convres", depth=1, width=2, in_shape=(1, 8, 8), n_classes=10) == 2 * (by_hand + 144)


@pytest.mark.parametrize("arch", [name for name, spec in ARCHITECTURES.items() if spec.forward_flops])
@pytest.mark.parametrize("in_shape", [(3, 8, 12), (1, 16, 16)])
def test_the_count_is_that_of_the_modules_that_run(arch: str, in_shape: tuple[int, ...]) -> None:
    model, total = build(arch, depth=3, width=5, in_shape=in_shape, n_classes=7), 0

    def count(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        of_each = module.weight[0].numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0
        total += 2 * of_each * output.numel()

    for module in model.modules():
        module.register_forward_hook(count)
    model.eval()(torch.zeros(1, *in_shape))
    assert forward_flops(arch, depth=3, width=5, in_shape=in_shape, n_classes=7) == total


def test_a_run_is_epochs_of_training_and_sweeps_of_measuring() -> None:
    config = RunConfig(data="mnist1d", depth=2, width=3, n_train=100, epochs=4, measurements=3)
    forward = forward_flops("mlp", depth=2, width=3, in_shape=(40,), n_classes=10)
    assert config.measured_epochs() == [0, 1, 4]
    assert flops(config) == Flops(3 * forward * 100 * 4, forward * (2 * 100 + 1000) * 3)
    assert flops(config.replace(n_train=None)) == Flops(3 * forward * 4000 * 4, forward * (2 * 4000 + 1000) * 3)
    assert flops(config.replace(data="shuffled:mnist1d")) == flops(config)
    assert flops(config.replace(data="folder:/x")) is None
    assert flops(config.replace(part="both")) == flops(config)
    half = flops(config.replace(part="first"))
    assert half == Flops(3 * forward * 50 * 4, forward * ((2 * 50 + 1000) * 3 + 50)), "S2 once, at the end"


def test_the_deepest_network_of_the_paper() -> None:
    """Against the sizes worked out for it elsewhere: 1.89 GMAC a forward pass, 2.8e17 FLOP in 500 epochs."""
    forward = forward_flops("conv", depth=20, width=400, in_shape=(3, 32, 32), n_classes=10)
    assert forward == pytest.approx(2 * 1.89e9, rel=0.01)
    counted = flops(RunConfig(arch="conv", depth=20, width=400, data="cifar10", epochs=500))
    assert counted is not None
    assert counted.training == pytest.approx(2.8e17, rel=0.02)


def test_hours_are_seconds_of_cores_or_flops_at_the_assumed_rates() -> None:
    config = RunConfig(arch="conv", depth=12, width=400, data="cifar10", epochs=3)
    counted = flops(config)
    assert counted is not None
    both = [[config], [config.replace(precision="bf16")]]
    assert estimated_hours(both, device="cpu", at_once=2) == pytest.approx(estimated_seconds(config) / 3600)
    single, fast = ASSUMED_RATES["float32"], ASSUMED_RATES["bf16"]
    seconds = sum(counted) / single + counted.training / fast + counted.measuring / single
    assert estimated_hours(both, device="cuda", at_once=2) == pytest.approx(seconds / 3600)
    unknown = [config.replace(data="folder:/x"), Study(experiment="unconstrained.minimum")]
    seconds = sum(map(estimated_seconds, unknown))
    assert estimated_hours([[each] for each in unknown], device="cuda", at_once=2) == pytest.approx(seconds / 3600)
    assert estimated_hours([unknown], device="cuda", at_once=2) == pytest.approx(seconds / 3600)
    assert estimated_hours([], device="cuda", at_once=1) == 0.0


def test_small_networks_take_the_time_of_their_launches_which_they_share() -> None:
    config = RunConfig(data="mnist1d", depth=2, width=3, n_train=300, epochs=10, batch_size=128)
    counted = flops(config)
    assert counted is not None
    assert steps(config) == 30, "the last batch of an epoch is one too"
    seeds = [config.replace(seed=seed) for seed in range(4)]
    measuring = 4 * counted.measuring / ASSUMED_RATES["float32"]
    alone = estimated_hours([[seed] for seed in seeds], device="cuda", at_once=1)
    assert alone == pytest.approx((4 * 30 * ASSUMED_STEP + measuring) / 3600)
    assert estimated_hours([seeds], device="cuda", at_once=1) == pytest.approx((30 * ASSUMED_STEP + measuring) / 3600)


def test_without_n_train_an_estimate_is_of_all_there_is() -> None:
    whole = RunConfig(data="cifar10", arch="conv")
    assert estimated_seconds(whole) == pytest.approx(estimated_seconds(whole.replace(n_train=50_000)))


@pytest.mark.parametrize("name", [name for name, spec in dataset_specs.DATASETS.items() if not spec.needs_root])
def test_the_sizes_are_those_of_the_sets(name: str) -> None:
    try:
        found = datasets.load(name)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    assert dataset_specs.DATASETS[name].sizes == (
        tuple(found.train_x.shape[1:]),
        len(found.train_y),
        len(found.test_y),
        found.n_classes,
    )


def test_the_sets_of_torchvision_are_read_from_a_root() -> None:
    for name in ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"):
        assert dataset_specs.needs_root(name)
        assert dataset_specs.sizes_of(name) is dataset_specs.sizes_of(f"shuffled:{name}") is not None
    assert not any(map(dataset_specs.needs_root, ("digits", "mnist1d", "folder:/x")))


def test_a_set_of_unknown_sizes_has_no_flops(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dataclasses.replace(dataset_specs.DATASETS["digits"], sizes=None)
    monkeypatch.setitem(dataset_specs.DATASETS, "digits", spec)
    assert flops(RunConfig()) is None
    assert estimated_seconds(RunConfig()) == estimated_seconds(RunConfig(n_train=4000))


def test_an_unknown_architecture_has_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is no longer there is named, and never counted as another."""
    config = RunConfig(arch="convres", depth=2, width=4)
    monkeypatch.delitem(ARCHITECTURES, "convres")
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    for cost in (estimated_seconds, flops):
        with pytest.raises(ValueError, match=r"^arch: expected mlp, conv or a classifier .*, got 'convres'"):
            cost(config)
    for arch in ("convres", "resnet18"):
        with pytest.raises(ValueError, match=f"^arch: expected one of mlp, conv, got '{arch}'"):
            forward_flops(arch, depth=2, width=4, in_shape=(1, 8, 8), n_classes=10)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 6.5e-11 * 9 * (256**2 + 2000 * 16) * 150 * 1400),
        ({"arch": "conv", "width": 16}, 6.5e-11 * 9 * (256 * 576 + 2000 * 4) * 150 * 1400),
        ({"arch": "convres", "width": 16}, 6.5e-11 * 9 * (256 * 576 + 2000 * 4) * 150 * 1400),
        ({"arch": "resnet18", "data": "cifar10"}, 6.5e-11 * 5.6e8 * 150 * 50_000),
    ],
)
def test_the_seconds_of_an_architecture(changes: dict[str, object], seconds: float) -> None:
    if changes.get("arch") == "resnet18":
        pytest.importorskip("torchvision", reason="torchvision is not installed")
    assert estimated_seconds(RunConfig(**changes)) == pytest.approx(seconds, rel=1e-12)
