"""Symmetries of the measurements, over drawn shapes, dtypes, skews and offsets.

Tolerances follow from the promises of the kernels, with `size` the most that the longest row of a class may measure:
means are off by at most MEAN * size, variances by SCATTER of themselves, Gram and directional sums by SCORES of what
they could at most be. The rest is how these errors carry on into the quantities that are made of them.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ncharness import ClassStats, cdnv, class_stats, directional_cdnv, measure, ncc
from ncharness.bench.timing import threads
from ncharness.metrics.nc1 import NC1_RTOL

MEAN = 1e-14  # some dozens of float64 roundings: sums of hundreds of rows, or hundreds of merges
SCATTER = 1e-12  # float64 sums of squares about a row or the mean of the class
SCORES = {torch.float64: 1e-11}  # float64 throughout
SCORES |= dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), 1e-5)  # dot products in float32
TIE = 1e-9  # squared distances closer than this share of their sum are a tie, which either class may win

some = settings(max_examples=100, deadline=None, derandomize=True, database=None)
full, half = st.sampled_from([torch.float32, torch.float64]), st.sampled_from([torch.float16, torch.bfloat16])


# --- data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Feature matrix described by its parameters, which are printed for a failing example."""

    seed: int
    n: int
    d: int
    n_classes: int
    skew: str
    dtype: torch.dtype
    label_dtype: torch.dtype
    noise: float = 1.0
    offset: float = 0.0
    outlier: bool = False  # the first row, which a shift by one of the rows might take as its origin
    dyadic: bool = False  # multiples of 1/64, or small whole numbers in half precision: moved about without rounding

    @property
    def rng(self):
        return np.random.default_rng([self.seed, 1])

    @functools.cached_property
    def labels(self):
        rng = np.random.default_rng([self.seed, 2])
        y = {
            "even": lambda: rng.integers(0, self.n_classes, self.n),
            "zipf": lambda: rng.permutation(self.n_classes)[np.minimum(rng.zipf(1.5, self.n), self.n_classes) - 1],
            "one class": lambda: np.full(self.n, rng.integers(self.n_classes)),
            "one-row classes": lambda: rng.permutation(np.arange(self.n) * (np.arange(self.n) < self.n_classes)),
        }[self.skew]()
        return torch.from_numpy(y).to(self.label_dtype)

    @functools.cached_property
    def features(self):
        rng = np.random.default_rng([self.seed, 3])
        x = rng.standard_normal((self.n_classes, self.d))[self.labels.long().numpy()]
        x += self.noise * (rng.standard_normal((self.n, self.d)) + rng.standard_normal(self.d))
        x[:1] *= 30 if self.outlier else 1
        if self.dyadic:
            x = np.rint(64 * x) / 64 if self.dtype.itemsize > 2 else np.clip(np.rint(2 * x), -8, 8)
        x += self.offset
        return torch.from_numpy(x).to(self.dtype)


@dataclass(frozen=True)
class Literal:
    """Draw a few rows of small integers, which hypothesis can shrink."""

    rows: np.ndarray
    classes: list[int]
    n_classes: int
    dtype: torch.dtype
    seed: int = 0

    @property
    def rng(self):
        return np.random.default_rng(self.seed)

    @property
    def labels(self):
        return torch.tensor(self.classes)

    @property
    def features(self):
        return torch.from_numpy(self.rows).to(self.dtype)


def tables(**fixed):
    drawn = {
        "seed": st.integers(0, 2**32 - 1),
        "n": st.integers(1, 40) | st.integers(41, 400),
        "d": st.integers(1, 70) | st.sampled_from([127, 128, 129, 255, 256, 257, 300]),
        "n_classes": st.integers(1, 40),
        "skew": st.sampled_from(["even", "zipf", "one-row classes", "one class"]),
        "dtype": full | half,
        "label_dtype": st.sampled_from([torch.int64, torch.int32, torch.uint8]),
        "noise": st.sampled_from([1.0, 0.1, 0.02, 1e-3]),
        "outlier": st.booleans(),
    }
    return st.builds(Table, **(drawn | fixed))


@st.composite
def literals(draw):
    n, d, n_classes = draw(st.integers(1, 8)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rows = draw(hnp.arrays(np.int64, (n, d), elements=st.integers(-8, 8)))
    return Literal(
        rows, draw(st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)), n_classes, draw(full | half)
    )


