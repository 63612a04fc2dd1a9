"""Decomposition of squared error: the part of the least-squares classifier, and the part of the distance to it.

Han, Papyan & Donoho, ICLR 2022 (arXiv:2106.02073): L = |W H + b - Y|^2 / (2 N) + (lambda / 2) (|W|^2 + |b|^2), and
L = L_LS + L_perp, L_LS at the best W and b for these features; networks come near L_perp = 0, the central path.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ncharness.metrics.capture import capture
from ncharness.metrics.class_stats import class_stats
from ncharness.metrics.nc1 import nc1_trace
from ncharness.studies.fitting import fit, hidden, mlp, optimiser, squared_error
from ncharness.training.datasets import load
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"decomposition": 0.1, "signal_to_noise": 0.1, "network": 1.5}
EPOCHS = (0, 5, 20, 60)


class Split(NamedTuple):
    """Parts of the loss at a classifier, each a float64 scalar."""

    loss: Tensor  # the definition, over samples
    least_squares: Tensor
    perpendicular: Tensor  # as a quadratic form in the distance to the least-squares classifier
    within: Tensor  # of the least-squares part: the variance within classes, as the classifier sees it
    between: Tensor  # and the class means' own loss, classes weighted equally, with the decay


def split(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, decay: float) -> Split:
    """Split the loss for features (N, d), labels (N,) in [0, C), weight (C, d), bias (C,), decay lambda; in float64."""
    classes, n = len(weight), len(labels)
    extended = torch.cat([features.double(), torch.ones(n, 1, dtype=torch.float64)], 1)
    classifier = torch.cat([weight.double(), bias.double()[:, None]], 1)
    targets = functional.one_hot(labels, classes).double()
    curvature = extended.T @ extended / n + decay * torch.eye(extended.shape[1], dtype=torch.float64)
    best = torch.linalg.solve(curvature, extended.T @ targets / n).T

    def loss_of(rows: Tensor) -> Tensor:
        misfit: Tensor = (extended @ rows.T - targets).square().sum()
        loss: Tensor = misfit / (2 * n) + 0.5 * decay * rows.square().sum()
        return loss

    apart = classifier - best
    means = torch.stack([extended[labels == c].mean(0) for c in range(classes)])
    centred = (extended - means[labels]) @ best.T
    identity = torch.eye(classes, dtype=torch.float64)
    return Split(
        loss=loss_of(classifier),
        least_squares=loss_of(best),
        perpendicular=0.5 * (apart @ curvature * apart).sum(),
        within=centred.square().sum() / (2 * n),
        between=(means @ best.T - identity).square().sum() / (2 * classes) + 0.5 * decay * best.square().sum(),
    )


def decomposition(
    *, classes: int = 5, samples: int = 20, dim: int = 12, decay: float = 1e-2, balanced: bool = True
) -> list[Row]:
    """Split the loss of random features and classifier.

    Without `balanced` the last class has four times the samples.
    """
    counts = [samples] * (classes - 1) + [samples if balanced else 4 * samples]
    labels = torch.arange(classes).repeat_interleave(torch.tensor(counts))
    means = torch.randn(classes, dim, dtype=torch.float64)
    features = means[labels] + torch.randn(len(labels), dim, dtype=torch.float64)
    weight, bias = torch.randn(classes, dim, dtype=torch.float64), torch.randn(classes, dtype=torch.float64)
    return network_rows(**split(features, labels, weight, bias, decay)._asdict())


def signal_to_noise(*, classes: int = 5, samples: int = 40, dim: int = 12, condition: float = 30.0) -> list[Row]:
    """Measure the relative change of the singular values of Sigma_W^(-1/2) M, and of NC1, under an invertible map.

    The map acts on the features. Its singular values run from 1 to `condition`, its directions are random.
    """
    labels = torch.arange(classes).repeat_interleave(samples)
    means = torch.randn(classes, dim, dtype=torch.float64)
    noise = torch.randn(classes * samples, dim, dtype=torch.float64) @ torch.randn(dim, dim, dtype=torch.float64)
    features = means[labels] + noise
    left, right = (torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64))[0] for _ in range(2))
    mapped = features @ (left * torch.linspace(1.0, condition, dim, dtype=torch.float64) @ right)
    before, after = (_signals(rows, labels, classes) for rows in (features, mapped))
    nc1_before, nc1_after = (nc1_trace(class_stats(rows, labels, classes)) for rows in (features, mapped))
    return network_rows(change=(after / before - 1).abs().max(), nc1_change=(nc1_after / nc1_before - 1).abs())


def _signals(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the C - 1 singular values of Sigma_W^(-1/2) M; the columns of M are the centred class means."""
    means = class_stats(features, labels, classes).mean
    rest = features - means[labels]
    root = torch.linalg.qr(rest / math.sqrt(len(labels)))[1]  # Sigma_W = R^T R, without squaring its condition number
    centred = means - means.mean(0)
    values: Tensor = torch.linalg.svdvals(torch.linalg.solve_triangular(root.T, centred.T, upper=False))
    return values[: classes - 1]


def network(*, width: int = 64, depth: int = 3, lr: float = 0.05, decay: float = 1e-3) -> list[Row]:
    """Train a network with batch norm on 1,400 digits under squared error and split its loss after each of EPOCHS."""
    data = load("digits")
    inputs, labels = data.train_x.flatten(1), data.train_y
    net = mlp([inputs.shape[1], *[width] * depth, data.n_classes])
    rows: list[Row] = []

    def after(epoch: int) -> None:
        if epoch not in EPOCHS:
            return
        net.eval()
        last = hidden(net)[-1]
        with torch.no_grad(), capture(net, [last]) as captured:
            predicted = net(inputs).argmax(1)
        weight, bias = (one.detach() for one in list(net.parameters())[-2:])
        parts = split(captured[last], labels, weight, bias, decay)
        rows.extend(
            network_rows(
                epoch,
                error=(predicted != labels).double().mean(),
                least_squares=parts.least_squares,
                perpendicular=parts.perpendicular,
            )
        )

    optimizer = optimiser("sgd", net.parameters(), lr=lr, weight_decay=decay)
    fit(net, inputs, labels, optimizer, epochs=EPOCHS[-1], loss=squared_error, after=after)
    return rows
