"""Local elasticity of networks: the change of the outputs at other samples by a step on one sample.

He & Su (arXiv:1910.06943) on a torus, and the intra- and inter-class impacts of Zhang et al. (arXiv:2110.05960).
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncharness.studies.fitting import Loss, fit, mlp
from ncharness.training.datasets import load
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"torus": 2.5, "impacts": 1.0}


def changes(network: nn.Module, probe: Tensor, target: Tensor, others: Tensor, *, loss: Loss, lr: float) -> Tensor:
    """Return the norms (m,) of the change of the outputs at `others` (m, ...) by one SGD step on one sample (1, ...).

    The network itself is not changed.
    """
    moved = copy.deepcopy(network)
    loss(moved(probe), target).backward()  # type: ignore[no-untyped-call]  # torch's
    with torch.no_grad():
        before = moved(others)
        for parameter in moved.parameters():
            if parameter.grad is not None:
                parameter.sub_(lr * parameter.grad)
        change: Tensor = (moved(others) - before).norm(dim=1)
    return change


def curve(angles: Tensor, side: float) -> Tensor:
    """Return points (n, 3) on the curve of one class on the torus; `side` is 1 or -1 for the two classes.

    The radius of 8 and the 4 turns are those of He & Su.
    """
    radius = 8 + side * torch.sin(4 * angles)
    return torch.stack([radius * angles.cos(), radius * angles.sin(), side * torch.cos(4 * angles)], dim=1)


def torus(
    *, width: int = 2048, samples: int = 50, linear: bool = False, steps: int = 300, lr: float = 1e-3
) -> list[Row]:
    """Fit a network of one hidden layer by squared error to two classes on a torus, and measure similarities.

    The classes have `samples` points each and wind around each other. The similarity of two samples of the first class
    is the change at one by a step on the other, over the change at that other itself. The rows are Pearson's
    correlation of the similarity with the distance along the circle, over all pairs, and its mean over far pairs
    (beyond .8 pi) over its mean over near ones (below .2 pi). In float64.
    """
    angles = (2 * torch.rand(2, samples, dtype=torch.float64) - 1) * math.pi
    inputs = torch.cat([curve(angles[0], 1.0), curve(angles[1], -1.0)])
    targets = torch.cat([torch.ones(samples), torch.zeros(samples)]).double()[:, None]
    activation = None if linear else nn.ReLU
    network = mlp([3, width, 1], batch_norm=False, activation=activation).double()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    fit(network, inputs, targets, optimizer, epochs=steps, batch_size=2 * samples, loss=functional.mse_loss)
    error = ((network(inputs).detach() > 0.5) != (targets > 0.5)).double().mean()
    own = inputs[:samples]
    rows = []
    for i in range(samples):
        rows.append(changes(network, own[i : i + 1], targets[i : i + 1], own, loss=functional.mse_loss, lr=1e-6))
    change = torch.stack(rows)
    similarity = change / change.diagonal()[:, None]
    apart = (angles[0][:, None] - angles[0]).abs()
    distance = torch.minimum(apart, 2 * math.pi - apart)
    pairs = ~torch.eye(samples, dtype=torch.bool)
    both = torch.stack([similarity[pairs], distance[pairs]])
    far, near = (distance > 0.8 * math.pi) & pairs, (distance < 0.2 * math.pi) & pairs
    return network_rows(
        error=error,
        correlation=torch.corrcoef(both)[0, 1],
        far_over_near=similarity[far].mean() / similarity[near].mean(),
        least_change=change.diagonal().min(),
    )


def impact_ratio(network: nn.Module, inputs: Tensor, labels: Tensor, probes: Tensor, *, lr: float) -> float:
    """Return alpha / beta: the mean change at samples with the label of the probe, over that at all others.

    `labels` (n,) are the training labels. Each change is in units of the change at the probe itself. In float64,
    because a step on a sample that is fitted well hardly changes the network.
    """
    network, inputs = copy.deepcopy(network).double(), inputs.double()
    alpha, beta = [], []
    for i in probes.tolist():
        change = changes(network, inputs[i : i + 1], labels[i : i + 1], inputs, loss=functional.cross_entropy, lr=lr)
        change = change / change[i]
        same = labels == labels[i]
        beta.append(change[~same].mean())
        same[i] = False
        alpha.append(change[same].mean())
    return float(torch.stack(alpha).mean() / torch.stack(beta).mean())


def impacts(
    *,
    classes: int = 3,
    noise: float = 0.0,
    width: int = 256,
    epochs: int = 60,
    batch_size: int = 10,
    lr: float = 0.05,
    probes: int = 15,
) -> list[Row]:
    """Train on the first digits with a fraction `noise` of wrong labels, and measure alpha / beta.

    There is a row at the start (epoch 0), after each of the first two epochs, and after the last. With noise (C - 1) /
    C the labels are independent of the inputs. The probes are divided equally among the labels.
    """
    data = load("digits")
    chosen = data.train_y < classes
    inputs, clean = data.train_x[chosen].flatten(1), data.train_y[chosen]
    wrong = torch.rand(len(clean)) < noise
    labels = torch.where(wrong, (clean + torch.randint(1, classes, clean.shape)) % classes, clean)
    order = torch.randperm(len(labels))
    each = [order[labels[order] == label][: probes // classes] for label in range(classes)]
    network = mlp([inputs.shape[1], width, width, classes], batch_norm=False)
    rows: list[Row] = []

    def after(epoch: int) -> None:
        if epoch in (0, 1, 2, epochs):
            ratio = impact_ratio(network, inputs, labels, torch.cat(each), lr=1e-3)
            error = (network(inputs).argmax(1) != labels).double().mean()
            rows.extend(network_rows(epoch, ratio=ratio, error=error))

    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    fit(network, inputs, labels, optimizer, epochs=epochs, batch_size=batch_size, milestones=(), after=after)
    return rows
