"""Ops against a plain float64 oracle: every instruction set and the torch reference, every type of features.

The shapes cross every edge at which the kernels change what they do (csrc/rows.hpp, csrc/class_scores_cpu.cpp):
groups of rows, vectors and tiles of columns, panels and blocks of classes, rows taken as they come or by class.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, cycle
from typing import NamedTuple

import numpy as np
import pytest
import torch

from ncharness.kernels import cpu, distances, ops, reference

LEVELS = cpu._core.levels() if cpu._core else []
NARROW = (torch.float32, torch.float16, torch.bfloat16)
DATA = [(dtype, offset) for dtype in (torch.float32, torch.float64) for offset in (0.0, 1e2, 1e4)]
DATA += [(torch.float16, 0.0), (torch.float16, 1e4), (torch.bfloat16, 0.0), (torch.bfloat16, 1e2)]
LABEL_TYPES = (torch.int64, torch.int32, torch.uint8)

# Lanes of float64 number 8, 4 and 2. Groups have 4 lanes of rows, or 2 of float64 rows; panels have up to 12, 6 and 4
# classes.
SOME_ROWS = (1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 34, 63, 64, 65, 70)
NARROW_COLUMNS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127)
WIDE_COLUMNS = (128, 129, 143, 255, 256, 257, 511, 512, 513, 600, 1030)  # a dozen classes need no panels
SHAPES = [(0, 1, 1), (0, 40, 3), (0, 130, 5), (1, 1, 1), (1, 130, 5), (2, 3, 10), (7, 17, 100)]
SHAPES += zip(cycle(SOME_ROWS), cycle(NARROW_COLUMNS), range(1, 27), strict=False)
SHAPES += zip(cycle(SOME_ROWS), cycle(WIDE_COLUMNS), [*range(1, 13), *range(1, 13)], strict=False)
SHAPES += [(33, 128, 13), (34, 255, 14), (33, 256, 24), (37, 257, 25), (33, 512, 26), (40, 513, 37), (70, 1030, 100)]
SHAPES += [(70, 9, 514), (40, 5, 1100)]  # blocks of 512 classes
SHAPES += [(290, 1030, 130)]  # centres above 512 KiB: 8 groups at once
SHAPES += [(600, 70, 30), (300, 1025, 3), (130, 2050, 2), (300, 1030, 1), (20, 513, 100)]  # rows by class, or in order


class Passes(NamedTuple):
    class_stats: Callable
    class_update: Callable
    class_scores: Callable
    cdnv: Callable


@pytest.fixture(params=[*LEVELS, "reference"])
def passes(request, monkeypatch):
    """Yield the ops of one implementation."""
    if request.param == "reference":
        monkeypatch.setattr(distances, "_BLOCK_ELEMENTS", 30_000)  # several chunks already at these sizes
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # more would wait for each other at these sizes
        yield Passes(*(functools.partial(getattr(ops, name), kernels=reference) for name in Passes._fields))
        torch.set_num_threads(before)
    else:
        before = cpu._core.level()
        cpu._core.set_level(request.param)
        yield Passes(*(functools.partial(getattr(ops, name), kernels=cpu) for name in Passes._fields))
        cpu._core.set_level(before)


def example(n, d, n_classes, *, offset=0.0, dtype=torch.float32, seed=0):
    """Draw rows around random class centres (n_classes, d).

    From three classes on, class 1 has no rows, and the last class has only the first row.
    """
    rng = np.random.default_rng([seed, n, d, n_classes])
    y = rng.integers(0, n_classes, n)
    if n_classes > 2 and n:
        y[(y == 1) | (y == n_classes - 1)] = 0
        y[0] = n_classes - 1
    centres = offset + rng.standard_normal((n_classes, d))
    x = centres[y] + rng.standard_normal((n, d))
    return torch.from_numpy(x).to(dtype), torch.from_numpy(y), centres


@dataclass(frozen=True, eq=False)
class Oracle:
    """Outputs computed by loops over classes and direct differences.

    `means` are the class means, or for classes without rows their centres; class 1 has none. `size` (C,) is
    the mean |x| of each class and `scale` the sum of ||x - m_y||^2 times the largest ||m_c - g||^2: errors are
    relative to it. `floor` bounds the rounding error in float64 of scores that are zero.
    """

    features: torch.Tensor
    labels: torch.Tensor
    mean: np.ndarray
    scatter: np.ndarray
    size: np.ndarray
    means: np.ndarray
    distance: np.ndarray
    gram: np.ndarray
    directional: np.ndarray
    scale: float
    floor: float


@functools.cache
def oracle(n, d, n_classes, offset, dtype):
    features, labels, centres = example(n, d, n_classes, offset=offset, dtype=dtype)
    x, y = features.double().numpy(), labels.numpy()
    mean, size = np.full((n_classes, d), np.nan), np.zeros((n_classes, 1))
    scatter = np.zeros(n_classes)
    for c in np.unique(y):
        rows = x[y == c].astype(np.longdouble)
        mean[c], size[c] = rows.mean(axis=0), np.abs(rows).mean()
        scatter[c] = ((rows - rows.mean(axis=0)) ** 2).sum()
    means = np.where(np.isnan(mean), centres, mean)
    if n_classes > 2:
        means[1] = np.nan
    active = [c for c in range(n_classes) if np.isfinite(means[c]).all()]
    centred = means[active] - means[active].mean(axis=0)
    distance = np.full((n, n_classes), np.inf)
    for c in active:
        distance[:, c] = ((x - means[c]) ** 2).sum(axis=1)
    gram, directional = np.zeros((n_classes, n_classes)), np.zeros((n_classes, n_classes))
    residual = x - means[y]
    t = residual @ centred.T
    gram[np.ix_(active, active)] = t.T @ t
    for c in np.unique(y):
        directional[c, active] = ((residual[y == c] @ (means[active] - means[c]).T) ** 2).sum(axis=0)
    longest = (centred**2).sum(axis=1).max()
    scale = (residual**2).sum() * longest
    floor = 1e-30 * (1 + offset) ** 2 * ((x - means[active].mean(axis=0)) ** 2).sum() * longest
    return Oracle(features, labels, mean, scatter, size, means, distance, gram, directional, scale, floor)


def score_rounding(dtype, d, offset):
    """Return the tolerance of a sum of squared scores, relative to `Oracle.scale`.

    With u = 2^-24, a float32 score v . a is off by at most u (s + 5) ||v|| ||a||, s = min(d, 256) + d / 256 its longest
    chain of additions, and a square by twice or, of a difference, eight times as much. Roundings of many rows and
    columns are independent: sqrt(s) replaces s, and the rest is for the few of small shapes.
    """
    if dtype not in NARROW:
        return 1e-14 * (1 + offset)  # x - m loses what the offset holds of the 16 digits
    return 2.0**-24 * (8 + (min(d, 256) + d / 256) ** 0.5)


def assert_within(name, got, expected, tolerance):
    """Check every |got - expected| <= tolerance; the message names the worst element and its share of the tolerance."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"{name}: shape {got.shape}, expected {expected.shape}"
    if not got.size:
        return
    error = np.where(np.isnan(got) & np.isnan(expected), 0.0, np.abs(got - expected))
    tolerance = np.broadcast_to(tolerance, got.shape)
    share = np.divide(error, tolerance, out=np.where(error == 0, 0.0, np.inf), where=tolerance > 0)
    at = tuple(int(i) for i in np.unravel_index(np.argmax(share), share.shape))  # argmax finds a NaN first
    assert share[at] <= 1, f"{name}{list(at)}: {got[at]!r}, expected {expected[at]!r}, {share[at]:.1%} of the tolerance"


