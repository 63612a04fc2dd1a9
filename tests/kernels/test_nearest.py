"""Nearest centre of every row against float64: near ties, common offsets, scales that float32 cannot square."""

from functools import partial

import numpy as np
import pytest
import torch

from ncharness import measure
from ncharness.kernels import cpu, ops, reference

LEVELS = cpu._core.levels() if cpu._core else []
NARROW = (torch.float32, torch.float16, torch.bfloat16)
FLOATS = (*NARROW, torch.float64)
# (d, C): panels of classes, a few classes by rows of columns, blocks of 512 classes, 8 groups of rows at once.
WAYS = [(3, 2), (40, 5), (64, 30), (127, 12), (128, 2), (200, 7), (600, 12), (130, 13), (9, 513), (5, 1100), (258, 520)]
SOME = WAYS[1:9]


@pytest.fixture(params=[*LEVELS, "reference"])
def scores(request):
    """Yield class_scores of one implementation."""
    if request.param == "reference":
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # more would wait for each other at these sizes
        yield partial(ops.class_scores, kernels=reference)
        torch.set_num_threads(before)
    else:
        before = cpu._core.level()
        cpu._core.set_level(request.param)
        yield partial(ops.class_scores, kernels=cpu)
        cpu._core.set_level(before)


def both_labels(scores, x, means, y=None):
    """Return the nearest centres without the Gram, and with it, where rows are relative to their own class's mean."""
    means = torch.as_tensor(means)
    alone = scores(x, None, means, False)[0]
    y = torch.arange(len(x)) % len(means) if y is None else y
    return alone.numpy(), scores(x, y, means, True)[0].numpy()


def distances(x, means):
    """Return (n, C) squared distances by differences in float64."""
    x, means = x.double().numpy(), np.asarray(means, dtype=np.float64)
    return np.stack([((x - mean) ** 2).sum(axis=1) for mean in means], axis=1)


def assert_nearest(nearest, distance, *, rtol=1e-9):
    chosen, best = distance[np.arange(len(nearest)), nearest], distance.min(axis=1)
    wrong = np.flatnonzero((nearest < 0) | ~(chosen <= best * (1 + rtol)))
    assert not wrong.size, (
        f"{wrong.size} of {len(nearest)} rows: class {nearest[wrong[0]]} at {chosen[wrong[0]]!r}, "
        f"where {distance[wrong[0]].argmin()} is at {best[wrong[0]]!r}"
    )


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


