"""Class statistics: bad input, empty and poisoned classes, streaming and merging, offsets, symmetries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ncharness import ClassStats, class_stats, measure
from ncharness.kernels import ops

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, deadline=None, derandomize=True, database=None)


def example(seed=0, *, n=60, d=7, n_classes=4, offset=0.0):
    """Float64 rows around random class means and labels of which some classes may have none."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    x = offset + 3 * rng.standard_normal((n_classes, d))[y] + rng.standard_normal((n, d))
    return torch.from_numpy(x), torch.from_numpy(y)


def assert_close(got, expected, *, rtol=1e-12):
    assert torch.equal(got.count, expected.count)
    torch.testing.assert_close(got.mean, expected.mean, rtol=rtol, atol=rtol, equal_nan=True)
    torch.testing.assert_close(got.scatter, expected.scatter, rtol=rtol, atol=rtol, equal_nan=True)


# --- bad input --------------------------------------------------------------------------------------------------------

X, Y = torch.zeros((4, 3)), torch.zeros(4, dtype=torch.int64)
NOT_FLOAT = "features: expected float64, float32, float16 or bfloat16, got torch."
BAD = {
    "vector": ((X[0], Y, 2), ValueError, r"features: expected shape \(n, d\), got \(3,\)"),
    "rank 3": ((X[None], Y, 2), ValueError, r"features: expected shape \(n, d\), got \(1, 4, 3\)"),
    "integer features": ((X.long(), Y, 2), TypeError, NOT_FLOAT + "int64"),
    "bool features": ((X.bool(), Y, 2), TypeError, NOT_FLOAT + "bool"),
    "complex features": ((X.cfloat(), Y, 2), TypeError, NOT_FLOAT + "complex64"),
    "complex numpy": ((X.cfloat().numpy(), Y, 2), TypeError, "features: expected numbers, got dtype complex64"),
    "object numpy": ((X.numpy().astype(object), Y, 2), TypeError, "features: expected numbers, got dtype object"),
    "long double": ((X.numpy().astype("g"), Y, 2), TypeError, "features: .*(float128|longdouble)"),
    "sparse": ((X.to_sparse(), Y, 2), TypeError, "features: expected .*sparse"),
    "no columns": ((X[:, :0], Y, 2), ValueError, r"features: expected at least one column, got shape \(4, 0\)"),
    "list": ((X.tolist(), Y, 2), TypeError, "features: expected a numpy array or a torch tensor, got list"),
    "labels: list": ((X, Y.tolist(), 2), TypeError, "labels: expected a numpy array or a torch tensor, got list"),
    "labels: float": ((X, Y.double(), 2), TypeError, "labels: expected integers, got torch.float64"),
    "labels: bool": ((X, Y.bool().numpy(), 2), TypeError, "labels: expected integers, got torch.bool"),
    "labels: too few": ((X, Y[:3], 2), ValueError, r"labels: expected shape \(4,\) as features has rows, got \(3,\)"),
    "labels: column": ((X, Y[:, None], 2), ValueError, r"labels: expected shape \(4,\) .*, got \(4, 1\)"),
    "labels: device": ((X, Y.to("meta"), 2), ValueError, "labels: expected device cpu as features, got meta"),
    "features: device": ((X.to("meta"), Y, 2), ValueError, "labels: expected device meta as features, got cpu"),
    "labels: high": ((X, Y + torch.tensor([0, 2, 7, 0]), 2), ValueError, r"labels: .*\[0, 2\), got 2 at index 1"),
    "labels: negative": ((X, Y - torch.tensor([0, 0, 0, 1]), 2), ValueError, r"labels: .*\[0, 2\), got -1 at index 3"),
    "no classes": ((X, Y, 0), ValueError, "n_classes: expected at least 1, got 0"),
    "negative classes": ((X, Y, -3), ValueError, "n_classes: expected at least 1, got -3"),
    "classes: float": ((X, Y, 2.0), TypeError, "n_classes: expected an integer, got float"),
    "classes: bool": ((X, Y, True), TypeError, "n_classes: expected an integer, got bool"),
}