def narrowed(labels, n_classes, label_type):
    return labels.to(label_type if n_classes <= 256 else torch.int64)


@pytest.mark.parametrize(("dtype", "offset"), DATA, ids=str)
def test_class_stats_agree_with_the_oracle(passes, dtype, offset):
    for shape, label_type in zip(SHAPES, cycle(LABEL_TYPES), strict=False):
        n_classes, of = shape[-1], oracle(*shape, offset, dtype)
        count, mean, scatter = passes.class_stats(of.features, narrowed(of.labels, n_classes, label_type), n_classes)
        assert count.tolist() == np.bincount(of.labels, minlength=n_classes).tolist()
        assert_within(f"mean of {shape}", mean, of.mean, 5e-15 * of.size)
        assert_within(f"scatter of {shape}", scatter, of.scatter, 1e-13 * of.scatter)


@pytest.mark.parametrize(("dtype", "offset"), DATA, ids=str)
def test_class_scores_agree_with_the_oracle(passes, dtype, offset):
    for shape, label_type in zip(SHAPES, cycle(LABEL_TYPES), strict=False):
        n, d, n_classes = shape
        of = oracle(*shape, offset, dtype)
        labels, means = narrowed(of.labels, n_classes, label_type), torch.from_numpy(of.means)
        alone = passes.class_scores(of.features, None, means, False)
        with_gram = passes.class_scores(of.features, labels, means, True)
        for nearest in (alone[0], with_gram[0]):
            assert nearest.shape == (n,)
            assert (nearest >= 0).all()
            best, chosen = of.distance.min(axis=1), of.distance[np.arange(n), nearest]
            assert_within(f"distance to nearest of {shape}", chosen, best, 1e-9 * best)  # either of two that nearly tie
        assert [part.shape for part in alone[1:]] == [(0, 0)] * 2
        rounding = score_rounding(dtype, d, offset) * of.scale + of.floor
        assert_within(f"gram of {shape}", with_gram[1], of.gram, rounding)
        assert_within(f"directional of {shape}", with_gram[2], of.directional, rounding)