any_table = tables(dtype=full, offset=st.sampled_from([0.0, 10.0, 1e4])) | tables(
    dtype=half, offset=st.sampled_from([0.0, 10.0])
)
dyadic_tables = tables(dyadic=st.just(True), dtype=full) | tables(dyadic=st.just(True), dtype=half) | literals()
small_dyadic_tables = tables(n=st.integers(1, 40), dyadic=st.just(True)) | literals()


def measured(table):
    return measure(table.features, table.labels, table.n_classes, gram=True)


def contested(table, stats, n=50):
    """Return rows very near the midpoint of two class means: float32 alone could not find the nearer one."""
    rng, filled = table.rng, stats.count.nonzero()[:, 0]
    one, other = (stats.mean[filled[rng.integers(0, len(filled), n)]] for _ in range(2))
    side = torch.from_numpy(rng.choice([-1.0, 1.0], (n, 1)) * 10 ** rng.uniform(-8, -2, (n, 1)))
    return ((one + other) / 2 + side * (other - one)).to(table.dtype)


# --- comparison -------------------------------------------------------------------------------------------------------


def assert_within(name, error, tolerance):
    bad = ~(error <= tolerance)  # NaN is bad
    assert not bad.any(), f"{name}: off by {error[bad][0]:.3g}, allowed {tolerance.expand_as(error)[bad][0]:.3g}"


def parts(found):
    return [found.stats.count, found.stats.mean, found.stats.scatter, found.gram, found.directional]


def by_pairs(found):
    return {
        "cdnv": cdnv(found.stats, pairs=True),
        "directional_cdnv": directional_cdnv(found.stats, found.directional, pairs=True),
    }


def assert_equal_bits(got, expected):
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True, check_dtype=False)


def assert_same_nearest(x, mean, got, expected):
    """Check for the same classes, except where the distances to both tie."""
    assert (got >= 0).all()
    differ = got != expected
    x, ours, theirs = x[differ].double(), mean[got[differ]], mean[expected[differ]]
    ours, theirs = (x - ours).square().sum(dim=1), (x - theirs).square().sum(dim=1)
    assert_within("nearest", (ours - theirs).abs(), TIE * (ours + theirs))


def assert_same_stats(got, expected, *, classes=None, mean=lambda rows: rows, moved=0.0):
    """Check that both are statistics of the same rows, up to a transformation.

    `got` may number its classes differently (`classes`), and `mean` maps its means back. `moved` is the relative
    rounding of a row, or of the mean of a part, in the transformation. Returns the tolerances of the mean (as a vector)
    and the variance of each class.
    """
    filled = expected.count > 0
    classes = torch.arange(len(filled)) if classes is None else classes
    means, variances = mean(got.mean[classes]), got.variance[classes]
    assert torch.equal(~means.isnan(), filled[:, None].expand_as(means))
    assert torch.equal(~variances.isnan(), filled)

    sizes = [(stats.scatter + stats.mean.square().sum(dim=1)).nan_to_num().sqrt() for stats in (got, expected)]
    size = torch.maximum(sizes[0][classes], sizes[1])
    drift, variance = MEAN * size, expected.variance.nan_to_num()
    # Sums about a row that is an outlier lose a rounding for every row. A mean that is off adds the square of its
    # error; rows that moved act on the variance in the first order.
    slack = SCATTER * variance + drift.square() + 2 * variance.sqrt() * moved * size
    assert_within("mean", (means - expected.mean)[filled].norm(dim=1), drift[filled])
    assert_within("variance", (variances - expected.variance)[filled].abs(), slack[filled])
    return drift, slack


