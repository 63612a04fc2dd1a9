"""Training of many networks of one shape as one program: a step of all is one forward and one backward pass.

The weights of the networks are stacked, and torch.func.vmap maps the network over them: linear maps become batched
products, convolutions grouped ones. Small networks leave a GPU idle between kernel launches; together they share the
launches. Each run makes the random draws and takes the steps that it would alone. Its rows equal those of `train` up to
rounding: the last bits of products in float32. The difference is larger in bf16, because under vmap autocast only the
products are bfloat16, and everything between them stays float32.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from ncharness.training import devices
from ncharness.training.augment import augmented, darkest, draw, joined
from ncharness.training.config import RunConfig
from ncharness.training.datasets import Dataset
from ncharness.training.loop import State, compiled, epoch_batches, measurement, seeded, untrained
from ncharness.training.networks import ARCHITECTURES, spec_of
from ncharness.training.rows import Row

Tensors = dict[str, Tensor]


def shape(config: RunConfig) -> RunConfig:
    """Return the part of a configuration that runs must share to be trained together.

    It leaves out the seed, the label noise, and metrics and epochs of measurement. Inputs are then the same, in one
    order; labels and weights differ.
    """
    default = RunConfig()
    return config.replace(
        seed=default.seed,
        noise=default.noise,
        noise_kind=default.noise_kind,
        points=default.points,
        metrics=default.metrics,
        measurements=default.measurements,
    )


def train_together(
    configs: Sequence[RunConfig],
    data: Sequence[Dataset],
    resume: Sequence[State] | None = None,
    *,
    device: str | torch.device = "cpu",
) -> Iterator[list[State]]:
    """Train several runs of one `shape` and yield the states of all of them after epoch 0 and every epoch.

    `data` are their data sets, `resume` states of one epoch, which may come from `train`, as these may go there.
    The states yielded are copies on the CPU. Raises ValueError for runs that cannot be trained together.

    Resumed, runs end in the same rows if they were trained together before; how many there are changes no bit on the
    CPUs that were tried, whereas between one alone and several the last bits differ.
    """
    check_shapes(configs)
    _check_counts(configs, data, resume)
    place, config = torch.device(device), configs[0]
    models = [untrained(*each).to(place) for each in zip(configs, data, strict=True)]
    for model, state in zip(models, resume or (), strict=False):
        model.load_state_dict(state.model)
    parameters, buffers = stack_module_state(models)
    network = models[0]  # the only one needed: the others' weights are in the stack
    del models
    optimizer = torch.optim.SGD(
        parameters.values(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )
    if resume:
        optimizer.load_state_dict(_stacked([state.optimizer for state in resume]))
    sets = _placed(data, place)
    labels = torch.stack([each.train_y for each in sets])

    def forward(inputs: Tensor) -> Tensor:
        def one(weights: Tensors, statistics: Tensors, batch: Tensor) -> Tensor:
            scores: Tensor = functional_call(network, (weights, statistics), (batch,))
            return scores

        scores: Tensor = vmap(one)(parameters, buffers, inputs)
        return scores

    run_forward = compiled(forward) if config.compiled else forward
    rows: list[list[Row]] = [list(state.rows) for state in resume] if resume else [[] for _ in configs]

    def states(epoch: int, losses: Sequence[float]) -> list[State]:
        """Measures the runs whose turn it is; then all of them as they stand."""
        weights = _slices({name: {**parameters, **buffers}[name] for name in network.state_dict()}, len(configs))
        for i, each in enumerate(configs):
            if epoch in each.measured_epochs():
                network.load_state_dict(weights[i])
                rows[i] += measurement(network, each, sets[i], epoch=epoch)
        steps = _unstacked(optimizer.state_dict(), len(configs))
        return [State(epoch, *of) for of in zip(weights, steps, rows, losses, strict=True)]

    if not resume:
        yield states(0, [float("nan")] * len(configs))
    for epoch in range(resume[0].epoch if resume else 0, config.epochs):
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(epoch)
        network.train()
        yield states(epoch + 1, _train_epoch(run_forward, optimizer, configs, sets[0], labels, epoch))


def check_shapes(configs: Sequence[RunConfig]) -> None:
    """Raise ValueError unless runs can be trained together; the message names the field in which they differ."""
    if not configs:
        raise ValueError("configs: expected at least one run, got none")
    for config in configs:
        if not spec_of(config.arch).sized:
            sized = ", ".join(name for name, spec in ARCHITECTURES.items() if spec.sized)
            raise ValueError(f"configs: expected networks of {sized}, got {config.arch}")
        if (wanted := shape(configs[0])) != (found := shape(config)):
            name, first, other = next(
                (field.name, *values)
                for field in dataclasses.fields(RunConfig)
                if (values := (getattr(wanted, field.name), getattr(found, field.name)))[0] != values[1]
            )
            raise ValueError(f"configs: expected runs that agree in {name}, got {first!r} and {other!r}")


def _check_counts(configs: Sequence[RunConfig], data: Sequence[Dataset], resume: Sequence[State] | None) -> None:
    for name, given in (("data", data), ("resume", resume)):
        if given is not None and len(given) != len(configs):
            raise ValueError(f"{name}: expected one for each of the {len(configs)} runs, got {len(given)}")
    if len(epochs := {state.epoch for state in resume or ()}) > 1:
        raise ValueError(f"resume: expected states of one epoch, got {sorted(epochs)}")


def _placed(data: Sequence[Dataset], device: torch.device) -> list[Dataset]:
    """The data sets on the device, where their inputs lie once."""
    whole = data[0].to(device)
    own = [each.sharing(data[0]) for each in data]
    return [
        dataclasses.replace(whole, train_y=each.train_y.to(device), noise_mask=each.noise_mask.to(device))
        for each in own
    ]


def _train_epoch(
    forward: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    configs: Sequence[RunConfig],
    data: Dataset,
    labels: Tensor,
    epoch: int,
) -> list[float]:
    """The mean training loss of every run."""
    total = torch.zeros(len(configs), dtype=torch.float64, device=labels.device)
    with devices.exact():
        for inputs, targets in _training_batches(configs, data, labels, epoch):
            with torch.autocast(labels.device.type, dtype=torch.bfloat16, enabled=configs[0].precision == "bf16"):
                scores = forward(inputs)
            each = functional.cross_entropy(scores.float().flatten(0, 1), targets.flatten(), reduction="none")
            losses = each.view_as(targets).mean(dim=1)
            optimizer.zero_grad()
            losses.sum().backward()  # type: ignore[no-untyped-call]  # torch's
            optimizer.step()
            total += losses.detach().double() * targets.shape[1]
    return [float(loss) for loss in total / labels.shape[1]]


def _training_batches(
    configs: Sequence[RunConfig], data: Dataset, labels: Tensor, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs (N, B, ...) and labels (N, B) of the N runs' batches, each run's in the order that it has alone."""
    n, device = labels.shape[1], labels.device
    orders = []
    for config in configs:
        with seeded(config.seed_for(f"epoch/{epoch}")):
            orders.append(epoch_batches(n, config.batch_size))
    sizes = [len(batch) for batch in orders[0]]
    order = torch.stack([torch.cat(batches) for batches in orders]).to(device)
    member = torch.arange(len(configs), device=device)[:, None]
    kind = configs[0].augment
    if kind != "none":
        black = darkest(data.train_x)
        draws = joined([draw(kind, n, seed=config.seed_for(f"augment/{epoch}"), device=device) for config in configs])
    for chosen in torch.split(order, sizes, dim=1):
        inputs = data.train_x[chosen]
        if kind != "none":
            moved = augmented(inputs.flatten(0, 1), draws.at((member * n + chosen).flatten()), black)
            inputs = moved.view_as(inputs)
        yield inputs, labels[member, chosen]


def _slices(stacked: Tensors, count: int) -> list[Tensors]:
    """Copy each network's tensors to the CPU. A view would not do: a file would hold the whole stacked tensor."""
    there = {name: value.detach().cpu() for name, value in stacked.items()}
    return [{name: value[i].clone() for name, value in there.items()} for i in range(count)]


def _stacked(optimizers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack the optimiser states of several networks, which may be on several devices, into one."""
    of_all = [document["state"] for document in optimizers]
    state = {
        index: {name: torch.stack([of[index][name].cpu() for of in of_all]) for name in values}
        for index, values in of_all[0].items()
    }
    return {"state": state, "param_groups": optimizers[0]["param_groups"]}


def _unstacked(document: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The inverse of `_stacked`, copies on the CPU."""
    own = {index: _slices(values, count) for index, values in document["state"].items()}
    return [
        {
            "state": {index: values[i] for index, values in own.items()},
            "param_groups": [dict(group) for group in document["param_groups"]],
        }
        for i in range(count)
    ]