@pytest.mark.parametrize("function", [class_stats, measure])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(function, case):
    arguments, error, message = BAD[case]
    with pytest.raises(error, match=f"^{message}"):
        function(*arguments)


def test_empty_statistics_need_a_class_and_a_column():
    with pytest.raises(ValueError, match="n_classes: expected at least 1, got 0"):
        ClassStats.empty(0, 3)
    with pytest.raises(TypeError, match="n_classes: expected an integer, got str"):
        ClassStats.empty("3", 3)
    with pytest.raises(ValueError, match="n_features: expected at least 1, got 0"):
        ClassStats.empty(3, 0)


@pytest.mark.parametrize(("n_classes", "n_features"), [(4, 7), (5, 3)])
def test_statistics_of_another_shape_are_not_merged(n_classes, n_features):
    stats = ClassStats.empty(5, 7)
    with pytest.raises(ValueError, match=rf"other: expected .* \(5, 7\), got \({n_classes}, {n_features}\)"):
        stats.merge(ClassStats.empty(n_classes, n_features))
    with pytest.raises(ValueError, match="features: expected 7 columns as in stats, got 3"):
        stats.update(X, Y)


# --- semantics --------------------------------------------------------------------------------------------------------


def test_statistics_by_hand():
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0], [1.0, 3.0]])
    stats = class_stats(x, torch.tensor([0, 0, 3, 0]), 4)
    assert stats.count.tolist() == [3, 0, 0, 1]
    assert stats.mean[[0, 3]].tolist() == [[1.0, 1.0], [5.0, 5.0]]
    assert stats.scatter.tolist() == [8.0, 0.0, 0.0, 0.0]
    assert stats.variance[[0, 3]].tolist() == [8 / 3, 0.0]  # divided by n, not n - 1
    assert stats.mean[[1, 2]].isnan().all()
    assert stats.variance[[1, 2]].isnan().all()
    assert (stats.n_classes, stats.n_features) == (4, 2)


def test_no_rows_are_no_error():
    stats = class_stats(X[:0], Y[:0], 2)
    assert_close(stats, ClassStats.empty(2, 3))
    assert stats.count.tolist() == [0, 0]
    assert stats.scatter.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("n_features", [5, 40])  # the last columns of a row have a loop of their own
def test_one_infinite_feature_makes_that_mean_infinite_wherever_its_row_comes(n_features):
    x, y = torch.randn(30, n_features), torch.zeros(30, dtype=torch.int64)
    for row in (0, 7, 29):
        for column in (0, n_features - 1):
            with_inf = x.clone()
            with_inf[row, column] = -torch.inf
            with pytest.warns(RuntimeWarning, match="class 0"):
                mean = class_stats(with_inf, y, 1).mean[0]
            assert mean[column] == -torch.inf
            assert mean.isfinite().sum() == n_features - 1


@pytest.mark.parametrize("function", [class_stats, lambda *arguments: measure(*arguments).stats])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_value_that_is_not_finite_poisons_its_class_with_a_warning(function, bad):
    x, y = example()
    clean = function(x, y, 4)
    row = int((y == 2).nonzero()[0])
    x[row, 5] = bad
    with pytest.warns(RuntimeWarning, match="features: NaN or infinite values in class 2; ") as caught:
        stats = function(x, y, 4)
    assert caught[0].filename == __file__
    others = [0, 1, 3]
    assert torch.equal(stats.mean[others], clean.mean[others])
    assert torch.equal(stats.scatter[others], clean.scatter[others])
    assert not stats.mean[2].isfinite().all()
    assert not stats.scatter[2].isfinite()


def test_the_warning_lists_at_most_ten_classes():
    x = torch.full((11, 2), torch.nan)
    with pytest.warns(RuntimeWarning, match=r"in class 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.; "):
        class_stats(x, torch.arange(11), 11)
    with pytest.warns(RuntimeWarning, match="in class 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; "):
        class_stats(x[:10], torch.arange(10), 10)