def assert_same_measurement(got, expected, dtype, *, classes=None, **frame):
    """Check like `assert_same_stats`, and also the Gram, the directional sums, and all metrics of them.

    `nearest` and `count`, which some symmetries change, must be checked by the test itself.
    """
    classes = torch.arange(expected.stats.n_classes) if classes is None else classes
    drift, slack = assert_same_stats(got.stats, expected.stats, classes=classes, **frame)
    count, means, variance = expected.stats.count, expected.stats.mean, expected.stats.variance.nan_to_num()
    filled = count > 0
    centred = means[filled] - means[filled].mean(dim=0)
    reach = centred.norm(dim=1).max()  # max ||a||

    # The mean of ((x - m) . a)^2 is at most variance * reach^2. Float64 rounds x, m and a, each twice in the square.
    off = 4 * drift.max()
    directional_slack = (
        (SCORES[dtype] * variance + slack + (variance.sqrt() + off) * off) * reach + variance * off
    ) * reach
    gram_slack = (count * directional_slack).sum() / count.sum()
    gram, directional = (part[classes][:, classes] for part in (got.gram, got.directional))
    assert_within("gram", (gram - expected.gram).abs(), gram_slack)
    assert_within("directional", (directional - expected.directional)[filled].abs(), directional_slack[filled, None])

    distance = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
    apart = drift[:, None] + drift
    pair = filled[:, None] & filled & ~torch.eye(len(filled), dtype=torch.bool)
    clear = pair & (distance > 1e3 * apart)  # where two means coincide, inf and a huge number are the same
    for name, power, error in (
        ("cdnv", 2, (slack[:, None] + slack) / 2),
        ("directional_cdnv", 4, directional_slack[:, None]),
    ):
        ours, theirs = by_pairs(got)[name][classes][:, classes], by_pairs(expected)[name]
        allowed = error / distance**power + (SCATTER + 1.1 * power * apart / distance) * theirs
        assert torch.equal(ours.isnan(), ~pair)
        assert_within(name, (ours - theirs)[clear].abs(), allowed[clear])
        if clear.any() and torch.equal(clear, pair):
            assert_within(f"average {name}", (getattr(got, name) - getattr(expected, name)).abs(), allowed[pair].mean())

    if filled.sum() < 2:
        assert got.nc1.isnan()
    elif reach > 1e3 * drift.max():
        values = torch.linalg.eigvalsh(centred @ centred.T)
        kept = values[values > NC1_RTOL * values[-1]]
        # tr(G pinv(K)^2): G's error between unit vectors, and that of the means through the pseudo-inverse.
        allowed = len(values) * gram_slack * kept.pow(-2).sum()
        within = (count * variance).sum() / count.sum()
        allowed += 4 * (expected.nc1 * within * len(values)).sqrt() * drift.max() / kept[0]
        assert_within("nc1", (got.nc1 - expected.nc1).abs(), allowed)


# --- rows -------------------------------------------------------------------------------------------------------------


@some
@given(table=any_table)
def test_permuted_rows_carry_their_nearest_centres_along(table):
    x, expected, rows = table.features, measured(table), torch.from_numpy(table.rng.permutation(table.n))
    got = measure(x[rows], table.labels[rows], table.n_classes, gram=True)
    assert torch.equal(got.stats.count, expected.stats.count)
    assert_same_measurement(got, expected, table.dtype)
    assert_same_nearest(x[rows], expected.stats.mean, got.nearest, expected.nearest[rows])

    queries = contested(table, expected.stats, table.n)
    assert torch.equal(ncc(queries[rows], expected.stats), ncc(queries, expected.stats)[rows])  # rows are on their own


@some
@given(table=any_table, apart=st.booleans())
def test_doubled_rows_change_nothing_but_the_counts(table, apart):
    x, y, expected = table.features, table.labels, measured(table)
    x, y = (torch.cat([t, t]) if apart else t.repeat_interleave(2, dim=0) for t in (x, y))
    got = measure(x, y, table.n_classes, gram=True)
    assert torch.equal(got.stats.count, 2 * expected.stats.count)
    assert_same_measurement(got, expected, table.dtype)
    nearest = expected.nearest.repeat(2) if apart else expected.nearest.repeat_interleave(2)
    assert_same_nearest(x, expected.stats.mean, got.nearest, nearest)


@some
@given(table=any_table, cuts=st.lists(st.integers(0, 400), max_size=6), single=st.integers(0, 399))
def test_batches_of_any_size_give_the_whole(table, cuts, single):
    x, y, whole = table.features, table.labels, measured(table)
    cuts = np.minimum(sorted([*cuts, single, single, single + 1]), table.n)  # one batch is empty, one a single row
    batches = [torch.from_numpy(rows) for rows in np.split(np.arange(table.n), cuts)]
    stats = ClassStats.empty(table.n_classes, table.d)
    for rows in batches:
        assert stats.update(x[rows], y[rows]) is stats
    assert torch.equal(stats.count, whole.stats.count)
    assert_same_stats(stats, whole.stats, moved=MEAN)

    for queries in (x, contested(table, whole.stats, table.n)):
        labels = ncc(queries, whole.stats)
        assert torch.equal(torch.cat([ncc(queries[rows], whole.stats) for rows in batches]), labels)
    assert_same_nearest(x, whole.stats.mean, ncc(x, whole.stats), whole.nearest)


