"""Features as stochastic processes that attract each other: the LE-SDE and LE-ODE of Zhang et al. (arXiv:2110.05960).

A step on a sample of class l moves a feature of class k by alpha if k = l and beta otherwise, along its class mean (the
I-model) or along the residual of its label (the L-model). K classes, time in units of one pass.
"""

import torch
from torch import Tensor

from ncharness.metrics.nc2 import etf_distance
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"separation": 0.15, "residual_drift": 0.02}


def elasticity(classes: int, alpha: float, beta: float) -> Tensor:
    """Return (K, K) float64: alpha on the diagonal, beta elsewhere."""
    matrix = torch.full((classes, classes), beta, dtype=torch.float64)
    return matrix.fill_diagonal_(alpha)


def separated(features: Tensor) -> Tensor:
    """Return (...,) bool for features (..., K, n, d): all pairs of classes separated along the line of their means."""
    means = features.mean(-2)
    apart = torch.ones(features.shape[:-3], dtype=torch.bool)
    classes = features.shape[-3]
    for first in range(classes):
        for second in range(first + 1, classes):
            along = (means[..., first, :] - means[..., second, :])[..., None, :]
            least = (features[..., first, :, :] * along).sum(-1).amin(-1)
            apart &= least > (features[..., second, :, :] * along).sum(-1).amax(-1)
    return apart


def separation(
    *,
    classes: int = 3,
    alpha: float = 1.0,
    beta: float = 0.5,
    samples: int = 20,
    dim: int = 3,
    noise: float = 0.2,
    time: float = 40.0,
    steps: int = 800,
    paths: int = 20,
) -> list[Row]:
    """Simulate the I-model and return the fraction of `paths` whose classes are separated at the end.

    dX_i^k = (1/K) sum_l E_kl mean^l dt + noise dB, by Euler steps from a standard normal start.
    """
    matrix = elasticity(classes, alpha, beta) / classes
    step = time / steps
    features = torch.randn(paths, classes, samples, dim, dtype=torch.float64)
    begun = float(separated(features).double().mean())
    for _ in range(steps):
        drift = torch.einsum("kl,pld->pkd", matrix, features.mean(2))
        features = features + step * drift[:, :, None] + noise * step**0.5 * torch.randn_like(features)
    return network_rows(separated=separated(features).double().mean(), separated_at_start=begun)


def drift(classes: int, alpha: float, beta: float, reading: str) -> Tensor:
    """Return the drift of the L-model, (K, K, K, K) float64.

    Entry k, :, l, : is (1/K) E_kl H_kl, which maps the mean of class l to its share of the drift of the mean of class
    k. With d_k the unit vector along e_k - 1/K, H_kl is d_k d_k^T in the reading `own` and d_k d_l^T in `cross`.
    """
    if reading not in ("own", "cross"):
        raise ValueError(f"reading: expected own or cross, got {reading!r}")
    residual = torch.eye(classes, dtype=torch.float64) - 1 / classes
    residual = residual / residual.norm(dim=1, keepdim=True)
    own = residual[:, None].expand(classes, classes, classes)
    other = own if reading == "own" else own.transpose(0, 1)
    matrix = elasticity(classes, alpha, beta) / classes
    return torch.einsum("kl,kla,klb->kalb", matrix, own, other)


def residual_drift(
    *, classes: int = 5, alpha: float = 1.0, beta: float = 0.3, reading: str = "own", doublings: int = 12
) -> list[Row]:
    """Solve the ODE of the L-model from a standard normal start; return the distance of its means to a simplex ETF.

    The class means (K, K) are centred. The solution is exact except for rounding: the propagator of time 1 is squared
    `doublings` times, to time 2**doublings, and scaled to norm 1, because only directions matter.
    """
    size = classes * classes
    propagator = torch.matrix_exp(drift(classes, alpha, beta, reading).reshape(size, size))
    begun = torch.randn(size, dtype=torch.float64)
    for _ in range(doublings):
        propagator = propagator @ propagator
        propagator /= propagator.norm()
    means = (propagator @ begun).reshape(classes, classes)
    return network_rows(
        etf_distance=etf_distance(means), etf_distance_at_start=etf_distance(begun.reshape(classes, classes))
    )
