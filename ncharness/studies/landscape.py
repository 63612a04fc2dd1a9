"""Loss landscape of the unconstrained features model: the origin, and the end points of descents from many starts.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375), theorem 3.2: the objective of `studies.unconstrained` has no spurious local
minima. In the direction of centred labels the Hessian at the origin has (lambda_W + lambda_H) / 2 - sqrt(((lambda_W -
lambda_H) / 2)^2 + 1 / (C^2 n)), which is negative iff sqrt(lambda_W lambda_H) < 1 / (C sqrt(n)).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ncharness.studies.unconstrained import least_cross_entropy, minimise
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"origin": 0.2, "starts": 1.0}


def origin(
    *, classes: int = 4, samples: int = 5, dim: int = 4, threshold_share: float = 0.5, imbalance: float = 2.0
) -> list[Row]:
    """Measure the least eigenvalue of the Hessian at the origin, beside the expected one, and minimise from there.

    The minimisation begins at a small random point. `threshold_share` is sqrt(lambda_W lambda_H) over 1 / (C sqrt(n)),
    `imbalance` lambda_W over lambda_H. `norm` is the norm of the classifier at the minimum, times
    the square root of its weight decay, and `expected_norm` its expected value.
    """
    decay = threshold_share / (classes * math.sqrt(samples))
    weight_decay, feature_decay = decay * math.sqrt(imbalance), decay / math.sqrt(imbalance)
    labels = torch.arange(classes).repeat_interleave(samples)
    sizes = [classes * dim, classes, classes * samples * dim]

    def objective(point: Tensor) -> Tensor:
        weight, bias, features = torch.split(point, sizes)
        scores = features.view(-1, dim) @ weight.view(-1, dim).T + bias
        squares = weight_decay * (weight.square().sum() + bias.square().sum()) + feature_decay * features.square().sum()
        return functional.cross_entropy(scores, labels) + 0.5 * squares

    zero = torch.zeros(sum(sizes), dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(objective, zero)  # type: ignore[no-untyped-call]  # torch's
    mean, half = (weight_decay + feature_decay) / 2, (weight_decay - feature_decay) / 2
    point = torch.randn(sum(sizes), dtype=torch.float64).mul_(0.1).requires_grad_()
    loss, gradient = minimise(lambda: objective(point), [point])
    least, lead = least_cross_entropy(classes, samples, weight_decay, feature_decay)
    weight = torch.split(point.detach(), sizes)[0]
    return network_rows(
        eigenvalue=torch.linalg.eigvalsh(hessian)[0],
        expected_eigenvalue=mean - math.sqrt(half**2 + 1 / (classes**2 * samples)),
        gap=loss - least,
        gradient=gradient,
        norm=math.sqrt(weight_decay) * float(torch.linalg.vector_norm(weight)),
        expected_norm=math.sqrt(decay * lead * math.sqrt(samples) * (classes - 1)),
    )


def starts(
    *,
    classes: int = 4,
    samples: int = 5,
    dim: int = 8,
    decay: float = 0.02,
    count: int = 20,
    smallest: float = 0.01,
    largest: float = 3.0,
    steps: int = 6000,
    lr: float = 1.0,
    momentum: float = 0.9,
) -> list[Row]:
    """Run gradient descent with momentum from `count` starts at once, of standard deviations `smallest` to `largest`.

    `largest_gap` and `least_gap` are differences between the objectives and the least value of the theorem; `gradient`
    is the largest entry of the gradient over all starts.
    """
    labels = torch.arange(classes).repeat_interleave(samples)
    scales = torch.logspace(math.log10(smallest), math.log10(largest), count, dtype=torch.float64)[:, None, None]
    shapes = ((count, classes, dim), (count, 1, classes), (count, classes * samples, dim))
    point = [scales * torch.randn(*shape, dtype=torch.float64) for shape in shapes]
    speed = [torch.zeros_like(one) for one in point]
    target = functional.one_hot(labels, classes).double()

    def gradients() -> list[Tensor]:
        weight, bias, features = point
        residual = ((features @ weight.mT + bias).softmax(-1) - target) / len(labels)
        return [
            residual.mT @ features + decay * weight,
            residual.sum(1, keepdim=True) + decay * bias,
            residual @ weight + decay * features,
        ]

    for _ in range(steps):
        for moved, velocity, gradient in zip(point, speed, gradients(), strict=True):
            velocity.mul_(momentum).sub_(gradient, alpha=lr)
            moved.add_(velocity)
    weight, bias, features = point
    scores = features @ weight.mT + bias
    fitted = (scores.logsumexp(-1) - (scores * target).sum(-1)).mean(-1)
    objectives = fitted + 0.5 * decay * sum(one.square().sum((1, 2)) for one in point)
    gaps = objectives - least_cross_entropy(classes, samples, decay, decay)[0]
    return network_rows(
        largest_gap=gaps.max(),
        least_gap=gaps.min(),
        gradient=max(float(gradient.abs().max()) for gradient in gradients()),
    )
