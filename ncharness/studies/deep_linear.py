"""Deep linear networks: the collapse and the discrimination of their layers, in float64.

Wang et al. (arXiv:2311.02960), theorem and section 4: the initial weights are orthogonal matrices times epsilon, and
gradient descent minimises half the mean squared error to one-hot labels. C_l = tr(Sigma_W) / tr(Sigma_B) and D_l = 1 -
max cos(mu_k, mu_k').
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import log10

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncharness.metrics.class_stats import class_stats
from ncharness.metrics.nc1 import nc1_trace
from ncharness.metrics.nc2 import discrimination
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"trained": 3.0}


def trained(
    *,
    depth: int = 6,
    scale: float = 0.3,
    classes: int = 3,
    samples: int = 10,
    dim: int = 50,
    noise: float = 0.1,
    offset: float = 0.0,
    lr: float = 0.1,
    steps: int = 6000,
) -> list[Row]:
    """Train a network and return C_l and D_l, as `compactness` and `discrimination`, of the inputs and the layers.

    The inputs are layer00; the last linear layer is left out. Inputs (d, n C) have orthonormal columns, plus `noise`
    times a Gaussian matrix of unit Frobenius norm, plus `offset` times one unit vector, the same for all samples. Rows
    of the network: the `loss` at the end, and `predicted`, log10(scale^2 / samples^(1 / depth)), the predicted slope of
    log10 C_l over l.
    """
    inputs, labels = orthonormal_inputs(classes, samples, dim, noise=noise, offset=offset)
    targets = functional.one_hot(labels, classes).double().T
    sizes = [*[dim] * depth, classes]
    weights = [(scale * orthogonal(out, into)).requires_grad_() for into, out in pairwise(sizes)]
    for _ in range(steps):
        gradients = torch.autograd.grad(error(layers(weights, inputs)[-1], targets), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= lr * gradient
    with torch.no_grad():
        *features, outputs = layers(weights, inputs)
    stats = [class_stats(of.T, labels, classes) for of in [inputs, *features]]
    rows = [
        Row(0, f"layer{index:02d}.out", "train", metric, float(function(of)))
        for metric, function in (("compactness", nc1_trace), ("discrimination", discrimination))
        for index, of in enumerate(stats)
    ]
    predicted = log10(scale**2 / samples ** (1 / depth))
    return [*rows, *network_rows(loss=error(outputs, targets), predicted=predicted)]


def orthonormal_inputs(classes: int, samples: int, dim: int, *, noise: float, offset: float) -> tuple[Tensor, Tensor]:
    """Draw inputs (dim, classes * samples) for `trained`, and their labels."""
    labels = torch.arange(classes).repeat_interleave(samples)
    stray, common = torch.randn(dim, len(labels), dtype=torch.float64), torch.randn(dim, 1, dtype=torch.float64)
    return orthogonal(dim, len(labels)) + noise * stray / stray.norm() + offset * common / common.norm(), labels


def orthogonal(rows: int, columns: int) -> Tensor:
    """Draw a random matrix whose rows or columns, whichever are fewer, are orthonormal."""
    return nn.init.orthogonal_(torch.empty(rows, columns, dtype=torch.float64))


def layers(weights: Sequence[Tensor], inputs: Tensor) -> list[Tensor]:
    """Return the outputs of every linear layer, samples in columns."""
    return list(accumulate(weights, lambda x, weight: weight @ x, initial=inputs))[1:]


def error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return half the squared error, as the mean over samples (columns)."""
    return 0.5 * (outputs - targets).square().sum() / targets.shape[1]