# --- exact ties -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [*range(2, 28), 511, 513, 1100])
def test_lowest_index_wins_ties_wherever_they_fall_in_the_blocks(scores, n_classes):
    # Whole numbers, so that every distance is exact whatever the order of the sums.
    for d, dtype in ((3, torch.float32), (130, torch.float32), (3, torch.float64), (130, torch.float64)):
        x = torch.zeros((5, d), dtype=dtype)
        x[0, 2], x[1, 1], x[2, 0], x[4, :3] = 3.0, 4.0, 2.0, 1.0
        for low in {0, n_classes // 2, n_classes - 2, n_classes - 1, *range(510, min(n_classes, 514))}:
            mean = torch.full((n_classes, d), 8.0, dtype=torch.float64)
            mean[low:] = 0.0  # all of low, low + 1, ... are equally near
            assert scores(x, None, mean, False)[0].tolist() == [low] * 5


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_lowest_index_wins_between_different_means_at_one_distance(scores, dtype):
    for d in (2, 128, 140):
        mean, x = torch.zeros((4, d), dtype=torch.float64), torch.zeros((6, d), dtype=dtype)
        mean[:, :2] = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        x[:, :2] = torch.tensor([[0.0, 0.0], [3.0, 3.0], [3.0, -3.0], [-3.0, 3.0], [-2.0, -2.0], [0.0, 9.0]])
        for nearest in both_labels(scores, x, mean, torch.tensor([0, 1, 2, 3, 0, 1])):
            assert nearest.tolist() == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_first_of_equal_means_wins_however_far_apart_they_stand(scores, dtype):
    for d in (9, 130):
        for same in ([3, 511, 512, 513, 1023, 1024, 1099], [511, 1024]):
            means = 4 * normal(1100, d)
            means[same] = means[same[0]]
            x = torch.from_numpy(means[same[0]] + 1e-3 * normal(40, d)).to(dtype)
            for nearest in both_labels(scores, x, means):
                assert nearest.tolist() == [same[0]] * 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rows_of_zeros_are_nearest_to_the_shortest_mean(scores, dtype):
    for d, n_classes in SOME:
        means = normal(n_classes, d)
        x = torch.zeros((33, d), dtype=dtype)
        for nearest in both_labels(scores, x, means):
            assert nearest.tolist() == [(means**2).sum(axis=1).argmin()] * 33
        for nearest in both_labels(scores, x, np.zeros((n_classes, d))):
            assert nearest.tolist() == [0] * 33


# --- near ties --------------------------------------------------------------------------------------------------------


def crowd(d, n_classes, n=66):
    """Return means on a sphere of radius 1 around the row 0; distances differ by 10^-7 to 10^-12, in turns."""
    means = normal(n_classes, d)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return means * (1 + 10.0 ** -(7 + np.arange(n_classes)[:, None] % 6)), torch.zeros((n, d))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_rows_that_all_means_are_nearly_equally_far_from(scores, way, dtype):
    means, x = crowd(*way)
    x = x.to(dtype)
    for nearest in both_labels(scores, x, means):
        assert_nearest(nearest, distances(x, means))


GAPS = (0.0, *(sign * gap for gap in (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-12) for sign in (1, -1)))


def with_pairs(means, x, pairs):
    """Return pairs of means; pair i lies on both sides of row i, at almost the same distance, with gaps in turns."""
    means, at, steps = means.copy(), x.double().numpy(), 0.3 * normal(*x.shape, seed=1)
    for i, (low, high) in enumerate(pairs):
        means[low], means[high] = at[i] + steps[i], at[i] - steps[i] * (1 + GAPS[i % len(GAPS)])
    return means


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_rows_that_two_means_are_nearly_equally_far_from(scores, way, dtype):
    d, n_classes = way
    pairs = np.random.default_rng(0).permutation(n_classes)[: n_classes // 2 * 2].reshape(-1, 2)[:70]
    for offset in (0.0, 100.0):
        x = torch.from_numpy(offset + normal(70, d)).to(dtype)
        far = offset + 30 * normal(n_classes, d)
        for first in range(0, 15 if n_classes < 30 else 1, len(pairs)):
            rows = torch.roll(x, -first, 0)  # another row, hence another gap, for each of the few pairs
            means = with_pairs(far, rows, [(0, 0)] * first + [*pairs])
            for nearest in both_labels(scores, rows, means):
                assert_nearest(nearest, distances(rows, means))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("d", "n_classes"), [(16, 1100), (130, 1030)])
def test_near_ties_between_blocks_of_classes(scores, d, n_classes, dtype):
    # The best of a block is close to the best of an earlier one, and the last bits decide.
    x, far = torch.from_numpy(normal(50, d)).to(dtype), 10 * normal(n_classes, d)
    pairs = [(k, k + 512 * (1 + k % 2 * (k + 1024 < n_classes))) for k in range(0, 500, 10)]
    means = with_pairs(far, x, pairs)
    for nearest in both_labels(scores, x, means):
        assert_nearest(nearest, distances(x, means))
        for i, pair in enumerate(pairs):
            assert nearest[i] == pair[GAPS[i % len(GAPS)] < 0] or abs(GAPS[i % len(GAPS)]) < 1e-9


# --- offsets and scales -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_common_offset_changes_no_label(scores, way):
    d, n_classes = way
    rng = np.random.default_rng(0)
    x = torch.from_numpy(1e4 + rng.standard_normal((70, d))).float()
    means = 1e4 + 0.1 * rng.standard_normal((n_classes, d))
    for nearest in both_labels(scores, x, means):
        assert_nearest(nearest, distances(x, means))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1e-40, 1e-25, 1e-20, 1e-12, 1e12, 1e18, 1e20, 1e25, 1e37])
