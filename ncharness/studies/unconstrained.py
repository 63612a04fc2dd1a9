"""Unconstrained features: the last layer's features are free variables, optimised with the classifier in float64.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375): min (1/N) sum_i CE(W h_i + b, y_i) + (lambda_W/2) (|W|^2 + |b|^2)
+ (lambda_H/2) |H|^2, with n samples in each of C classes.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ncharness.metrics.class_stats import class_stats
from ncharness.metrics.nc1 import nc1_trace
from ncharness.metrics.nc2 import etf_distance
from ncharness.metrics.nc3_nc4 import product_duality
from ncharness.training.rows import Row, network_rows

VERSION = 2
SECONDS = {"minimum": 1.0, "random_labels": 0.2, "fixed_classifier": 0.1}


def minimise(objective: Callable[[], Tensor], variables: Sequence[Tensor], *, rounds: int = 40) -> tuple[float, float]:
    """Minimise by L-BFGS with a strong Wolfe line search, starting from the variables and changing them in place.

    Returns the objective and the largest entry of its gradient at the end.
    """
    solver = torch.optim.LBFGS(
        variables,
        max_iter=500,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-12,
        tolerance_change=0,
    )

    def closure() -> Tensor:
        solver.zero_grad()
        value = objective()
        value.backward()  # type: ignore[no-untyped-call]  # torch's
        return value

    before = float("inf")
    for _ in range(rounds):  # a new call makes progress where rounding stopped the last line search
        solver.step(closure)  # type: ignore[no-untyped-call]  # torch's
        value = closure()
        steepest = max(float(one.grad.abs().max()) for one in variables if one.grad is not None)
        if steepest < 1e-10 or float(value.detach()) >= before:
            break
        before = float(value.detach())
    return float(value.detach()), steepest


def least_cross_entropy(classes: int, samples: int, weight_decay: float, feature_decay: float) -> tuple[float, float]:
    """Return the least objective for d of at least C - 1, and the lead in score of the right class there.

    Scores s (I - 11^T/C) with n columns for each class have the nuclear norm s sqrt(n) (C - 1). Half of the decayed
    squares of two factors is at least sqrt(lambda_W lambda_H) times it; the rest is a convex function of s. If
    sqrt(lambda_W lambda_H) is at least 1 / (C sqrt(n)), the minimiser is 0, and so is the lead.
    """
    decay = math.sqrt(weight_decay * feature_decay * samples)
    if decay >= 1 / classes:
        return math.log(classes), 0.0
    lead = math.log((1 - (classes - 1) * decay) / decay)
    return math.log1p((classes - 1) * math.exp(-lead)) + decay * lead * (classes - 1), lead


def minimum(
    *,
    classes: int = 4,
    samples: int = 5,
    dim: int = 8,
    weight_decay: float = 5e-3,
    feature_decay: float = 5e-3,
    scale: float = 0.1,
) -> list[Row]:
    """Minimise regularised cross-entropy from a random start, and measure collapse, geometry and balance of norms.

    `scale` is the standard deviation of the start's entries; `gap` is the difference to the least objective of the
    theorem.
    """
    labels = torch.arange(classes).repeat_interleave(samples)
    weight, bias, features = _start(classes, samples, dim, scale)
    loss, gradient = _minimise_cross_entropy(weight, bias, features, labels, weight_decay, feature_decay)
    found, rows = weight.detach(), features.detach()
    stats = class_stats(rows, labels, classes)
    return network_rows(
        loss=loss,
        gap=loss - least_cross_entropy(classes, samples, weight_decay, feature_decay)[0],
        gradient=gradient,
        nc1_trace=nc1_trace(stats),
        etf_distance=etf_distance(stats),
        product_duality=product_duality(found, stats, centre_weight=True),
        balance=feature_decay * rows.square().sum() / (weight_decay * found.square().sum()),
    )


def random_labels(
    *, classes: int = 4, samples: int = 5, dim: int = 8, weight_decay: float = 5e-3, feature_decay: float = 5e-3
) -> list[Row]:
    """Minimise for randomly permuted labels, which stay balanced, and for the true ones.

    Both minimisations begin at the same point. `nc1_trace` and `etf_distance` are by the labels that were trained on,
    `true_nc1_trace` by the true ones.
    """
    true = torch.arange(classes).repeat_interleave(samples)
    given = true[torch.randperm(len(true))]
    start = _start(classes, samples, dim, 0.1)
    losses, gradients = [], []
    for labels in (true, given):
        weight, bias, features = (one.detach().clone().requires_grad_() for one in start)
        loss, gradient = _minimise_cross_entropy(weight, bias, features, labels, weight_decay, feature_decay)
        losses.append(loss)
        gradients.append(gradient)
    stats = class_stats(features.detach(), given, classes)
    return network_rows(
        gradient=max(gradients),
        difference=abs(losses[1] - losses[0]),
        nc1_trace=nc1_trace(stats),
        etf_distance=etf_distance(stats),
        true_nc1_trace=nc1_trace(class_stats(features.detach(), true, classes)),
    )


def fixed_classifier(
    *, classes: int = 5, samples: int = 5, dim: int = 8, feature_decay: float = 5e-3, rows: str = "etf"
) -> list[Row]:
    """Minimise over the features for a last layer that is not trained: its `rows` are etf (a simplex ETF) or gaussian.

    In both cases the rows have mean square length 1, and there is no bias.
    """
    labels = torch.arange(classes).repeat_interleave(samples)
    turn, _ = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64))
    drawn = torch.randn(classes, dim, dtype=torch.float64)
    if rows == "etf":
        if dim < classes:
            raise ValueError(f"dim: expected at least {classes} as there are classes, got {dim}")
        weight = (torch.eye(classes, dtype=torch.float64) - 1 / classes) @ turn[:classes]
    elif rows == "gaussian":
        weight = drawn
    else:
        raise ValueError(f"rows: expected etf or gaussian, got {rows!r}")
    weight = weight * math.sqrt(classes) / torch.linalg.matrix_norm(weight)
    features = torch.randn(classes * samples, dim, dtype=torch.float64).mul_(0.1).requires_grad_()

    def objective() -> Tensor:
        return functional.cross_entropy(features @ weight.T, labels) + 0.5 * feature_decay * features.square().sum()

    loss, gradient = minimise(objective, [features])
    stats = class_stats(features.detach(), labels, classes)
    return network_rows(loss=loss, gradient=gradient, nc1_trace=nc1_trace(stats), etf_distance=etf_distance(stats))


def _start(classes: int, samples: int, dim: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw classifier (C, d), bias (C,) and features (C n, d) with independent normal entries, to be optimised."""
    shapes = ((classes, dim), (classes,), (classes * samples, dim))
    weight, bias, features = (torch.randn(*shape, dtype=torch.float64).mul_(scale).requires_grad_() for shape in shapes)
    return weight, bias, features


def _minimise_cross_entropy(
    weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, weight_decay: float, feature_decay: float
) -> tuple[float, float]:
    def objective() -> Tensor:
        fitted = functional.cross_entropy(features @ weight.T + bias, labels)
        decay = weight_decay * (weight.square().sum() + bias.square().sum()) + feature_decay * features.square().sum()
        return fitted + 0.5 * decay

    return minimise(objective, [weight, bias, features])
