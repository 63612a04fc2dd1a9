"""CDNV, NCC, NC1 and directional CDNV against closed forms, explicit d x d oracles, and their symmetries."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ncharness import ClassStats, cdnv, class_stats, directional_cdnv, measure, nc1, ncc, ncc_accuracy, residual_gram

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, deadline=None, derandomize=True, database=None)


def example(seed=0, *, n=80, d=7, n_classes=5, spread=1.0, noise=1.0, offset=0.0):
    """Imbalanced classes of at least one row, the noise stretched along one direction more than along the others."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes) // rng.integers(1, 3)])
    x = offset + spread * rng.standard_normal((n_classes, d))[y]
    x += noise * (rng.standard_normal((n, d)) + rng.standard_normal((n, 1)) * rng.standard_normal(d))
    return torch.from_numpy(x), torch.from_numpy(y)


def moments(x, y):
    """Mean, covariance (1/n) and number of rows of each class that has rows, in float64."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y)
    rows = [x[y == c] for c in np.unique(y)]
    means = [r.mean(axis=0) for r in rows]
    return means, [(r - m).T @ (r - m) / len(r) for r, m in zip(rows, means, strict=True)], [len(r) for r in rows]


def cdnv_oracle(x, y):
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y)
    rows = [x[y == c] for c in np.unique(y)]
    means = [r.mean(axis=0) for r in rows]
    variances = [((r - m) ** 2).sum() / len(r) for r, m in zip(rows, means, strict=True)]
    pairs = itertools.combinations(range(len(means)), 2)
    return np.mean([(variances[i] + variances[j]) / (2 * ((means[i] - means[j]) ** 2).sum()) for i, j in pairs])


def directional_oracle(x, y):
    """(C, C): entry (i, j) the variance of class i along the unit vector to mean j, NaN on the diagonal."""
    means, covariances, _ = moments(x, y)
    values = np.full((len(means), len(means)), np.nan)
    for i, j in itertools.permutations(range(len(means)), 2):
        delta = means[j] - means[i]
        unit = delta / np.linalg.norm(delta)
        values[i, j] = unit @ covariances[i] @ unit / (delta @ delta)
    return values


def nc1_oracle(x, y):
    """By the singular vectors of the centred means, so that nearly collinear means cost no digits."""
    means, covariances, counts = moments(x, y)
    within = sum(n * cov for n, cov in zip(counts, covariances, strict=True)) / sum(counts)
    left, values, _ = np.linalg.svd((means - np.mean(means, axis=0)).T, full_matrices=False)
    kept = values > 1e-8 * values[0]
    return (np.einsum("dk,de,ek->k", left, within, left) / values**2)[kept].sum()


def nc1_by_pseudo_inverse(x, y):
    means, covariances, counts = moments(x, y)
    within = sum(n * cov for n, cov in zip(counts, covariances, strict=True)) / sum(counts)
    centred = means - np.mean(means, axis=0)
    between = centred.T @ centred / len(means)
    return np.trace(within @ np.linalg.pinv(between, rcond=1e-11, hermitian=True)) / len(means)


# --- CDNV -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("empty", [0, 1, 4], ids=lambda k: f"{k} empty classes")
def test_cdnv_matches_the_definition_and_leaves_empty_classes_out(n_classes, empty):
    x, y = example(n_classes=n_classes)
    shifted = (y + 1) * (1 + empty) - 1  # `empty` classes without rows before each class that has some
    total = n_classes * (1 + empty)
    stats = class_stats(x, shifted, total)
    assert float(cdnv(stats)) == pytest.approx(cdnv_oracle(x, y), rel=1e-13)
    pairs = cdnv(stats, pairs=True)
    filled = stats.count > 0
    compact = cdnv(class_stats(x, y, n_classes), pairs=True)
    torch.testing.assert_close(pairs[filled][:, filled], compact, rtol=1e-13, atol=0, equal_nan=True)
    assert torch.equal(~pairs.isnan(), filled[:, None] & filled & ~torch.eye(total, dtype=torch.bool))
    torch.testing.assert_close(pairs, pairs.T, rtol=0, atol=0, equal_nan=True)
    above = pairs[torch.triu(~pairs.isnan(), 1)]
    assert float(above.mean()) == pytest.approx(float(cdnv(stats)), rel=1e-13)


def test_cdnv_conventions_of_the_literature_are_related_as_they_should_be():
    x, y = example()
    means, covariances, _ = moments(x, y)
    ordered = [
        np.trace(covariances[i]) / ((means[i] - means[j]) ** 2).sum() for i, j in itertools.permutations(range(5), 2)
    ]
    unhalved = [
        np.trace(covariances[i] + covariances[j]) / ((means[i] - means[j]) ** 2).sum()
        for i, j in itertools.combinations(range(5), 2)
    ]
    value = float(cdnv(class_stats(x, y, 5)))
    assert np.mean(ordered) == pytest.approx(value, rel=1e-12)
    assert np.mean(unhalved) == pytest.approx(2 * value, rel=1e-12)


@pytest.mark.parametrize(
    ("n_classes", "d", "noise", "distance"), [(2, 3, 1.0, 2.0), (4, 9, 0.5, 1.0), (10, 10, 1e-3, 3)]
)
def test_simplex_means_with_equal_round_noise_have_closed_forms(n_classes, d, noise, distance):
    # Means at one distance from each other; in every class two rows on either side along each axis.
    radius = distance / np.sqrt(2)
    means, steps = radius * np.eye(n_classes, d), noise * np.concatenate([np.eye(d), -np.eye(d)])
    x = (means[:, None] + steps).reshape(-1, d)
    found = measure(x, np.repeat(np.arange(n_classes), 2 * d), n_classes, gram=True)
    assert found.stats.variance.numpy() == pytest.approx(noise**2)
    assert float(found.cdnv) == pytest.approx(noise**2 / distance**2)
    assert float(found.directional_cdnv) == pytest.approx(noise**2 / distance**2 / d)
    assert float(found.nc1) == pytest.approx(noise**2 * (n_classes - 1) / (d * radius**2))


def test_two_classes_with_one_mean_have_infinite_cdnv():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0], [5.0, 5.0]])
    y = np.array([0, 0, 1, 1, 2])
    for rows in (slice(None), [0, 1, 2, 3]):
        found = measure(x[rows], y[rows], 3, gram=True)
        assert found.cdnv == torch.inf
        assert found.directional_cdnv == torch.inf
        assert found.stats.mean[:2].tolist() == [[0.0, 0.0]] * 2
    assert torch.isfinite(cdnv(class_stats(x, y, 3), pairs=True)[:2, 2]).all()
    assert cdnv(class_stats(np.ones((4, 2)), y[:4], 2)) == torch.inf  # without any variance too


@pytest.mark.parametrize("n_classes", [1, 3])
def test_fewer_than_two_classes_with_rows_have_no_cdnv(n_classes):
    found = measure(np.eye(4), np.zeros(4, dtype=int), n_classes, gram=True)
    for value in (found.cdnv, found.directional_cdnv, found.nc1):
        assert value.isnan()
    assert found.ncc_accuracy == 1
    assert measure(np.eye(4)[:0], np.zeros(0, dtype=int), n_classes, gram=True).cdnv.isnan()


@pytest.mark.parametrize("offset", [0.0, 3.0, 30.0, 1e4])
@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3, 1.4e-4])
def test_collapsed_float32_features_keep_their_cdnv_under_an_offset(noise, offset):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 600)
    x = (offset + rng.standard_normal((10, 512))[y] + noise * rng.standard_normal((600, 512))).astype(np.float32)
    expected = cdnv_oracle(x, y)
    if offset == 0:
        assert expected == pytest.approx(noise**2 / 2, rel=0.1)  # 1e-8 at the end: deep in the collapse
    assert float(cdnv(class_stats(x, y, 10))) == pytest.approx(expected, rel=1e-6)


# --- NCC --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [10, 100])
def test_float32_at_a_large_offset_gives_the_labels_scatter_and_cdnv_of_float64(n_classes):
    rng = np.random.default_rng(n_classes)
    y = rng.permutation(np.arange(500) % n_classes)
    x = (1e4 + 0.1 * rng.standard_normal((n_classes, 512))[y] + rng.standard_normal((500, 512))).astype(np.float32)
    exact = x.astype(np.float64)
    means = np.stack([exact[y == c].mean(axis=0) for c in range(n_classes)])
    distance = np.stack([((exact - mean) ** 2).sum(axis=1) for mean in means], axis=1)
    nearest_two = np.sort(distance, axis=1)[:, :2]
    clear = nearest_two[:, 1] - nearest_two[:, 0] > 1e-6 * nearest_two[:, 1]
    assert clear.mean() > 0.99

    found = measure(x, y, n_classes, gram=True)
    assert (found.nearest.numpy() == distance.argmin(axis=1))[clear].all()
    assert (ncc(x, found.stats).numpy() == distance.argmin(axis=1))[clear].all()
    scatter = [distance[y == c, c].sum() for c in range(n_classes)]
    assert found.stats.scatter.numpy() == pytest.approx(np.array(scatter), rel=1e-10)
    assert float(found.cdnv) == pytest.approx(cdnv_oracle(x, y), rel=1e-10)
    # Sums of float32 scores: a rounding of each, of which few add up.
    assert float(found.nc1) == pytest.approx(nc1_oracle(x, y), rel=1e-6)
    assert float(found.directional_cdnv) == pytest.approx(np.nanmean(directional_oracle(x, y)), rel=1e-6)


def test_ncc_of_held_out_rows_uses_the_given_centres_and_skips_empty_classes():
    stats = class_stats(np.array([[0.0], [2.0], [10.0]]), np.array([3, 3, 1]), 5)  # centres 1 (class 3), 10 (class 1)
    held_out = np.array([[5.4], [5.6], [-100.0], [100.0], [5.5], [np.nan], [np.inf]])
    assert ncc(held_out, stats).tolist() == [3, 1, 3, 1, 1, -1, -1]  # 5.5 is a tie
    labels = np.array([3, 3, 3, 1, 1, 1, 1])
    assert float(ncc_accuracy(held_out, labels, stats)) == pytest.approx(4 / 7)
    assert ncc_accuracy(held_out[:0], labels[:0], stats).isnan()


def test_a_poisoned_class_wins_no_row_and_poisons_every_average():
    x, y = example()
    row = int((y == 2).nonzero()[0])
    x[row, 3] = torch.nan
    with pytest.warns(RuntimeWarning, match="class 2"):
        found = measure(x, y, 5, gram=True)
    assert found.nearest[row] == -1
    assert not (found.nearest == 2).any()
    assert (found.nearest >= 0).sum() == len(x) - 1
    for value in (found.cdnv, found.nc1, found.directional_cdnv):
        assert value.isnan()
    others = cdnv(found.stats, pairs=True)
    assert others[2].isnan().all()
    assert others[0, 1].isfinite()


def bad_stats():
    stats = class_stats(np.eye(3), np.arange(3), 4)
    broken = ClassStats(stats.count, stats.mean.clone(), stats.scatter)
    broken.mean[1, 2] = torch.inf
    away = ClassStats(stats.count.to("meta"), stats.mean.to("meta"), stats.scatter.to("meta"))
    x, labels = np.eye(3), np.arange(3)
    return {
        "columns": (ValueError, "features: expected 3 columns as in stats, got 2", lambda: ncc(x[:, :2], stats)),
        "rank": (ValueError, r"features: expected shape \(n, d\), got \(3,\)", lambda: ncc(x[0], stats)),
        "dtype": (TypeError, "features: expected float64, .*, got torch.int64", lambda: ncc(x.astype(int), stats)),
        "list": (TypeError, "features: expected a numpy array or a torch tensor", lambda: ncc(x.tolist(), stats)),
        "no rows": (ValueError, "stats: .* class with rows, got none", lambda: ncc(x, ClassStats.empty(4, 3))),
        "infinite": (ValueError, "stats: expected finite class means, .* in class 1", lambda: ncc(x, broken)),
        "features elsewhere": (
            ValueError,
            "(features|stats): expected .*device",
            lambda: ncc(torch.eye(3, device="meta"), stats),
        ),
        "stats elsewhere": (ValueError, "(features|stats): expected .*device", lambda: ncc(x, away)),
        "labels": (ValueError, r"labels: expected shape \(3,\)", lambda: ncc_accuracy(x, labels[:2], stats)),
        "float labels": (TypeError, "labels: expected integers", lambda: ncc_accuracy(x, labels * 1.0, stats)),
        "label range": (ValueError, "labels: .* got -1 at index 0", lambda: ncc_accuracy(x, labels - 1, stats)),
        "no gram": (ValueError, "gram: .* without it", lambda: measure(x, labels, 3).nc1),
        "no directional": (ValueError, "gram: .* without it", lambda: measure(x, labels, 3).directional_cdnv),
    }


@pytest.mark.parametrize("case", bad_stats())
def test_bad_input_is_refused_by_name(case):
    error, message, call = bad_stats()[case]
    with pytest.raises(error, match=message):
        call()


# --- NC1 and directional CDNV -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "n_classes"), [(7, 2), (7, 5), (40, 5), (2, 5), (1, 3)])
def test_nc1_and_directional_cdnv_match_explicit_covariances(d, n_classes):
    x, y = example(d=d, n_classes=n_classes)  # with d < C - 1 the class means are rank deficient
    found = measure(x, 2 * y, 2 * n_classes, gram=True)  # and every other class is empty
    assert float(found.nc1) == pytest.approx(nc1_by_pseudo_inverse(x, y), rel=1e-9)
    assert float(found.nc1) == pytest.approx(nc1_oracle(x, y), rel=1e-9)
    expected = directional_oracle(x, y)
    assert float(found.directional_cdnv) == pytest.approx(np.nanmean(expected), rel=1e-11)
    pairs = directional_cdnv(found.stats, found.directional, pairs=True)
    assert pairs[::2, ::2].numpy() == pytest.approx(expected, rel=1e-9, nan_ok=True)
    assert pairs[1::2].isnan().all()


@pytest.mark.parametrize("bend", [1e-2, 1e-3, 1e-4, 0.0])
def test_nc1_of_nearly_collinear_means_matches_the_oracle(bend):
    rng = np.random.default_rng(0)
    means = np.outer([-2.0, -1.0, 0.5, 3.0], rng.standard_normal(20)) + bend * rng.standard_normal((4, 20))
    noise = rng.standard_normal((4, 30, 20))
    x = (means[:, None] + noise - noise.mean(axis=1, keepdims=True)).reshape(-1, 20)
    y = np.repeat(np.arange(4), 30)
    assert float(measure(x, y, 4, gram=True).nc1) == pytest.approx(nc1_oracle(x, y), rel=1e-6)


@few
@given(seed=seeds, noise=st.sampled_from([0.0, 1e-9, 1e-4]), d=st.integers(1, 8), n_classes=st.integers(2, 8))
def test_nc1_is_never_negative_and_vanishes_with_the_noise(seed, noise, d, n_classes):
    x, y = example(seed, d=d, n_classes=n_classes, noise=noise)
    value = float(measure(x, y, n_classes, gram=True).nc1)
    assert value >= 0
    if noise == 0:
        assert value <= 1e-15
    # A sum of squares that rounding left a little below zero.
    assert nc1(class_stats(x, y, n_classes), -1e-30 * torch.eye(n_classes, dtype=torch.float64)) == 0


@pytest.mark.parametrize("n_classes", [5, 8], ids=["", "with empty classes"])
def test_grams_of_batches_add_up_to_that_of_the_whole(n_classes):
    x, y = example()
    found = measure(x, y, n_classes, gram=True)
    parts = [residual_gram(x[rows], y[rows], found.stats) for rows in (slice(0, 1), slice(1, 50), slice(50, 80))]
    gram, directional = (sum(part) for part in zip(*parts, strict=True))
    torch.testing.assert_close(gram, found.gram, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(directional, found.directional, rtol=1e-10, atol=1e-13, equal_nan=True)
    assert float(nc1(found.stats, gram)) == pytest.approx(float(found.nc1), rel=1e-10)
    assert float(directional_cdnv(found.stats, directional)) == pytest.approx(float(found.directional_cdnv), rel=1e-10)
    with pytest.raises(ValueError, match=f"labels: expected values in \\[0, {n_classes}\\), got 9 at index 0"):
        residual_gram(x[:1], torch.tensor([9]), found.stats)


# --- symmetries -------------------------------------------------------------------------------------------------------


def values(x, y):
    found = measure(x, y, 5, gram=True)
    return torch.stack([found.cdnv, found.nc1, found.directional_cdnv, found.ncc_accuracy]), found.nearest


@few
@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_nothing_changes_when_features_are_moved_scaled_rotated_or_rows_permuted(seed, scale, shift):
    x, y = example(seed)
    expected, nearest = values(x, y)
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((7, 7)))
    rows = torch.from_numpy(rng.permutation(len(x)))
    for moved in (x + shift, scale * x, x @ torch.from_numpy(rotation)):
        got, labels = values(moved, y)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)
        assert torch.equal(labels, nearest)
    got, labels = values(x[rows], y[rows])
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    assert torch.equal(labels, nearest[rows])


@few
@given(seed=seeds, names=st.permutations(range(5)))
def test_renamed_classes_are_the_same_classes(seed, names):
    x, y = example(seed)
    found, names = measure(x, y, 5, gram=True), torch.tensor(names)
    renamed = measure(x, names[y], 5, gram=True)
    assert torch.equal(renamed.nearest, names[found.nearest])
    torch.testing.assert_close(renamed.gram[names][:, names], found.gram, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(renamed.directional[names][:, names], found.directional, rtol=1e-11, atol=1e-11)
    for got, expected in (
        (cdnv(renamed.stats, pairs=True), cdnv(found.stats, pairs=True)),
        (
            directional_cdnv(renamed.stats, renamed.directional, pairs=True),
            directional_cdnv(found.stats, found.directional, pairs=True),
        ),
    ):
        torch.testing.assert_close(got[names][:, names], expected, rtol=1e-11, atol=1e-13, equal_nan=True)
    torch.testing.assert_close(nc1(renamed.stats, renamed.gram), nc1(found.stats, found.gram), rtol=1e-10, atol=0)


def test_measure_gives_what_its_parts_give():
    x, y = example()
    found, stats = measure(x, y, 5), class_stats(x, y, 5)
    assert torch.equal(found.nearest, ncc(x, stats))
    assert torch.equal(found.labels, y)
    assert torch.equal(found.ncc_accuracy, ncc_accuracy(x, y, stats))
    assert torch.equal(found.cdnv, cdnv(stats))
    assert (found.gram, found.directional) == (None, None)