@some
@given(table=any_table, n_parts=st.integers(1, 12))
def test_parts_merged_in_any_tree_give_the_whole(table, n_parts):
    x, y, whole, rng = table.features, table.labels, measured(table), table.rng
    part = torch.from_numpy(rng.integers(0, n_parts, table.n))
    tree = [class_stats(x[part == k], y[part == k], table.n_classes) for k in range(n_parts)]
    while len(tree) > 1:
        branch = tree.pop(rng.integers(len(tree)))
        tree[rng.integers(len(tree))].merge(branch)
    assert torch.equal(tree[0].count, whole.stats.count)
    assert_same_stats(tree[0], whole.stats, moved=MEAN)


# --- classes ----------------------------------------------------------------------------------------------------------


@some
@given(table=any_table, empty=st.integers(0, 9))
def test_renamed_classes_are_the_same_classes(table, empty):
    x, expected = table.features, measured(table)
    names = torch.from_numpy(table.rng.permutation(table.n_classes + empty)[: table.n_classes])
    got = measure(x, names[table.labels.long()], table.n_classes + empty, gram=True)
    assert torch.equal(got.stats.count[names], expected.stats.count)
    assert int(got.stats.count.sum()) == table.n
    assert_same_measurement(got, expected, table.dtype, classes=names)
    assert_same_nearest(x, got.stats.mean, got.nearest, names[expected.nearest])
    queries = contested(table, expected.stats)
    assert_same_nearest(queries, got.stats.mean, ncc(queries, got.stats), names[ncc(queries, expected.stats)])


@some
@given(table=any_table, empty=st.integers(1, 9))
def test_appended_empty_classes_change_nothing(table, empty):
    n_classes = table.n_classes
    expected, got = measured(table), measure(table.features, table.labels, n_classes + empty, gram=True)
    queries = contested(table, expected.stats)
    assert_same_nearest(table.features, expected.stats.mean, got.nearest, expected.nearest)
    assert_same_nearest(queries, expected.stats.mean, ncc(queries, got.stats), ncc(queries, expected.stats))
    assert got.stats.count[n_classes:].tolist() == [0] * empty
    assert got.stats.mean[n_classes:].isnan().all()
    assert torch.equal(got.stats.count[:n_classes], expected.stats.count)
    for sums in (got.stats.scatter, got.gram, got.gram.T):
        assert not sums[n_classes:].any()
    assert_same_measurement(got, expected, table.dtype, classes=torch.arange(n_classes))