def test_half_precision_rows_whose_squares_overflow_are_summed_exactly():
    x = torch.full((1000, 3), 60000.0, dtype=torch.float16)
    stats = class_stats(x, torch.zeros(1000, dtype=torch.uint8), 1)
    assert stats.mean.tolist() == [[60000.0 - 60000.0 % 32] * 3]  # float16 knows multiples of 32 here
    assert stats.scatter.tolist() == [0.0]


# --- accuracy under an offset -----------------------------------------------------------------------------------------


def two_pass(x, y, n_classes):
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y)
    return np.array([((x[y == c] - x[y == c].mean(axis=0)) ** 2).sum() for c in range(n_classes)])


@pytest.mark.parametrize("n_classes", [10, 100])
@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
def test_scatter_of_float32_holds_under_a_common_offset(n_classes, offset):
    x, y = example(n=20 * n_classes, d=512, n_classes=n_classes, offset=offset)
    x = x.float()
    expected = two_pass(x, y, n_classes)
    whole = class_stats(x, y, n_classes)
    streamed = ClassStats.empty(n_classes, 512)
    for rows in torch.arange(len(x)).split(77):
        streamed.update(x[rows], y[rows])
    assert whole.scatter.numpy() == pytest.approx(expected, rel=1e-10)
    assert streamed.scatter.numpy() == pytest.approx(expected, rel=1e-10)


# --- streaming and merging --------------------------------------------------------------------------------------------


def streamed(x, y, cuts):
    stats = ClassStats.empty(4, x.shape[1])
    for rows in np.split(np.arange(len(x)), sorted(cuts)):
        stats.update(x[rows], y[rows])
    return stats


@few
@given(seed=seeds, cuts=st.lists(st.integers(0, 60), max_size=8), offset=st.sampled_from([0.0, 100.0]))
def test_any_split_into_batches_equals_the_whole(seed, cuts, offset):
    x, y = example(seed, offset=offset)
    assert_close(streamed(x, y, cuts), class_stats(x, y, 4))
    assert_close(streamed(x, y, [*cuts, 0, 0, 1, 60]), class_stats(x, y, 4))  # batches of no rows and of one


@few
@given(seed=seeds, order=st.permutations(range(5)), swap=st.booleans())
def test_merge_order_does_not_matter(seed, order, swap):
    x, y = example(seed)
    parts = [class_stats(x[rows], y[rows], 4) for rows in np.split(np.arange(60), [7, 8, 8, 30])]
    merged = ClassStats.empty(4, 7)
    for at in order:
        merged = parts[at].merge(merged) if swap else merged.merge(parts[at])
    assert_close(merged, class_stats(x, y, 4))


def test_merge_works_in_place_and_leaves_the_other_alone():
    x, y = example()
    left, right = class_stats(x[:20], y[:20], 4), class_stats(x[20:], y[20:], 4)
    assert left.merge(right) is left
    assert left.update(x, y) is left
    assert_close(right, class_stats(x[20:], y[20:], 4), rtol=0)
    twice = class_stats(x, y, 4)
    assert_close(twice.merge(twice), class_stats(torch.cat([x, x]), torch.cat([y, y]), 4))


def test_an_update_that_is_refused_adds_nothing():
    x, y = example()
    stats = class_stats(x, y, 4)
    for bad in ((x, y + 1), (x, y - 1), (x[:, 1:], y), (x, y[1:]), (x.long(), y), (x, y.double())):
        with pytest.raises((ValueError, TypeError), match=r"^(features|labels): expected"):
            stats.update(*bad)
    assert_close(stats, class_stats(x, y, 4), rtol=0)


def test_merging_spreads_the_poison_of_one_class_only():
    x, y = example()
    row = int((y == 2).nonzero()[-1])
    poisoned = x.clone()
    poisoned[row] = torch.nan
    stats = class_stats(x[:row], y[:row], 4)
    with pytest.warns(RuntimeWarning, match="class 2"):
        stats.update(poisoned[row:], y[row:])
    expected = class_stats(x, y, 4)
    expected.mean[2] = expected.scatter[2] = torch.nan
    assert_close(stats, expected)


