"""Label noise and the split into halves: exact counts, nested over fractions."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def corrupt(
    labels: Tensor, *, fraction: float, n_classes: int, kind: str = "exact", seed: int
) -> tuple[Tensor, Tensor]:
    """Labels (n,) int64 with some replaced, and the mask (n,) bool of those that are wrong now; both on the CPU.

    - `exact` (as in the comparative bound of arXiv:2202.09028: exactly pm of m labels are wrong): round(fraction * n)
      labels, each replaced by a uniformly drawn wrong class.
    - `reference` (what the reference code draws): each label, with probability `fraction`, replaced by a uniformly
      drawn class, the true one included, so that about fraction * (1 - 1 / n_classes) of the labels are wrong.

    Both are nested: of one seed, the labels wrong at a smaller fraction are wrong at a larger one, with the same
    wrong class. Each sample's draws depend on the seed and its position only.
    """
    if labels.ndim != 1 or labels.dtype not in _INTEGERS:
        raise ValueError(f"labels: expected integers of shape (n,), got {labels.dtype} of {tuple(labels.shape)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"labels: expected classes in [0, {n_classes}), got {labels.min()} to {labels.max()}")
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction: expected a fraction in [0, 1], got {fraction!r}")
    if kind not in ("exact", "reference"):
        raise ValueError(f"kind: expected exact or reference, got {kind!r}")

    clean = labels.detach().cpu().numpy().astype(np.int64)
    when, which = np.random.default_rng(seed).random((len(clean), 2)).T
    if kind == "exact":
        n_wrong = round(fraction * len(clean))
        if n_wrong and n_classes < 2:
            raise ValueError(f"n_classes: expected at least 2 for a wrong label to exist, got {n_classes!r}")
        hit = np.zeros(len(clean), dtype=bool)
        hit[np.argsort(when)[:n_wrong]] = True
        replacement = (clean + 1 + np.floor(which * (n_classes - 1)).astype(np.int64)) % n_classes
    else:
        hit = when < fraction
        replacement = np.floor(which * n_classes).astype(np.int64)
    noisy = np.where(hit, replacement, clean)
    return torch.from_numpy(noisy), torch.from_numpy(noisy != clean)


def halves(labels: Tensor, *, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """The indices (m,) int64 of S1 and of S2: m = n / 2 samples each, the same number of every class of `labels` (N,).

    Drawn without replacement, so that the two have nothing in common. Of one seed, smaller halves are the beginnings
    of larger ones. Raises ValueError unless n is a multiple of twice the number of classes for which every class of
    the labels has enough samples.
    """
    given = labels.numpy()
    counts = np.bincount(given)
    k = len(counts)
    most = 2 * k * (int(counts.min()) // 2) if k else 0
    if n < 1 or n % (2 * k or 1) or n > most:
        raise ValueError(f"n_train: expected a multiple of {2 * k}, two halves of {k} classes, up to {most}, got {n}")
    ticket = np.random.default_rng([seed, 1]).random(len(given))  # not the draws of the noise
    turn = _turns(given, ticket)
    order = np.lexsort((given, turn))  # rounds of one sample of every class
    order = order[turn[order] < n // k]
    even = turn[order] % 2 == 0
    return torch.from_numpy(order[even]), torch.from_numpy(order[~even])


def balanced_order(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A fixed order in which each round takes one more sample of every class that has any left."""
    ticket = np.random.default_rng(0).random(len(labels))
    return np.lexsort((ticket, _turns(labels, ticket)))


def _turns(labels: np.ndarray[Any, Any], ticket: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How many of its own class come before a sample, in the order of the tickets."""
    by_class = np.lexsort((ticket, labels))
    turn = np.empty(len(labels), dtype=np.int64)
    turn[by_class] = np.arange(len(labels)) - np.searchsorted(labels[by_class], labels[by_class])
    return turn
