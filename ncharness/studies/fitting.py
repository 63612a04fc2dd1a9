"""Shared parts of the experiments on networks: a configurable multi-layer perceptron, and loops that train it."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncharness.metrics.capture import capture
from ncharness.training.loop import epoch_batches

Loss = Callable[[Tensor, Tensor], Tensor]


def mlp(
    widths: Sequence[int], *, batch_norm: bool = True, activation: type[nn.Module] | None = nn.ReLU
) -> nn.Sequential:
    """Build a multi-layer perceptron of these widths, from inputs to outputs, in torch's default initialisation.

    The hidden layers are `layer1`, `layer2` and so on, each a sequence of linear map, batch norm and activation (None:
    the network is linear); their outputs are the features. The last linear map is `classifier`.
    """
    network = nn.Sequential()
    network.add_module("flatten", nn.Flatten())
    for index, (before, after) in enumerate(pairwise(widths[:-1]), start=1):
        parts: list[nn.Module] = [nn.Linear(before, after)]
        if batch_norm:
            parts.append(nn.BatchNorm1d(after))
        if activation is not None:
            parts.append(activation())
        network.add_module(f"layer{index}", nn.Sequential(*parts))
    network.add_module("classifier", nn.Linear(widths[-2], widths[-1]))
    return network


def hidden(network: nn.Sequential) -> list[str]:
    """Return the names of the hidden layers of an `mlp`, first to last."""
    return [name for name, _ in network.named_children() if name.startswith("layer")]


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return half the squared distance of outputs (n, C) to one-hot labels (n,), summed over classes, mean over n."""
    targets = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    return 0.5 * (outputs - targets).square().sum(1).mean()


def optimiser(
    name: str, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Build an optimiser: sgd (momentum .9), adam (decay in the gradient) or adamw (decoupled decay)."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    raise ValueError(f"name: expected sgd, adam or adamw, got {name!r}")


def fit(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    batch_size: int = 128,
    loss: Loss = functional.cross_entropy,
    milestones: Sequence[float] = (1 / 3, 2 / 3),
    factor: float = 0.1,
    after: Callable[[int], None] = lambda _: None,
) -> None:
    """Train in random batches. The learning rate is multiplied by `factor` at `milestones`, fractions of the epochs.

    `after(epoch)` is called with the number of finished epochs, 0 before the first. The model is left in training mode.
    """
    begun = [float(group["lr"]) for group in optimizer.param_groups]
    steps = [max(1, round(share * epochs)) for share in milestones]
    after(0)
    for epoch in range(epochs):
        for group, lr in zip(optimizer.param_groups, begun, strict=True):
            group["lr"] = lr * factor ** sum(epoch >= step for step in steps)
        model.train()
        for batch in epoch_batches(len(labels), batch_size):
            value = loss(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]  # torch's
            optimizer.step()
        after(epoch + 1)


def fit_whole(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    loss: Loss = functional.cross_entropy,
    weight_decay: float = 0.0,
    after: Callable[[int], None] = lambda _: None,
) -> None:
    """Train by L-BFGS with a strong Wolfe line search on all samples at once; an epoch is one iteration.

    Half of `weight_decay` times the squared norm of all trainable parameters is part of the objective. `after` as in
    `fit`; the model is left in training mode.
    """
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def closure() -> Tensor:
        solver.zero_grad()
        squares = torch.stack([parameter.square().sum() for parameter in moved]).sum()
        value = loss(model(inputs), labels) + 0.5 * weight_decay * squares
        value.backward()  # type: ignore[no-untyped-call]  # torch's
        return value

    after(0)
    for epoch in range(epochs):
        if epoch % 20 == 0:  # a new solver makes progress where rounding stopped the last line search
            solver = torch.optim.LBFGS(moved, max_iter=1, history_size=20, line_search_fn="strong_wolfe")
        model.train()
        solver.step(closure)  # type: ignore[no-untyped-call]  # torch's
        settle(model, inputs)
        after(epoch + 1)
    model.train()


@torch.no_grad()
def settle(model: nn.Module, inputs: Tensor) -> None:
    """Set the running statistics of batch norm to those of these inputs. The model is left in training mode.

    Otherwise they would include the rejected trial steps of a line search.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average over the single pass that follows
    model.train()
    model(inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def layer_outputs(network: nn.Sequential, inputs: Tensor) -> dict[str, Tensor]:
    """Return the outputs (n, d) of each hidden layer of an `mlp` by name, and of the `classifier`, in eval mode."""
    network.eval()
    with torch.no_grad(), capture(network, [*hidden(network), "classifier"]) as outputs:
        network(inputs)
    return dict(outputs)
