"""P-values of the tests on per-seed numbers."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

TESTS = ("superiority", "equivalence", "trend")
DRAWS = 4_000  # simulated experiments behind a power: its standard error is at most .0079
MOST_SEEDS = 200  # the search for a number of seeds ends here
ROUNDING = 1e-9  # relative; 0.93 - 0.92 is a tie with the margin 0.01, not above it


def p_for_and_against(
    test: str, data: Floats, margin: float, max_difference: float | None = None
) -> tuple[Floats, Floats]:
    """(p of the claim, p against it) of every experiment `data[...]`; seeds last, or seeds and levels for a trend."""
    if test == "equivalence":
        p = np.maximum(_p_above(data, -margin), _p_above(-data, -margin))
        against = np.minimum(_p_above(data, margin, tails=2), _p_above(-data, margin, tails=2))
        if max_difference is not None:
            # A part of the claim is contradicted outright: its p is 1, the other parts' do not matter.
            contradicted = is_beyond(data, max_difference).any(axis=-1)
            p, against = np.where(contradicted, 1.0, p), np.where(contradicted, 0.0, against)
        return p, against
    x = data[..., -1] - data[..., 0] if test == "trend" else data
    p, against = _p_above(x, margin), _p_above(-x, -margin)
    return (np.maximum(p, page_p(data)) if test == "trend" else p), against


def _p_above(x: Floats, margin: float, tails: int = 1) -> Floats:
    """p of "x lies above margin" along the last axis: the larger of a t test's and a sign test's."""
    n = x.shape[-1]
    centred = x - margin
    mean = centred.mean(axis=-1, keepdims=True)
    error = centred.std(axis=-1, ddof=1, keepdims=True) / math.sqrt(n)
    # Equal values have no t; they leave the decision, ties with the margin included, to the sign test.
    t = np.divide(mean, error, out=np.copysign(np.full_like(mean, np.inf), mean), where=error > 0)
    above = (centred > ROUNDING * np.maximum(np.abs(x), abs(margin))).sum(axis=-1)
    t_p = np.minimum(1.0, tails * special.stdtr(n - 1, -t[..., 0]))
    result: Floats = np.maximum(t_p, special.bdtr(n - above, n, 0.5))
    return result


def page_p(tables: Floats) -> Floats:
    """p of Page's trend test of every table `(..., n_seeds, n_levels)`.

    Ties get midranks, and scipy compares Page's L, rounded down, with its distribution without ties, which is
    wider: enumerating every pattern of ties (3 levels to 8 seeds, 4 to 5, 5 to 3) gave no size above alpha at
    .01, .02, .05 or .1. Above 8 levels or 20 seeds (12 from 4 levels on) scipy uses a normal approximation, of
    exact size up to .057 at .05 (3 levels, 22 seeds). A trend verdict inherits no such excess: without a trend
    the sign test on the rise rejects with probability at most alpha by itself, and p is the larger of the two.
    """
    k = tables.shape[-1]
    from scipy import stats

    flat = tables.reshape(-1, *tables.shape[-2:])
    ranks = (k + 1) / 2 + 0.5 * sum(np.sign(flat - flat[..., [j]]) for j in range(k))
    statistic = ranks.sum(axis=1) @ np.arange(1, k + 1)
    # p depends on the table through this alone: ask scipy once for each value.
    _, first, which = np.unique(statistic, return_index=True, return_inverse=True)
    p = np.array([stats.page_trend_test(ranks[i], ranked=True).pvalue for i in first])
    result: Floats = np.minimum(1.0, p)[which].reshape(tables.shape[:-2])
    return result


def is_beyond(x: Floats, max_difference: float) -> NDArray[np.bool_]:
    """Whether differences exceed the largest that is allowed, by more than rounding."""
    return np.abs(x) > max_difference * (1.0 + ROUNDING)


def check_number(name: str, value: float, *, positive: bool = False) -> None:
    """Raise ValueError unless a number is finite, and positive where it must be."""
    if not math.isfinite(value) or (positive and value <= 0):
        raise ValueError(f"{name}: expected a finite number{' above 0' if positive else ''}, got {value!r}")


def check_alpha(alpha: float) -> None:
    """Raise ValueError unless a significance level is one that a test can have."""
    if not 0.0 < alpha <= 0.1:
        raise ValueError(f"alpha: expected an error rate in (0, 0.1], got {alpha!r}")
