"""The training loop: SGD on cross-entropy, with measurements after some of the epochs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncharness.metrics.layers import measure_layers
from ncharness.training import devices
from ncharness.training.augment import augmented, darkest, draw
from ncharness.training.config import RunConfig
from ncharness.training.datasets import Dataset
from ncharness.training.networks import build, measured_layers
from ncharness.training.rows import Row

EVALUATION_BATCH = 512
MEMORY_FORMATS = {"cpu": torch.preserve_format, "cuda": torch.channels_last}
"""How weights of convolutions lie in memory, by kind of device; their inputs and outputs follow."""


@dataclass
class State:
    """State of a run after `epoch` epochs, from which it goes on to the same rows."""

    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    rows: list[Row]
    loss: float  # mean training loss of the last epoch, for the progress line


def train(
    config: RunConfig, data: Dataset, resume: State | None = None, *, device: str | torch.device = "cpu"
) -> Iterator[State]:
    """Train a network and yield the state after epoch 0 (untrained) and after every epoch.

    Network and data are on `device` throughout. All that is random is drawn on the CPU: every device trains the same
    network
    from the same weights, on the same batches with the same augmentation. Every draw is seeded by (seed, purpose,
    epoch), so
    that a run resumed from any of these states ends in the same rows.

    Args:
        config: Configuration of the run.
        data: Data set, as `load` gives it for the configuration.
        resume: State to go on from.
        device: Device to train on.

    Yields:
        States, which share their tensors with the running network: save or copy them before going on.

    Examples:
        >>> import ncharness as nc
        >>> from ncharness.training.datasets import load
        >>> config = nc.RunConfig(depth=1, width=4, n_train=20, epochs=2, measurements=2)
        >>> [state.epoch for state in nc.train(config, load("digits", n_train=20))]
        [0, 1, 2]
    """
    model = untrained(config, data)
    data = data.to(torch.device(device))
    model.to(memory_format=MEMORY_FORMATS[torch.device(device).type]).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )
    forward = compiled(model) if config.compiled else model
    measured = set(config.measured_epochs())
    if resume is None:
        state = State(0, model.state_dict(), optimizer.state_dict(), [], float("nan"))
        state.rows += measurement(model, config, data, epoch=0)
        yield state
    else:
        model.load_state_dict(resume.model)
        optimizer.load_state_dict(resume.optimizer)
        state = resume

    for epoch in range(state.epoch, config.epochs):
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(epoch)
        with seeded(config.seed_for(f"epoch/{epoch}")):
            loss = _train_epoch(model, forward, optimizer, config, data, epoch)
        state = State(epoch + 1, model.state_dict(), optimizer.state_dict(), state.rows, loss)
        if state.epoch in measured:
            state.rows += measurement(model, config, data, epoch=state.epoch)
        yield state


def untrained(config: RunConfig, data: Dataset) -> nn.Module:
    """Return the network of a run as it begins, on the CPU."""
    with seeded(config.seed_for("init")):
        return build(
            config.arch,
            depth=config.depth,
            width=config.width,
            in_shape=tuple(data.train_x.shape[1:]),
            n_classes=data.n_classes,
        )


def compiled(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a network through torch.compile: a graph for every size of batch, and none from another run."""
    torch.compiler.reset()  # else after some runs in one process, or once a graph is dynamic, others are taken
    faster: Callable[[Tensor], Tensor] = torch.compile(forward, dynamic=False)
    return faster


