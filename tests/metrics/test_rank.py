"""Ranks, the classification dimension and alignment of subspaces: exact values, ranges, invariances."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from literature import example, few, moments, orthogonal, seeds

from ncharness import class_stats, classification_dimension, numerical_rank, stable_rank, subspace_alignment


def with_values(values, m=9, n=7, seed=0):
    """A matrix (m, n) of these singular values."""
    rank = len(values)
    return orthogonal(m, seed)[:, :rank] * np.asarray(values) @ orthogonal(n, seed + 1)[:rank]


# --- ranks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "stable"), [([3.0], 1.0), ([2, 2, 2], 3.0), ([2, 1], 1.25), ([1, 1e-9, 1e-20], 1.0)], ids=str
)
def test_ranks_of_known_singular_values(values, stable):
    matrix = with_values(values)
    assert float(stable_rank(matrix)) == pytest.approx(stable, rel=1e-12)
    assert float(stable_rank(-5 * matrix.T)) == pytest.approx(stable, rel=1e-12)
    assert numerical_rank(matrix) == sum(value > 1e-15 for value in values)
    for scale in (1e-6, 1.0, 1e6):
        assert numerical_rank(scale * matrix, rtol=1e-3) == sum(value > 1e-3 for value in values)


def test_the_numerical_rank_follows_the_type_of_the_matrix():
    matrix = with_values([1.0, 1e-5, 1e-10])
    assert numerical_rank(matrix) == 3
    assert numerical_rank(matrix.astype(np.float32)) == 2
    assert numerical_rank(torch.from_numpy(matrix).bfloat16(), rtol=0.1) == 1


@few
@given(seed=seeds, m=st.integers(2, 9), n=st.integers(1, 9))
def test_stable_is_at_most_numerical_is_at_most_the_sides(seed, m, n):
    matrix = np.random.default_rng(seed).standard_normal((m, n))
    assert 1 - 1e-12 <= float(stable_rank(matrix)) <= float(numerical_rank(matrix)) <= min(m, n)
    turned = orthogonal(m, seed) @ matrix
    assert float(stable_rank(turned)) == pytest.approx(float(stable_rank(matrix)), rel=1e-9)


def test_the_stable_rank_of_centred_features_is_trace_over_largest_eigenvalue_of_their_covariance():
    x, _ = example(offset=5.0)
    covariance = np.cov(x.numpy().T, bias=True)
    expected = np.trace(covariance) / np.linalg.eigvalsh(covariance)[-1]
    assert float(stable_rank(x, centre=True)) == pytest.approx(expected, rel=1e-10)
    assert stable_rank(x) < stable_rank(x, centre=True)  # the common offset is one strong direction
    assert numerical_rank(np.ones((4, 3)), centre=True) == 0
    assert numerical_rank(np.ones((4, 3))) == 1


def test_ranks_of_zeros_and_of_what_is_not_finite():
    assert numerical_rank(np.zeros((3, 2))) == 0
    assert stable_rank(np.zeros((3, 2))).isnan()
    for bad in (np.nan, np.inf):
        assert stable_rank(np.array([[1.0, bad]])).isnan()
        assert numerical_rank(np.array([[1.0, bad]])).isnan()


# --- classification dimension -----------------------------------------------------------------------------------------


def along_axes(sizes, n=60, seed=0):
    """Features whose principal directions are the axes, in order of these sizes; columns uncorrelated exactly."""
    rng = np.random.default_rng(seed)
    columns = np.linalg.qr(rng.standard_normal((n, len(sizes))))[0]
    columns = np.linalg.qr(columns - columns.mean(axis=0))[0]
    columns -= columns.mean(axis=0)
    return torch.from_numpy(np.linalg.qr(columns)[0] * np.asarray(sizes) + 4.0)


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_the_dimension_is_that_of_the_direction_which_the_classes_need(axis):
    x = along_axes([8.0, 4.0, 2.0, 1.0])
    labels = (x[:, axis] > x[:, axis].median()).long()
    threshold = x[:, axis].median()

    def classify(features):
        return (features[:, axis] > threshold).long()

    assert classification_dimension(x, labels, classify, keep=0.9) == axis + 1
    for keep in (0.5, 1.0):
        assert classification_dimension(x, labels, lambda features: torch.zeros(len(features)).long(), keep=keep) == 0


def test_what_is_kept_is_a_share_of_the_accuracy_of_the_features_as_they_are():
    x = along_axes([8.0, 4.0, 1.0])
    threshold = x.quantile(0.85, dim=0)

    def classify(features):  # the second axis matters to the few rows that are far along it
        return (features[:, 0] > x[:, 0].median()).long() + 2 * (features[:, 1] > threshold[1]).long()

    labels = classify(x)
    labels[:6] = 9  # wrong whatever is kept
    found = {keep: classification_dimension(x, labels, classify, keep=keep) for keep in (0.6, 0.8, 0.95, 1.0)}
    assert found == {0.6: 1, 0.8: 1, 0.95: 2, 1.0: 2}


def test_the_dimension_falls_with_what_is_to_be_kept_and_is_at_most_that_of_the_features():
    x, y = example(noise=0.3)
    means = class_stats(x, y, 5).mean

    def classify(features):
        assert features.dtype == x.dtype
        return torch.cdist(features, means).argmin(dim=1)

    found = [classification_dimension(x, y, classify, keep=keep) for keep in (0.3, 0.6, 0.9, 0.99)]
    assert found == sorted(found)
    assert 1 <= found[-1] <= 7


def test_where_no_number_of_directions_suffices_there_is_none():
    x, y, calls = along_axes([2.0, 1.0]), torch.zeros(60).long(), []

    def classify(features):  # right once, for the features as they are
        calls.append(features)
        return torch.full((60,), int(len(calls) > 1))

    found = classification_dimension(x, y, classify)
    assert torch.equal(calls[0], x)
    assert len(calls) == 4
    torch.testing.assert_close(calls[1], x.mean(dim=0).expand_as(x))
    torch.testing.assert_close(calls[3], x)
    assert found is None


# --- alignment --------------------------------------------------------------------------------------------------------


def test_alignment_is_the_mean_cosine_of_principal_angles():
    scipy = pytest.importorskip("scipy.linalg")
    x, y = example(d=20)
    W = np.random.default_rng(3).standard_normal((15, 20))
    means = moments(x, y)[0]
    for centre, rank in (("none", 5), ("classes", 4)):
        rows = means - means.mean(axis=0) if centre == "classes" else means
        directions = np.linalg.svd(W)[2][:rank]
        angles = scipy.subspace_angles(directions.T, np.linalg.svd(rows)[2][:rank].T)
        expected = np.cos(angles).mean()
        assert float(subspace_alignment(W, class_stats(x, 2 * y, 10), centre=centre)) == pytest.approx(
            expected, rel=1e-9
        )
        assert float(subspace_alignment(W, means, centre=centre, rank=rank)) == pytest.approx(expected, rel=1e-9)


def test_alignment_of_equal_spans_is_one_of_orthogonal_ones_zero_and_missing_dimensions_count_as_none():
    frame = orthogonal(12)
    means = np.random.default_rng(0).standard_normal((4, 4)) @ frame[:4]
    same, apart = orthogonal(4) @ frame[:4], frame[4:9]
    assert float(subspace_alignment(same, means)) == pytest.approx(1, rel=1e-12)
    assert float(subspace_alignment(apart, means)) == pytest.approx(0, abs=1e-12)
    assert float(subspace_alignment(frame[:2], means)) == pytest.approx(0.5, rel=1e-12)  # two rows for four means
    low_rank = np.random.default_rng(1).standard_normal((5, 2)) @ frame[:2]  # five rows in two dimensions
    assert float(subspace_alignment(low_rank, means)) == pytest.approx(0.5, rel=1e-12)
    strong = np.concatenate([10 * frame[:4], frame[4:9]])  # the means' span holds the strongest directions
    weak = np.concatenate([0.1 * frame[:4], frame[4:9]])
    assert float(subspace_alignment(strong, means)) == pytest.approx(1, rel=1e-12)
    assert float(subspace_alignment(weak, means)) == pytest.approx(0, abs=1e-12)


@few
@given(seed=seeds, scale=st.floats(1e-3, 1e3))
def test_alignment_is_invariant_to_joint_rotation_and_scale_and_in_range(seed, scale):
    rng = np.random.default_rng(seed)
    W, means, turn = rng.standard_normal((6, 9)), rng.standard_normal((4, 9)), orthogonal(9, seed)
    expected = float(subspace_alignment(W, means))
    assert 0 <= expected <= 1
    assert float(subspace_alignment(W @ turn, scale * means @ turn)) == pytest.approx(expected, rel=1e-9)


def test_alignment_with_more_classes_than_dimensions_is_complete_and_without_finite_means_undefined():
    rng = np.random.default_rng(0)
    assert float(subspace_alignment(rng.standard_normal((5, 3)), rng.standard_normal((8, 3)))) == pytest.approx(1)
    assert subspace_alignment(np.eye(3), np.full((3, 3), np.nan)).isnan()


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"^matrix: expected shape \(C, d\)", lambda a: stable_rank(a.x[0])),
        ("^rtol: expected a number", lambda a: numerical_rank(a.x, rtol=1.0)),
        ("^keep: expected a share", lambda a: classification_dimension(a.x, a.y, lambda f: f, keep=0.0)),
        ("^features: expected at least one row", lambda a: classification_dimension(a.x[:0], a.y[:0], lambda f: f)),
        ("^classify: expected to give labels", lambda a: classification_dimension(a.x, a.y, lambda f: f)),
        ("^weight: expected 7 columns", lambda a: subspace_alignment(a.x[:, :3], a.x[:4])),
        (r"^rank: expected an integer in \[1, 7\], got 8", lambda a: subspace_alignment(a.x, a.x[:4], rank=8)),
    ],
)
def test_bad_arguments_are_named(message, call):
    x, y = example()
    with pytest.raises(ValueError, match=message):
        call(SimpleNamespace(x=x, y=y))
