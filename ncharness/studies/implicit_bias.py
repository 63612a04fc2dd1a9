"""Implicit bias of gradient descent: margins, and the noise of its batches.

Margins: Lyu & Li (arXiv:1906.05890). Noise and the stochastic differential equation that it approximates: Li, Malladi &
Arora (arXiv:2102.12470).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncharness.metrics.nc3_nc4 import margins
from ncharness.training.datasets import load
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"margin": 2.5, "amplified_noise": 0.6}


class Homogeneous(nn.Module):
    """ReLU network of one hidden layer with a bias only in the first: homogeneous of order 2 in its parameters."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.second = nn.Linear(width, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(torch.relu(self.first(x)))
        return result


def normalised(network: Homogeneous, inputs: Tensor, labels: Tensor) -> float:
    """Return the least margin over the squared norm of all parameters, including the first layer's bias."""
    with torch.no_grad():
        least = margins(network(inputs), labels).min()
        return float(least / sum(parameter.double().square().sum() for parameter in network.parameters()))


def margin(
    *,
    classes: int = 3,
    samples: int = 100,
    width: int = 64,
    steps: int = 4000,
    lr: float = 0.05,
    weight_decay: float = 0.0,
    every: int = 20,
) -> list[Row]:
    """Train by full-batch gradient descent in float64 on the first digits, `samples` of each.

    The rows are the loss and the normalised margin at every `every`-th step. `first_separated` is the first of these
    steps with a loss below log 2 / n (-1: none); by the theory the margin does not decrease from then on.
    """
    data = load("digits")
    chosen = torch.cat([(data.train_y == label).nonzero()[:samples, 0] for label in range(classes)])
    inputs, labels = data.train_x[chosen].flatten(1).double(), data.train_y[chosen]
    network = Homogeneous(inputs.shape[1], width, classes).double()
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, weight_decay=weight_decay)
    rows: list[Row] = []
    first = -1
    for step in range(steps + 1):
        loss = functional.cross_entropy(network(inputs), labels)
        if step % every == 0:
            if first < 0 and float(loss.detach()) < math.log(2) / len(labels):
                first = step
            rows += network_rows(step, loss=loss.detach(), margin=normalised(network, inputs, labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
    return [*rows, *network_rows(steps, first_separated=first)]


def coefficients(amplification: int) -> tuple[float, float]:
    """Return the weights of the two batches' losses in one step of SVAG(l): (1 +- sqrt(2 l - 1)) / 2.

    Their sum is 1, which keeps the mean gradient. The sum of their squares is l, which makes its covariance l times
    larger.
    """
    root = math.sqrt(2 * amplification - 1)
    return (1 + root) / 2, (1 - root) / 2


def logistic_gradient(weights: Tensor, inputs: Tensor, targets: Tensor, chosen: Tensor) -> Tensor:
    """Return the gradient (R, d, C) of the mean cross-entropy over each replica's batch `chosen` (R, b)."""
    rows = inputs[chosen]
    residual = torch.softmax(rows @ weights, dim=2) - targets[chosen]
    return rows.transpose(1, 2) @ residual / chosen.shape[1]


def amplified_noise(
    *,
    amplification: int = 1,
    lr: float = 0.05,
    steps: int = 300,
    batch_size: int = 16,
    replicas: int = 16,
    full_batch: bool = False,
    samples: int = 500,
    decay: float = 1e-3,
) -> list[Row]:
    """Train logistic regression on digits by `steps` steps of SGD, or by SVAG(l) for amplification l.

    SVAG takes l steps of learning rate lr / l for every step of SGD. `full_batch`: gradient descent, without noise. The
    rows are the mean over `replicas` of the loss on all samples, with the penalty (decay / 2) |W|^2, and the standard
    error of that mean. All replicas start at 0. In float64; batches are drawn with replacement.
    """
    data = load("digits", n_train=samples)
    inputs = data.train_x.flatten(1).double()
    inputs = torch.cat([inputs, torch.ones(samples, 1, dtype=torch.float64)], dim=1)
    targets = functional.one_hot(data.train_y, data.n_classes).double()
    weights = torch.zeros(replicas, inputs.shape[1], data.n_classes, dtype=torch.float64)
    whole = torch.arange(samples).expand(replicas, samples)
    for _ in range(steps * (1 if full_batch else amplification)):
        gradient = decay * weights
        if full_batch:
            gradient = gradient + logistic_gradient(weights, inputs, targets, whole)
        else:
            for share in coefficients(amplification):
                chosen = torch.randint(samples, (replicas, batch_size))
                gradient = gradient + share * logistic_gradient(weights, inputs, targets, chosen)
        weights = weights - lr / (1 if full_batch else amplification) * gradient
    fitted = -(torch.log_softmax(inputs @ weights, dim=2) * targets).sum(2).mean(1)
    losses = fitted + 0.5 * decay * weights.square().sum((1, 2))
    return network_rows(loss=losses.mean(), standard_error=losses.std() / math.sqrt(replicas))
