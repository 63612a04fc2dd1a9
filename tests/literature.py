"""Data for the tests of the metrics, and their definitions written out: numpy, explicit d x d matrices, loops."""

import itertools

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, deadline=None, derandomize=True, database=None)


def example(seed=0, *, n=80, d=7, n_classes=5, noise=1.0, offset=0.5, balanced=False):
    """Class means of random norms, noise stretched along one direction; imbalanced unless asked otherwise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    if not balanced:
        y[n_classes:] = (n_classes * rng.random(n - n_classes) ** 2).astype(int)
    x = offset + rng.standard_normal((n_classes, d))[y] * rng.uniform(0.5, 2.0, n_classes)[y, None]
    x += noise * (rng.standard_normal((n, d)) + rng.standard_normal((n, 1)) * rng.standard_normal(d))
    return torch.from_numpy(x), torch.from_numpy(y)


def moments(x, y):
    """Moments of the classes that have rows: means (C, d), covariances with 1/n (C, d, d), counts (C,)."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y)
    rows = [x[y == c] for c in np.unique(y)]
    means = np.stack([r.mean(axis=0) for r in rows])
    covariances = np.stack([(r - m).T @ (r - m) / len(r) for r, m in zip(rows, means, strict=True)])
    return means, covariances, np.array([len(r) for r in rows])


def covariances(x, y, *, centre="classes", weights="classes", within="samples"):
    """Sigma_W and Sigma_B, (d, d), by loops over classes."""
    means, each, counts = moments(x, y)
    share = {"classes": np.full(len(counts), 1 / len(counts)), "samples": counts / counts.sum()}
    middle = means.mean(axis=0) if centre == "classes" else np.asarray(x, dtype=np.float64).mean(axis=0)
    sigma_w = sum(w * cov for w, cov in zip(share[within], each, strict=True))
    sigma_b = sum(w * np.outer(m - middle, m - middle) for w, m in zip(share[weights], means, strict=True))
    return sigma_w, sigma_b


def simplex(n, d=None, *, scale=1.0, seed=0):
    """(n, d): a simplex ETF, centred, turned at random in d >= n - 1 dimensions."""
    rng = np.random.default_rng(seed)
    corners = np.eye(n) - 1 / n
    basis, _ = np.linalg.qr(corners[:, : n - 1])
    flat = corners @ basis  # in the n - 1 dimensions that it spans
    turn, _ = np.linalg.qr(rng.standard_normal((d or n, d or n)))
    return scale * flat @ turn[: n - 1]


def orthogonal(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def cosines(rows):
    """All pairs i < j."""
    return np.array([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.combinations(rows, 2)])
