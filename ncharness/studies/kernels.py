"""Kernels of infinitely wide networks of one hidden layer without biases, in closed form, and their NC1.

Kothapalli & Tirer (arXiv:2406.02105): the NNGP kernel of the hidden activations and the neural tangent kernel, for
ReLU (Cho & Saul 2009) and the error function (Williams 1997).
"""

import math

import torch
from torch import Tensor

from ncharness.metrics.nc1 import kernel_nc1
from ncharness.training.rows import Row

VERSION = 1
SECONDS = {"gaussians": 0.02}


def infinite_width_kernels(inputs: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Return the NNGP kernel and the neural tangent kernel, both (n, n), of inputs (n, d).

    They are E phi(u) phi(v), and the same plus q E phi'(u) phi'(v). u and v are jointly normal with covariances
    q = x . x' / d.
    """
    q = inputs @ inputs.T / inputs.shape[1]
    own = q.diagonal()
    if activation == "relu":
        norms = (own[:, None] * own).sqrt()
        cosine = (q / norms).clamp(-1.0, 1.0).fill_diagonal_(1.0)
        angle = torch.arccos(cosine)
        gaussian = norms * (torch.sin(angle) + (math.pi - angle) * cosine) / (2 * math.pi)
        derivative = (math.pi - angle) / (2 * math.pi)
    elif activation == "erf":
        scale = (1 + 2 * own[:, None]) * (1 + 2 * own)
        gaussian = 2 / math.pi * torch.arcsin(2 * q / scale.sqrt())
        derivative = 4 / math.pi / (scale - 4 * q.square()).sqrt()
    else:
        raise ValueError(f"activation: expected relu or erf, got {activation!r}")
    return gaussian, gaussian + q * derivative


def gaussians(
    *, dim: int = 8, samples: int = 128, first: float = -2.0, second: float = 2.0, spread: float = 0.5
) -> list[Row]:
    """Measure NC1 (trace form) of every kernel on two Gaussian classes with means first * 1 and second * 1.

    `samples` is the number in both classes together.
    """
    labels = torch.arange(samples) % 2
    centres = torch.tensor([first, second], dtype=torch.float64)[labels]
    inputs = centres[:, None] + spread * torch.randn(samples, dim, dtype=torch.float64)
    rows: list[Row] = []
    for activation in ("relu", "erf"):
        gaussian, tangent = infinite_width_kernels(inputs, activation)
        for name, kernel in (("nngp", gaussian), ("ntk", tangent)):
            value = float(kernel_nc1(kernel, labels, 2))
            rows.append(Row(0, "network", "train", f"{activation}_{name}", value))
    return rows
