"""Unconstrained features behind batch norm and ReLU, squared error, in float64.

Ergen & Pilanci, ICML 2021 (arXiv:2002.09773), and with Sahiner et al., ICLR 2022 (arXiv:2103.01499): min
|relu(BN(X)) W - Y|^2 / 2 + (beta / 2) (|gamma|^2 + |alpha|^2 + |W|^2), where a column x of N entries becomes
gamma (x - mean) / |x - mean| + alpha / sqrt(N).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ncharness.metrics.class_stats import class_stats
from ncharness.metrics.nc1 import nc1_trace
from ncharness.metrics.nc2 import etf_distance, frame_distance
from ncharness.studies.unconstrained import minimise
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"minimum": 2.0}


def minimum(
    *, classes: int = 4, samples: int = 6, dim: int = 8, decay: float = 0.2, normalise: bool = True, rounds: int = 6
) -> list[Row]:
    """Minimise from a random start. Without `normalise` the features are ReLU features with weight decay of their own.

    `gap` is the difference to C (beta sqrt(n) - beta^2 / 2): the labels have C singular values sqrt(n), and each of
    them adds the same cost.
    """
    n = classes * samples
    labels = torch.arange(classes).repeat_interleave(samples)
    targets = functional.one_hot(labels, classes).double()
    inputs, weight = torch.randn(n, dim, dtype=torch.float64), torch.randn(dim, classes, dtype=torch.float64)
    scale, shift = torch.ones(dim, dtype=torch.float64), torch.randn(dim, dtype=torch.float64)
    variables = [inputs, weight, *([scale, shift] if normalise else [])]
    for one in variables:
        one.requires_grad_()

    def features() -> Tensor:
        if not normalise:
            return inputs.relu()
        centred = inputs - inputs.mean(0)
        normalised: Tensor = scale * centred / torch.linalg.vector_norm(centred, dim=0) + shift / math.sqrt(n)
        return normalised.relu()

    def objective() -> Tensor:
        decayed = [weight, scale, shift] if normalise else [weight, inputs]
        squares = torch.stack([one.square().sum() for one in decayed]).sum()
        misfit: Tensor = (features() @ weight - targets).square().sum()
        value: Tensor = 0.5 * misfit + 0.5 * decay * squares
        return value

    loss, gradient = minimise(objective, variables, rounds=rounds)
    stats = class_stats(features().detach(), labels, classes)
    return network_rows(
        loss=loss,
        gap=loss - classes * (decay * math.sqrt(samples) - decay**2 / 2),
        gradient=gradient,
        nc1_trace=nc1_trace(stats),
        etf_distance=etf_distance(stats),
        uncentred_etf_distance=etf_distance(stats, centre="none"),
        frame_distance=frame_distance(stats),
    )