# --- symmetries -------------------------------------------------------------------------------------------------------


@few
@given(seed=seeds, n=st.integers(0, 40), d=st.integers(1, 20), n_classes=st.integers(1, 12))
def test_permuted_rows_and_renamed_classes_carry_the_statistics_along(seed, n, d, n_classes):
    x, y = example(seed, n=n, d=d, n_classes=n_classes)
    rng = np.random.default_rng(seed)
    rows, names = torch.from_numpy(rng.permutation(n)), torch.from_numpy(rng.permutation(n_classes))
    stats = class_stats(x, y, n_classes)
    assert_close(class_stats(x[rows], y[rows], n_classes), stats)
    renamed = class_stats(x, names[y], n_classes)
    assert_close(ClassStats(renamed.count[names], renamed.mean[names], renamed.scatter[names]), stats)


@few
@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_moving_and_scaling_move_the_means_and_scale_the_scatter(seed, scale, shift):
    x, y = example(seed)
    stats = class_stats(x, y, 4)
    moved = class_stats(scale * (x + shift), y, 4)
    torch.testing.assert_close(moved.mean / scale - shift, stats.mean, rtol=1e-12, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(moved.scatter / scale**2, stats.scatter, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("sizes", "error", "said"),
    [
        ((2**31, 3), ValueError, "n_classes: expected at most 2147483647, got 2147483648"),
        ((2**62, 3), ValueError, "n_classes: expected at most"),
        ((3, 3.0), TypeError, "n_features: expected an integer, got float"),
        ((3, True), TypeError, "n_features: expected an integer, got bool"),
    ],
)
def test_absurd_sizes_are_refused(sizes, error, said):
    with pytest.raises(error, match=said):
        ClassStats.empty(*sizes)


def test_means_on_another_device_are_refused():
    means = torch.zeros((3, 2), dtype=torch.float64, device="meta")
    with pytest.raises(ValueError, match="means: expected device cpu as features, got meta"):
        ops.class_scores(torch.zeros((4, 2)), None, means)


@pytest.mark.parametrize("shape", [(20_000, 64), (3000, 3000)], ids=["rows shared", "columns shared"])
def test_an_outlier_as_the_first_of_many_rows_costs_no_digits(shape):
    n, d = shape
    x = 1 + 0.1 * torch.randn((n, d), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0] *= 30
    y = torch.zeros(n, dtype=torch.int64)
    exact = (x - x.mean(dim=0)).square().sum()
    assert class_stats(x, y, 1).scatter.item() == pytest.approx(exact.item(), rel=1e-13, abs=0)


def test_an_outlier_as_the_first_row_costs_no_digits_where_a_batch_has_many_classes():
    n, n_classes = 30_000, 4000
    x = 1 + 0.1 * torch.randn((n, 4), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0] *= 30
    y = torch.zeros(n, dtype=torch.int64)
    y[-n_classes:] = torch.arange(n_classes)
    own = x[y == 0]
    exact = (own - own.mean(dim=0)).square().sum()
    assert class_stats(x, y, n_classes).scatter[0].item() == pytest.approx(exact.item(), rel=1e-13, abs=0)


def test_an_outlier_as_the_first_row_of_a_new_class_leaves_the_known_classes_alone():
    x, y = example(n=6000, d=4, n_classes=3)
    y[:100][y[:100] == 1] = 0
    x[int((y == 1).nonzero()[0])] += 1e4
    assert_close(ClassStats.empty(3, 4).update(x[:100], y[:100]).update(x[100:], y[100:]), class_stats(x, y, 3))


def test_no_rounding_makes_the_scatter_negative():
    x = torch.tensor([[0.0], [1.4e-162], [1.4e-162]], dtype=torch.float64)  # squares below the smallest number
    assert class_stats(x, torch.zeros(3, dtype=torch.int64), 1).scatter.item() >= 0