def test_the_scatter_is_right_when_the_first_row_is_an_outlier(passes):
    # Sums are of differences from the first row, whose length they then lose: n + 1 roundings of the scatter at most.
    for n_classes, d in ((1, 40), (3, 1030)):
        x, y, _ = example(10_000 // n_classes, d, 1, offset=3.0, dtype=torch.float64)
        y = torch.arange(len(x)) % n_classes
        x[:n_classes] += 1e4
        expected = np.array([((r - r.mean(axis=0)) ** 2).sum() for r in (x[y == c].numpy() for c in range(n_classes))])
        assert_within("scatter", passes.class_stats(x, y, n_classes)[2], expected, 1e-10 * expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("d", "n_classes"), [(17, 5), (1030, 2), (70, 30)])
def test_rows_added_in_batches_give_the_statistics_of_the_whole(passes, dtype, d, n_classes):
    x, y, _ = example(600, d, n_classes, offset=10.0, dtype=dtype)
    expected = passes.class_stats(x, y, n_classes)
    for cuts in ([0, 600], [1, 2, 3, 5], [300], list(range(7, 600, 97))):
        stats = passes.class_stats(x[:0], y[:0], n_classes)
        for rows in torch.arange(600).tensor_split(cuts):
            passes.class_update(x[rows], y[rows], *stats)
        assert torch.equal(stats[0], expected[0])
        for got, whole in zip(stats[1:], expected[1:], strict=True):
            torch.testing.assert_close(got, whole, rtol=1e-12, atol=0, equal_nan=True)


@pytest.mark.parametrize("empty", [0, 1])
@pytest.mark.parametrize(("n_classes", "d"), [(1, 3), (2, 1), (7, 9), (8, 513), (9, 512), (29, 17), (90, 1030)])
def test_cdnv_agrees_with_the_mean_over_pairs(passes, n_classes, d, empty):
    rng = np.random.default_rng(0)
    mean, count = 10 + rng.standard_normal((n_classes, d)), rng.integers(1, 9, n_classes)
    scatter = rng.random(n_classes)
    if empty:
        count[::3], mean[::3], scatter[::3] = 0, np.nan, 0.0
    variance, filled = scatter / np.maximum(count, 1), np.flatnonzero(count)
    pairs = [(variance[i] + variance[k]) / (2 * ((mean[i] - mean[k]) ** 2).sum()) for i, k in combinations(filled, 2)]
    expected = np.mean(pairs) if pairs else np.nan
    got = passes.cdnv(*map(torch.from_numpy, (count, mean, scatter)))
    assert (got.shape, got.dtype) == ((), torch.float64)
    assert float(got) == pytest.approx(expected, rel=1e-13, nan_ok=True)
    if len(filled) > 1:
        mean[filled[-1]] = mean[filled[0]]
        assert passes.cdnv(*map(torch.from_numpy, (count, mean, scatter))) == torch.inf


def test_classes_without_a_finite_mean_win_no_row_and_enter_no_sum(passes):
    for d in (6, 130):
        x, y, _ = example(40, d, 4, dtype=torch.float64)
        mean = torch.randn((4, d), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        mean[0, 2], mean[2] = torch.inf, torch.nan
        for features in (x, x.float()):
            nearest, gram, directional = passes.class_scores(features, y, mean, True)
            assert set(nearest.tolist()) <= {1, 3}
            assert torch.equal(nearest, passes.class_scores(features, None, mean, False)[0])
            for out in (gram, directional):
                assert not out[[0, 2]].any()
                assert not out[:, [0, 2]].any()
                assert out[[1, 3]][:, [1, 3]].any()
            kept = (y == 1) | (y == 3)  # rows of the others have no residuals
            alone = passes.class_scores(features[kept], y[kept], mean, True)
            torch.testing.assert_close([gram, directional], list(alone[1:]), rtol=1e-5, atol=1e-5 * float(gram.max()))
            nobody = passes.class_scores(features, y, torch.full_like(mean, torch.nan), True)
            assert nobody[0].tolist() == [-1] * 40
            assert not nobody[1].any()
            assert not nobody[2].any()


def test_a_row_that_is_not_finite_spoils_the_sums_of_its_class_and_no_label_but_its_own(passes):
    for dtype, d in ((torch.float32, 17), (torch.float32, 200), (torch.float64, 17), (torch.float64, 200)):
        x, y, centres = example(70, d, 5, dtype=dtype)
        means = torch.from_numpy(centres)
        clean = passes.class_scores(x, y, means, True)[0]
        for bad in (torch.nan, torch.inf, -torch.inf):
            spoilt, row = x.clone(), 33
            spoilt[row, d - 1] = bad
            nearest, _, directional = passes.class_scores(spoilt, y, means, True)
            assert nearest[row] == -1
            assert torch.equal(
                nearest[y.new_tensor([i for i in range(70) if i != row])], clean[torch.arange(70) != row]
            )
            others = torch.arange(5) != y[row]
            assert directional[others].isfinite().all()
            assert not directional[y[row]].isfinite().all()
