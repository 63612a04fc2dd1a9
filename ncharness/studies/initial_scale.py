"""Gradient descent on unregularised squared error over unconstrained features, from starts of several scales.

Mixon, Parshall & Pi (arXiv:2011.11619): from near zero it ends at strong neural collapse, W W^T = sqrt(n) (I - 11^T/C),
H = (W x 1_n^T) / sqrt(n), b = 1/C, for |W H + b 1^T - Y|^2 / 2 with n samples in each of C classes.
"""

import math

import torch
from torch.nn import functional

from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"descents": 1.0}
SCALES = (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0)


def descents(*, classes: int = 4, samples: int = 5, dim: int = 12, lr: float = 0.02, steps: int = 20_000) -> list[Row]:
    """Descend from one random direction at every scale of SCALES, all at once; return the errors of strong collapse.

    Rows for a scale such as 0.01: `classifier 0.01`, `features 0.01` and `bias 0.01`, Frobenius norms of the deviations
    from strong collapse, and `loss 0.01`.
    """
    labels = torch.arange(classes).repeat_interleave(samples)
    targets = functional.one_hot(labels, classes).double()
    scales = torch.tensor(SCALES, dtype=torch.float64)[:, None, None]
    shapes = ((classes, dim), (classes * samples, dim), (1, classes))
    weight, features, bias = (scales * torch.randn(*shape, dtype=torch.float64) for shape in shapes)
    for _ in range(steps):
        residual = torch.baddbmm(bias - targets, features, weight.mT).mul_(lr)
        change = residual.mT @ features
        features = torch.baddbmm(features, residual, weight, alpha=-1)
        weight = weight - change
        bias = bias - residual.sum(1, keepdim=True)
    losses = 0.5 * (features @ weight.mT + bias - targets).square().sum((1, 2))
    simplex = torch.eye(classes, dtype=torch.float64) - 1 / classes
    errors = {
        "classifier": weight @ weight.mT - math.sqrt(samples) * simplex,
        "features": features - weight[:, labels] / math.sqrt(samples),
        "bias": bias - 1 / classes,
    }
    norms = {name: torch.linalg.matrix_norm(error) for name, error in errors.items()}
    return network_rows(
        0,
        "train",
        **{f"{name} {scale:g}": norm[i] for name, norm in norms.items() for i, scale in enumerate(SCALES)},
        **{f"loss {scale:g}": losses[i] for i, scale in enumerate(SCALES)},
    )
