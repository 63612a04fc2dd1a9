"""What experiments on networks share: a multi-layer perceptron with its parts to choose, and a loop that trains it."""

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
    """Linear layers of these widths, from the inputs' to the outputs', in torch's default initialisation.

    The hidden layers are `layer1`, `layer2` and so on, each a sequence of linear map, batch norm and activation (None:
    the network is linear); what leaves them are the features. The last linear map is `classifier`.
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
    """The names of the hidden layers of an `mlp`, first to last."""
    return [name for name, _ in network.named_children() if name.startswith("layer")]


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Half the squared distance of outputs (n, C) to one-hot labels (n,), summed over classes, mean over samples."""
    targets = functional.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    return 0.5 * (outputs - targets).square().sum(1).mean()


def optimiser(
    name: str, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """sgd (momentum .9), adam (decay in the gradient) or adamw (decoupled)."""
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
    """Trains in random batches; the learning rate falls by `factor` at `milestones`, fractions of the epochs.

    `after(epoch)` is called with the number of epochs done, 0 before the first; leaves the model in training mode.
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
    """Trains by L-BFGS with a strong Wolfe line search on all samples at once; an epoch is one of its iterations.

    Half of `weight_decay` times the squared norm of all trainable parameters is part of what it minimises. `after` as
    in `fit`; leaves the model in training mode.
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
        if epoch % 20 == 0:  # a new line search gets on where rounding ended the last one
            solver = torch.optim.LBFGS(moved, max_iter=1, history_size=20, line_search_fn="strong_wolfe")
        model.train()
        solver.step(closure)  # type: ignore[no-untyped-call]  # torch's
        settle(model, inputs)
        after(epoch + 1)
    model.train()


@torch.no_grad()
def settle(model: nn.Module, inputs: Tensor) -> None:
    """Sets the running statistics of batch norm to those of these inputs; leaves the model in training mode.

    Trials of a line search that were not taken are in them otherwise.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average, of the one pass that follows
    model.train()
    model(inputs)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def layer_outputs(network: nn.Sequential, inputs: Tensor) -> dict[str, Tensor]:
    """What leaves each hidden layer of an `mlp`, by name, and its outputs as `classifier`, all in eval mode (n, d)."""
    network.eval()
    with torch.no_grad(), capture(network, [*hidden(network), "classifier"]) as outputs:
        network(inputs)
    return dict(outputs)