def _train_epoch(
    model: nn.Module,
    forward: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    config: RunConfig,
    data: Dataset,
    epoch: int,
) -> float:
    model.train()
    device, total = data.train_y.device, torch.zeros((), dtype=torch.float64, device=data.train_y.device)
    with devices.exact():
        for inputs, labels in _training_batches(config, data, epoch):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
                scores = forward(inputs)
            loss = functional.cross_entropy(scores.float(), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
            optimizer.step()
            total += loss.detach().double() * len(labels)  # on the device, which need not be waited for
    return float(total) / len(data.train_y)


def _training_batches(config: RunConfig, data: Dataset, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch in their random order, augmented if the run is."""
    n, device = len(data.train_y), data.train_y.device
    batches = epoch_batches(n, config.batch_size, device)
    if config.augment == "none":
        yield from ((data.train_x[batch], data.train_y[batch]) for batch in batches)
        return
    black = darkest(data.train_x)
    draws = draw(config.augment, n, seed=config.seed_for(f"augment/{epoch}"), device=device)
    for batch in batches:
        yield augmented(data.train_x[batch], draws.at(batch), black), data.train_y[batch]


def epoch_batches(n: int, batch_size: int, device: str | torch.device = "cpu") -> list[Tensor]:
    """Return a random order of n samples in batches, none left out; a last batch of one joins the one before.

    The order is drawn on the CPU, whatever the device of the indices.
    """
    batches = list(torch.split(torch.randperm(n).to(device), batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm cannot train on a single sample
        last = batches.pop()
        batches[-1] = torch.cat([batches[-1], last])
    return batches


def measurement(model: nn.Module, config: RunConfig, data: Dataset, *, epoch: int) -> list[Row]:
    """Return the rows of one epoch: every captured layer on S, the fixed training set, and the network."""
    named = measured_layers(model, config.arch, depth=config.depth, points=config.points)
    layers = list(named.values())
    with devices.exact():
        report = measure_layers(
            model,
            _in_order(data.train_x, data.train_y),
            layers=layers,
            n_classes=data.n_classes,
            held_out=_in_order(data.test_x, data.test_y),
            metrics=config.metrics,
        )
    assert report.held_out_ncc_error is not None
    assert report.held_out_cdnv is not None
    assert report.held_out_predicted is not None
    assert report.held_out_metrics is not None
    rows = [Row(epoch, layer, "train", "ncc_error", report.ncc_error[layer]) for layer in layers]
    rows += [Row(epoch, layer, "train", "cdnv", report.cdnv[layer]) for layer in layers]
    rows += [Row(epoch, layer, "test", "ncc_error", report.held_out_ncc_error[layer]) for layer in layers]
    rows += [Row(epoch, layer, "test", "cdnv", report.held_out_cdnv[layer]) for layer in layers]
    rows.append(Row(epoch, "network", "train", "error", _share(report.predicted != data.train_y)))
    rows.append(Row(epoch, "network", "train", "clean_error", _share(report.predicted != data.train_y_clean)))
    rows.append(Row(epoch, "network", "test", "error", _share(report.held_out_predicted != data.test_y)))
    for split, by_metric in (("train", report.metrics), ("test", report.held_out_metrics)):
        for metric, values in by_metric.items():
            rows += [Row(epoch, layer, split, metric, values[layer]) for layer in layers]
    rows += [Row(epoch, "network", "train", metric, value) for metric, value in report.network.items()]
    if data.second_x is not None and data.second_y is not None and epoch == config.epochs:
        rows += mistakes(model, data.second_x, data.second_y, epoch=epoch)
    names = {module: name for name, module in named.items()}
    return [row._replace(layer=names.get(row.layer, row.layer)) for row in rows]


def mistakes(model: nn.Module, inputs: Tensor, labels: Tensor, *, epoch: int) -> list[Row]:
    """Return the error of the network on S2 and each of its mistakes there.

    A mistake is a row `mistake <index in S2>` with the wrong label. One assumption of the comparative bound is about
    which
    samples these are (`bound.uniformity`).
    """
    training = model.training
    model.eval()
    with torch.no_grad(), devices.exact():
        predicted = torch.cat([model(batch).argmax(1) for batch in torch.split(inputs, EVALUATION_BATCH)])
    model.train(training)
    wrong = predicted != labels
    rows = [Row(epoch, "network", "second", "error", _share(wrong))]
    return rows + [
        Row(epoch, "network", "second", f"mistake {i}", float(predicted[i]))
        for i in torch.nonzero(wrong)[:, 0].tolist()
    ]


def _in_order(inputs: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(inputs, EVALUATION_BATCH), torch.split(labels, EVALUATION_BATCH), strict=True))


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for a block; the caller's random state is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