def test_scales_that_float32_cannot_square_change_no_label(scores, scale, dtype):
    for d, n_classes in SOME[::2]:
        centres, y = scale * normal(n_classes, d), np.arange(70) % n_classes
        x = torch.from_numpy(centres[y] + 2 * scale * normal(70, d)).to(dtype)
        assert x.isfinite().all()
        for nearest in both_labels(scores, x, centres, torch.from_numpy(y)):
            assert_nearest(nearest, distances(x, centres))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rows_and_means_of_very_different_sizes(scores, dtype):
    sizes = 10.0 ** np.arange(-30, 36, 3)
    for d, n_classes in SOME:
        rows = torch.from_numpy(sizes[np.arange(66) % len(sizes), None] * normal(66, d)).to(dtype)
        for reach in (1e-30, 1e-10, 1.0, 1e10, 1e30):
            means = reach * normal(n_classes, d)
            distance = distances(rows, means)
            for nearest in both_labels(scores, rows, means):
                assert_nearest(nearest, distance)


def test_the_largest_float32_rows_have_a_nearest_centre(scores):
    largest = float(np.finfo(np.float32).max)
    for d, n_classes in SOME:
        x = torch.full((9, d), largest)
        x[1] *= -1
        x[2:] = 1e37 * torch.from_numpy(normal(7, d)).clamp(-9, 9).float()
        means = 1e37 * normal(n_classes, d)
        means[-1] = largest
        for nearest in both_labels(scores, x, means):
            assert_nearest(nearest, distances(x, means))
            assert nearest[0] == n_classes - 1


@pytest.mark.parametrize(
    ("dtype", "bad"),
    [(dtype, bad) for dtype in (torch.float32, torch.float64) for bad in (torch.nan, torch.inf, -torch.inf)]
    + [(torch.float64, 1e200)],
    ids=str,
)
def test_a_row_that_is_not_finite_or_too_large_to_square_has_no_nearest_centre(scores, bad, dtype):
    for d, n_classes in (*SOME[::2], (1030, 100)):
        means = normal(n_classes, d)
        x = torch.from_numpy(normal(70, d)).to(dtype)
        for column in (d // 2, d - 1):
            spoilt, expected = x.clone(), scores(x, None, torch.from_numpy(means), False)[0]
            spoilt[[3, 69], column], expected[[3, 69]] = bad, -1
            for nearest in both_labels(scores, spoilt, means):
                assert torch.equal(torch.from_numpy(nearest), expected)


def test_collapsed_classes_far_from_the_origin_keep_every_digit():
    # Within-class deviations of 1e-6 around means of size 1, at 100: float32 holds no digit of them but the data are
    # what they are, and everything said of them is right.
    for d, n_classes in ((64, 10), (512, 10), (130, 20)):
        rng = np.random.default_rng(0)
        y = np.arange(40 * n_classes) % n_classes
        centres = 100 + rng.standard_normal((n_classes, d)) / d**0.5
        x = (centres[y] + 1e-6 * rng.standard_normal((len(y), d))).astype(np.float32)
        x[:n_classes] = np.nextafter(x[:n_classes], np.float32(1e3))  # so that no class is a single point
        found, exact = measure(x, y, n_classes, gram=True), measure(x.astype(np.float64), y, n_classes, gram=True)
        assert torch.equal(found.nearest, exact.nearest)
        assert found.nearest.tolist() == y.tolist()
        rows = [x[y == c].astype(np.longdouble) for c in range(n_classes)]
        scatter = np.array([((r - r.mean(axis=0)) ** 2).sum() for r in rows], dtype=np.float64)
        assert found.stats.scatter.numpy() == pytest.approx(scatter, rel=1e-12)
        assert float(found.nc1) == pytest.approx(float(exact.nc1), rel=1e-5)
        assert float(found.directional_cdnv) == pytest.approx(float(exact.directional_cdnv), rel=1e-5)