@some
@given(table=small_dyadic_tables, steps=st.integers(0, 3))
def test_classes_that_share_a_mean_are_infinitely_close_and_the_first_wins(table, steps):
    points, rng = table.features.unique(dim=0), table.rng
    n_classes, d = table.features.shape
    point_of = torch.from_numpy(rng.integers(0, len(points), n_classes))
    shared = point_of[:, None] == point_of
    first = shared.double().argmax(dim=1)
    # 2^steps dyadic rows around each mean: it is exact, however they are summed.
    side = torch.from_numpy(rng.integers(0, 5, (n_classes, 2**steps // 2, d)))
    around = torch.cat([side, -side], dim=1) if steps else torch.zeros((n_classes, 1, d))
    x = (points[point_of][:, None] + around.to(table.dtype)).reshape(-1, d)

    found = measure(x, torch.arange(n_classes).repeat_interleave(2**steps), n_classes, gram=True)
    assert torch.equal(found.stats.mean, points[point_of].double())
    shared.fill_diagonal_(False)
    for pairs in by_pairs(found).values():
        assert torch.equal(pairs.isposinf(), shared)
    for average in (found.cdnv, found.directional_cdnv):
        assert average.isposinf() == shared.any()
    for nearest in (found.nearest, ncc(x, found.stats)):
        assert torch.equal(first[nearest], nearest)
    assert torch.equal(ncc(points[point_of], found.stats), first)


# --- space ------------------------------------------------------------------------------------------------------------


@some
@given(table=dyadic_tables, reach=st.sampled_from([10, 10_000, 100_000]))
def test_a_translation_moves_the_means_alone(table, reach):
    x, expected = table.features, measured(table)
    reach = min(reach, {torch.float16: 2000, torch.bfloat16: 240}.get(table.dtype, reach))  # and all that is between
    shift = torch.from_numpy(table.rng.integers(-reach, reach + 1, x.shape[1]))
    moved = x + shift.to(table.dtype)
    assert torch.equal(moved.double(), x.double() + shift)
    got = measure(moved, table.labels, table.n_classes, gram=True)
    assert torch.equal(got.stats.count, expected.stats.count)
    assert_same_measurement(got, expected, table.dtype, mean=lambda rows: rows - shift)
    assert_same_nearest(x, expected.stats.mean, got.nearest, expected.nearest)


@some
@given(table=any_table | dyadic_tables, power=st.sampled_from([-20, -1, 1, 20]))
def test_scaling_by_a_power_of_two_is_exact(table, power):
    x, expected, queries = table.features, measured(table), contested(table, measured(table).stats)
    scale = 4.0 if table.dtype == torch.float16 else 2.0**power  # float16 has no room for more
    got = measure(x * scale, table.labels, table.n_classes, gram=True)
    assert torch.equal(got.nearest, expected.nearest)
    assert torch.equal(ncc(queries * scale, got.stats), ncc(queries, expected.stats))
    assert_equal_bits(
        [part / scale**degree for part, degree in zip(parts(got), (0, 1, 2, 4, 4), strict=True)], parts(expected)
    )
    for name in ("cdnv", "directional_cdnv", "nc1"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=1e-12, atol=0, equal_nan=True)


@some
@given(table=any_table | dyadic_tables)
def test_coordinates_may_be_swapped_and_mirrored(table):
    x, expected, rng = table.features, measured(table), table.rng
    order = torch.from_numpy(rng.permutation(x.shape[1]))
    sign = torch.from_numpy(rng.choice([-1.0, 1.0], x.shape[1])).to(table.dtype)
    got = measure(x[:, order] * sign, table.labels, table.n_classes, gram=True)
    assert torch.equal(got.stats.count, expected.stats.count)
    assert_same_measurement(got, expected, table.dtype, mean=lambda rows: (rows * sign)[:, order.argsort()])
    assert_same_nearest(x, expected.stats.mean, got.nearest, expected.nearest)
    queries = contested(table, expected.stats)
    turned = ncc(queries[:, order] * sign, got.stats)
    assert_same_nearest(queries, expected.stats.mean, turned, ncc(queries, expected.stats))


@some
@given(table=tables(dtype=st.just(torch.float64), offset=st.sampled_from([0.0, 10.0, 1e4])))
def test_a_rotation_turns_the_means_alone(table):
    x, expected = table.features, measured(table)
    rotation = torch.from_numpy(np.linalg.qr(table.rng.standard_normal((table.d, table.d)))[0])
    got = measure(x @ rotation, table.labels, table.n_classes, gram=True)
    assert torch.equal(got.stats.count, expected.stats.count)
    assert_same_measurement(got, expected, table.dtype, mean=lambda rows: rows @ rotation.T, moved=MEAN)
    assert_same_nearest(x, expected.stats.mean, got.nearest, expected.nearest)
    queries = contested(table, expected.stats)
    assert_same_nearest(queries, expected.stats.mean, ncc(queries @ rotation, got.stats), ncc(queries, expected.stats))


# --- threads ----------------------------------------------------------------------------------------------------------


@settings(some, max_examples=10)
@given(table=tables(n=st.integers(700, 900), d=st.integers(600, 700)))  # large enough for three threads
def test_threads_change_the_rounding_alone_and_always_alike(table):
    with threads(1):
        alone = measured(table)
    for count in (2, 3):
        with threads(count):
            first, second = measured(table), measured(table)
        assert torch.equal(first.nearest, second.nearest)
        assert_equal_bits(parts(first), parts(second))
        assert torch.equal(first.nearest, alone.nearest)
        assert torch.equal(first.stats.count, alone.stats.count)
        assert_same_measurement(first, alone, table.dtype, moved=MEAN)
