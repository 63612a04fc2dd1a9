"""Unconstrained features: the last layer's features are free variables, optimised with the classifier in float64.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375): min (1/N) sum_i CE(W h_i + b, y_i) + (lambda_W/2) (|W|^2 + |b|^2)
+ (lambda_H/2) |H|^2, with n samples in each of C classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ncharness.classifier import product_duality
from ncharness.geometry import etf_distance
from ncharness.record import Row, network_rows
from ncharness.stats import class_stats
from ncharness.variability import nc1_trace

VERSION = 1
SECONDS = {"minimum": 1.0}


def minimise(objective: Callable[[], Tensor], variables: Sequence[Tensor], *, rounds: int = 40) -> tuple[float, float]:
    """L-BFGS with a strong Wolfe line search from where the variables stand, which it moves.

    Returns the objective and the largest entry of its gradient there.
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
        value.backward()  # type: ignore[no-untyped-call]
        return value

    before = float("inf")
    for _ in range(rounds):  # a new line search gets on where rounding ended the last one
        solver.step(closure)  # type: ignore[no-untyped-call]
        value = closure()
        steepest = max(float(one.grad.abs().max()) for one in variables if one.grad is not None)
        if steepest < 1e-10 or float(value.detach()) >= before:
            break
        before = float(value.detach())
    return float(value.detach()), steepest


def minimum(
    *, classes: int = 4, samples: int = 5, dim: int = 8, weight_decay: float = 5e-3, feature_decay: float = 5e-3
) -> list[Row]:
    """The minimiser of regularised cross-entropy from a random start: its collapse, geometry and balance of norms."""
    labels = torch.arange(classes).repeat_interleave(samples)
    weight, bias, features = (
        torch.randn(*shape, dtype=torch.float64).mul_(0.1).requires_grad_()
        for shape in ((classes, dim), (classes,), (classes * samples, dim))
    )

    def objective() -> Tensor:
        fitted = functional.cross_entropy(features @ weight.T + bias, labels)
        decay = weight_decay * (weight.square().sum() + bias.square().sum()) + feature_decay * features.square().sum()
        return fitted + 0.5 * decay

    loss, gradient = minimise(objective, [weight, bias, features])
    found, rows = weight.detach(), features.detach()
    stats = class_stats(rows, labels, classes)
    return network_rows(
        loss=loss,
        gradient=gradient,
        nc1_trace=nc1_trace(stats),
        etf_distance=etf_distance(stats),
        product_duality=product_duality(found, stats, centre_weight=True),
        balance=feature_decay * rows.square().sum() / (weight_decay * found.square().sum()),
    )
