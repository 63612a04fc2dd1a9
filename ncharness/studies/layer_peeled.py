"""Layer-peeled model: cross-entropy over classifier and features of bounded norms, with classes of two sizes.

Fang et al., PNAS 2021 (arXiv:2101.12699): min (1/N) sum_i CE(W h_i, y_i) subject to mean_k |w_k|^2 <= E_W and
mean_k mean_i |h_ki|^2 <= E_H; above a ratio R0 of the sizes the classifiers of the small classes become one vector.
"""

import math

import torch
from torch import Tensor

from ncharness.metrics.nc2 import etf_distance
from ncharness.studies.unconstrained import minimise
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"minimum": 0.5}


def minimum(
    *,
    majority: int = 5,
    minority: int = 5,
    ratio: float = 1.0,
    feature_level: float = 5.0,
    classifier_level: float = 1.0,
    starts: int = 2,
) -> list[Row]:
    """Minimise over class means from `starts` random starts and return the best of the minimisers.

    Class means can replace the features of their class, because the loss is convex in the features. `ratio` is the size
    of a majority class over that of a minority class. `spread` is |W_min - mean of its rows| over |W|, W_min the
    minority's rows, and `norm_ratio` |W_min| over |W|; `cosine` the average over pairs of minority rows. Both bounds
    are met with equality; `slack` is 0 unless a smaller norm would lower the loss; then it is the derivative of the
    loss with respect to the logarithm of the norm. `disagreement` is the difference of the best two losses.
    """
    if minority < 2 or majority < 1:
        raise ValueError(f"majority, minority: expected at least 1 and 2 classes, got {majority} and {minority}")
    classes = majority + minority
    sizes = torch.tensor([ratio] * majority + [1.0] * minority, dtype=torch.float64)
    shares = sizes / sizes.sum()

    def scaled(rows: Tensor, level: float) -> Tensor:
        bounded: Tensor = rows * (math.sqrt(classes * level) / torch.linalg.matrix_norm(rows))
        return bounded

    def loss_of(weight: Tensor, means: Tensor) -> Tensor:
        own: Tensor = (means @ weight.T).log_softmax(1).diagonal()
        loss: Tensor = -(shares * own).sum()
        return loss

    found = []
    for _ in range(starts):
        weight, means = (torch.randn(classes, classes, dtype=torch.float64).requires_grad_() for _ in range(2))

        def objective(weight: Tensor = weight, means: Tensor = means) -> Tensor:
            return loss_of(scaled(weight, classifier_level), scaled(means, feature_level))

        loss, gradient = minimise(objective, [weight, means], rounds=10)
        found.append((loss, gradient, scaled(weight.detach(), classifier_level), scaled(means.detach(), feature_level)))
    found.sort(key=lambda one: one[0])
    loss, gradient, weight, means = found[0]
    stretch = torch.ones((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss_of(stretch * weight, means), stretch)
    small = weight[majority:]
    whole = torch.linalg.matrix_norm(weight)
    unit = small / torch.linalg.vector_norm(small, dim=1, keepdim=True)
    pairs = minority * (minority - 1)
    return network_rows(
        loss=loss,
        gradient=gradient,
        disagreement=found[1][0] - loss if starts > 1 else 0.0,
        slack=max(float(slope), 0.0),
        spread=torch.linalg.matrix_norm(small - small.mean(0)) / whole,
        norm_ratio=torch.linalg.matrix_norm(small) / whole,
        cosine=((unit @ unit.T).sum() - minority) / pairs,
        etf_distance=etf_distance(weight),
    )
