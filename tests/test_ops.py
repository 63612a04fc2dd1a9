"""The two passes agree with a plain float64 oracle: every instruction set and the torch reference, one table."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ncharness import backend, cdnv, class_stats, measure, ncc, ops

LEVELS = ops._core.levels() if ops._core else []
DATA = [(dtype, offset) for dtype in (torch.float32, torch.float64) for offset in (0.0, 1e2, 1e4)]
DATA += [(torch.float16, 1e4), (torch.bfloat16, 0.0)]  # converted to float32, which holds them exactly
ROWS, COLUMNS, CLASSES = (0, 1, 2, 7, 300), (1, 3, 8, 17, 512, 513, 1030), (1, 2, 5, 10, 7, 100)
# Every n with every d; C takes turns, so that blocks of 4 and 2 classes leave every remainder, and C > n occurs.
SHAPES = {n: [(n, d, CLASSES[(i + j + 1) % 6]) for j, d in enumerate(COLUMNS)] for i, n in enumerate(ROWS)}


@pytest.fixture(params=[*LEVELS, "reference"])
def passes(request, monkeypatch):
    """(class_sums, class_scores) of one implementation."""
    if request.param == "reference":
        monkeypatch.setattr(ops, "_CHUNK_ELEMENTS", 1000)  # several chunks already at these sizes
        yield ops._reference_class_sums, ops._reference_class_scores
    else:
        before = ops._core.level()
        ops._core.set_level(request.param)
        yield ops._native_class_sums, ops._native_class_scores
        ops._core.set_level(before)


def example(n, d, n_classes, *, offset=0.0, dtype=torch.float32, seed=0):
    """Rows around random class means; from three classes on, class 1 is empty and the last one has the first row."""
    rng = np.random.default_rng([seed, n, d, n_classes])
    y = rng.integers(0, n_classes, n)
    if n_classes > 2 and n:
        y[(y == 1) | (y == n_classes - 1)] = 0
        y[0] = n_classes - 1
    x = offset + rng.standard_normal((n_classes, d))[y] + rng.standard_normal((n, d))
    return torch.from_numpy(x).to(dtype), torch.from_numpy(y)


@functools.cache
def oracle(n, d, n_classes, offset, dtype):
    """All outputs by loops over classes and direct differences, and the magnitude that rounding is relative to."""
    features, labels = example(n, d, n_classes, offset=offset, dtype=dtype)
    x, y = features.double().numpy(), labels.numpy()
    filled = [c for c in range(n_classes) if (y == c).any()]
    mean = np.full((n_classes, d), np.nan)
    total, scatter = np.zeros((n_classes, d)), np.zeros(n_classes)
    distance = np.full((n, n_classes), np.inf)
    gram, directional = np.zeros((n_classes, n_classes)), np.zeros((n_classes, n_classes))
    for c in filled:
        rows = x[y == c]
        total[c], mean[c] = rows.sum(axis=0), rows.mean(axis=0)
        scatter[c] = ((rows - mean[c]) ** 2).sum()
        distance[:, c] = ((x - mean[c]) ** 2).sum(axis=1)
    centre = mean[filled].mean(axis=0) if filled else np.zeros(d)
    for c in filled:
        residual = x[y == c] - mean[c]
        t = residual @ (mean[filled] - centre).T
        gram[np.ix_(filled, filled)] += t.T @ t
        directional[c, filled] = ((residual @ (mean[filled] - mean[c]).T) ** 2).sum(axis=0)
    longest = max((((mean[c] - centre) ** 2).sum() for c in filled), default=0.0)
    scores_scale = ((x - centre) ** 2).sum() * longest
    return features, labels, mean, total, scatter, distance, gram, directional, scores_scale


def assert_within(name, got, expected, tolerance):
    """Every |got - expected| <= tolerance; the message names the worst element and its share of the tolerance."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"{name}: shape {got.shape}, expected {expected.shape}"
    if not got.size:
        return
    error, tolerance = np.abs(got - expected), np.broadcast_to(tolerance, got.shape)
    share = np.divide(error, tolerance, out=np.where(error == 0, 0.0, np.inf), where=tolerance > 0)
    at = tuple(int(i) for i in np.unravel_index(np.argmax(share), share.shape))  # argmax finds a NaN first
    assert share[at] <= 1, f"{name}{list(at)}: {got[at]!r}, expected {expected[at]!r}, {share[at]:.1%} of the tolerance"


@pytest.mark.parametrize(("dtype", "offset"), DATA)
@pytest.mark.parametrize("n", ROWS)
def test_passes_agree_with_the_float64_oracle(passes, n, dtype, offset):
    for shape in SHAPES[n]:
        n_classes = shape[-1]
        x, y, mean, total, scatter, distance, gram, directional, scale = oracle(*shape, offset, dtype)
        count, got_total = passes[0](x, y, n_classes)
        assert count.tolist() == np.bincount(y, minlength=n_classes).tolist()
        magnitude = np.array([x[y == c].double().abs().sum(dim=0).numpy() for c in range(n_classes)])
        assert_within(f"sum of {shape}", got_total, total, 1e-14 * magnitude)

        nearest, got_scatter, got_gram, got_directional = passes[1](x, y, torch.from_numpy(mean), True, True)
        rounding = 1e-14 * (1 + offset)  # x - m loses what the offset holds of the 16 digits
        assert_within(f"scatter of {shape}", got_scatter, scatter, rounding * scatter)
        assert_within(f"gram of {shape}", got_gram, gram, rounding * scale)
        assert_within(f"directional of {shape}", got_directional, directional, rounding * scale)
        assert nearest.shape == (n,)
        assert (nearest >= 0).all()
        best = distance.min(axis=1)
        chosen = distance[np.arange(n), nearest]
        assert_within(f"distance to nearest of {shape}", chosen, best, 1e-9 * best)  # either of two that nearly tie


@pytest.mark.parametrize("wanted", [(False, False), (True, False), (False, True)], ids=["scatter", "nearest", "gram"])
def test_outputs_that_were_not_asked_for_are_empty_and_change_nothing(passes, wanted):
    nearest, gram = wanted
    x, y, mean = oracle(300, 17, 5, 0.0, torch.float64)[:3]
    everything = passes[1](x, y, torch.from_numpy(mean), True, True)
    some = passes[1](x, y, torch.from_numpy(mean), nearest, gram)
    assert torch.equal(some[0], everything[0] if nearest else torch.empty(0, dtype=torch.int64))
    assert torch.equal(some[1], everything[1])
    for got, full in zip(some[2:], everything[2:], strict=True):
        assert torch.equal(got, full if gram else torch.empty((0, 0), dtype=torch.float64))


def test_without_labels_the_nearest_centres_are_the_same_and_scatter_is_zero(passes):
    x, y, mean = oracle(300, 17, 5, 0.0, torch.float64)[:3]
    with_labels = passes[1](x, y, torch.from_numpy(mean), True, False)
    without = passes[1](x, None, torch.from_numpy(mean), True, False)
    assert torch.equal(without[0], with_labels[0])
    assert without[1].tolist() == [0.0] * 5


@pytest.mark.parametrize("n_classes", range(2, 10))
def test_lowest_index_wins_ties_wherever_they_fall_in_the_blocks(passes, n_classes):
    # Whole numbers, so that every distance is exact whatever the order of the sums.
    x = torch.tensor([[0.0, 0.0, 3.0], [0.0, 4.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    for low in range(n_classes):
        mean = torch.full((n_classes, 3), 8.0, dtype=torch.float64)
        mean[low:] = 0.0  # all of low, low + 1, ... are equally near
        assert passes[1](x, None, mean, True, False)[0].tolist() == [low] * 5


def test_lowest_index_wins_between_different_means_at_one_distance(passes):
    mean = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    x = torch.tensor([[0.0, 0.0], [3.0, 3.0], [3.0, -3.0], [-3.0, 3.0], [-2.0, -2.0], [0.0, 9.0]])
    assert passes[1](x, None, mean, True, False)[0].tolist() == [0, 0, 0, 1, 1, 2]


def test_classes_without_a_finite_mean_win_no_row_and_enter_no_sum(passes):
    x, y = example(40, 6, 4, dtype=torch.float64)
    mean = torch.randn((4, 6), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean[0, 2], mean[2] = torch.inf, torch.nan
    nearest, scatter, gram, directional = passes[1](x, y, mean, True, True)
    assert set(nearest.tolist()) <= {1, 3}
    assert torch.equal(~scatter.isfinite(), torch.tensor([True, False, bool((y == 2).any()), False]))
    for out in (gram, directional):
        assert not out[[0, 2]].any()
        assert not out[:, [0, 2]].any()
    assert passes[1](x, None, torch.full_like(mean, torch.nan), True, False)[0].tolist() == [-1] * 40


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e200])
@pytest.mark.parametrize("column", [0, 16, 520])
def test_a_row_that_is_not_finite_or_too_large_to_square_has_no_nearest_centre(passes, bad, column):
    x, _, mean = oracle(300, 1030, 100, 0.0, torch.float64)[:3]
    clean = passes[1](x, None, torch.from_numpy(mean), True, False)[0]
    x = x.clone()
    x[[3, 299], column] = bad
    clean[[3, 299]] = -1
    assert torch.equal(passes[1](x, None, torch.from_numpy(mean), True, False)[0], clean)


def assert_equal_bits(got, expected):
    """Two measurements agree bit for bit."""
    for name in ("nearest", "labels", "gram", "directional"):
        ours, theirs = getattr(got, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    for name in ("count", "mean", "scatter"):
        ours, theirs = getattr(got.stats, name), getattr(expected.stats, name)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def _padded(x):
    wide = torch.full((x.shape[0], x.shape[1] + 9), torch.nan, dtype=x.dtype)
    wide[:, 5:-4] = x
    return wide[:, 5:-4]


def _unaligned(x):
    return np.frombuffer(b"\0" + x.numpy().tobytes(), dtype=x.numpy().dtype, offset=1).reshape(x.shape)


LAYOUTS = {
    "numpy": lambda x: x.numpy(),
    "a slice of the columns": _padded,
    "every other column": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "every other row": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "transposed": lambda x: x.T.contiguous().T,
    "transposed numpy": lambda x: np.asfortranarray(x.numpy()),
    "negative strides": lambda x: np.ascontiguousarray(x.numpy()[::-1, ::-1])[::-1, ::-1],
    "big-endian": lambda x: x.numpy().astype(x.numpy().dtype.newbyteorder(">")),
    "unaligned": _unaligned,
    "a field of records": lambda x: np.rec.fromarrays([x.numpy(), np.zeros(x.shape, "i1")], names="x,y")["x"],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_bits_of_the_contiguous_matrix(layout, dtype):
    x, y = example(37, 21, 5, dtype=dtype)
    laid_out = LAYOUTS[layout](x)
    assert_equal_bits(measure(laid_out, y.numpy(), 5, gram=True), measure(x, y, 5, gram=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_one_row_expanded_over_all_is_read_with_stride_zero(dtype):
    x, y = torch.randn((1, 21), dtype=dtype).expand(37, 21), example(37, 21, 5)[1]
    assert ops.as_features(x).stride(0) == 0
    assert_equal_bits(measure(x, y, 5, gram=True), measure(x.contiguous(), y, 5, gram=True))
    assert_equal_bits(measure(x[:, :1].expand(37, 21), y, 5), measure(x[:, :1].repeat(1, 21), y, 5))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", ">i8"])
def test_labels_may_be_any_integers_in_any_layout(dtype):
    x, y = example(37, 21, 5)
    labels = np.repeat(y.numpy().astype(dtype), 3)[::3]
    assert_equal_bits(measure(x, labels, 5), measure(x, y, 5))
    assert_equal_bits(measure(x, labels[::-1].copy()[::-1], np.int64(5)), measure(x, y, 5))


def test_a_read_only_file_is_measured_without_a_copy_or_a_warning(tmp_path):
    x, y = example(37, 21, 5)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert ops.as_features(mapped).data_ptr() == mapped.ctypes.data
    assert_equal_bits(measure(mapped, y, 5), measure(x, y, 5))


X = torch.zeros((4, 3))
Y = torch.zeros(4, dtype=torch.int64)
ADDRESS, MEAN = (X.data_ptr(), 0, 4, 3, 3), np.zeros((2, 3))
HOSTILE = {
    "negative n": ("class_sums", ((X.data_ptr(), 0, -1, 3, 3), Y.data_ptr(), 2, 1), "features: expected n >= 0"),
    "no columns": ("class_sums", ((X.data_ptr(), 0, 4, 0, 3), Y.data_ptr(), 2, 1), "features: .* got n = 4, d = 0"),
    "negative d": ("class_sums", ((X.data_ptr(), 0, 4, -3, 3), Y.data_ptr(), 2, 1), "features: .* d = -3"),
    "negative stride": ("class_sums", ((X.data_ptr(), 0, 4, 3, -3), Y.data_ptr(), 2, 1), "features: .* stride = -3"),
    "dtype code": ("class_sums", ((X.data_ptr(), 2, 4, 3, 3), Y.data_ptr(), 2, 1), "features: unknown dtype code 2"),
    "negative dtype code": ("class_sums", ((X.data_ptr(), -1, 4, 3, 3), Y.data_ptr(), 2, 1), "features: .* code -1"),
    "null features": ("class_sums", ((0, 0, 4, 3, 3), Y.data_ptr(), 2, 1), "features: the address is null"),
    "null labels": ("class_sums", (ADDRESS, 0, 2, 1), "labels: the address is null"),
    "no classes": ("class_sums", (ADDRESS, Y.data_ptr(), 0, 1), "n_classes: expected at least 1, got 0"),
    "negative classes": ("class_sums", (ADDRESS, Y.data_ptr(), -2, 1), "n_classes: expected at least 1, got -2"),
    "no threads": ("class_sums", (ADDRESS, Y.data_ptr(), 2, 0), "threads: expected at least 1, got 0"),
    "scores: negative n": ("class_scores", ((1, 0, -1, 3, 3), 0, MEAN, True, False, 1), "features: expected n >= 0"),
    "scores: null": ("class_scores", ((0, 0, 4, 3, 3), 0, MEAN, True, False, 1), "features: the address is null"),
    "scores: no threads": ("class_scores", (ADDRESS, 0, MEAN, True, False, 0), "threads: expected at least 1, got 0"),
    "mean rank": ("class_scores", (ADDRESS, 0, MEAN[0], True, False, 1), "mean: expected shape .* got 1 dimensions"),
    "mean columns": ("class_scores", (ADDRESS, 0, MEAN.T.copy(), True, False, 1), "mean: expected 3 columns .* got 2"),
    "no means": ("class_scores", (ADDRESS, 0, MEAN[:0], True, False, 1), "n_classes: expected at least 1, got 0"),
    "gram, no labels": ("class_scores", (ADDRESS, 0, MEAN, True, True, 1), "gram: needs labels"),
    "level": ("set_level", ("mmx",), "level: .* no 'mmx'"),
}


@pytest.mark.skipif(not LEVELS, reason="the native extension is not built")
@pytest.mark.parametrize("case", HOSTILE)
def test_the_extension_refuses_hostile_calls(case):
    function, arguments, message = HOSTILE[case]
    with pytest.raises(ValueError, match=message):
        getattr(ops._core, function)(*arguments)


@pytest.mark.parametrize("shape", [(2, 4), (3,), (2, 3, 1)])
def test_means_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"means: expected shape \(C, 3\) as features, got \("):
        ops.class_scores(X, Y, torch.zeros(shape))


@pytest.mark.parametrize(
    ("labels", "said"), [([0, 1, 2, -1], "got 2 at index 2"), ([0, -5, 9, 0], "got -5 at index 1")]
)
def test_both_passes_name_the_first_label_out_of_range(passes, labels, said):
    y = torch.tensor(labels)
    with pytest.raises(ValueError, match=rf"labels: expected values in \[0, 2\), {said}"):
        passes[0](X, y, 2)
    with pytest.raises(ValueError, match=rf"labels: expected values in \[0, 2\), {said}"):
        passes[1](X, y, torch.zeros((2, 3), dtype=torch.float64), True, False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("with_labels", [True, False], ids=["labels", "no labels"])
@pytest.mark.parametrize("gram", [True, False], ids=["gram", "no gram"])
def test_the_registered_ops_pass_opcheck(dtype, with_labels, gram):
    x, y = example(9, 5, 3, dtype=dtype)
    mean = torch.randn((3, 5), dtype=torch.float64)
    torch.library.opcheck(torch.ops.ncharness.class_sums.default, (x, y, 3))
    torch.library.opcheck(torch.ops.ncharness.class_sums.default, (x[:0], y[:0], 3))
    scores = torch.ops.ncharness.class_scores.default
    torch.library.opcheck(scores, (x, y if with_labels else None, mean, not gram, gram and with_labels))


def test_compiled_without_a_graph_break_everything_equals_eager():
    def everything(x, y):
        found = measure(x, y, 5)
        stats = class_stats(x, y, 5)
        return found.nearest, found.cdnv, stats.mean, stats.scatter, stats.variance, cdnv(stats), ncc(x, stats)

    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (300, 40):
        x, y = example(n, 17, 5)
        for got, expected in zip(compiled(x, y), everything(x, y), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


def test_features_and_means_that_require_gradients_are_measured_without_them():
    x, y = example(9, 5, 3)
    expected = measure(x, y, 3, gram=True)
    found = measure(x.clone().requires_grad_(), y, 3, gram=True)
    assert_equal_bits(found, expected)
    assert not found.stats.mean.requires_grad
    mean = expected.stats.mean.nan_to_num().requires_grad_()
    assert torch.equal(ops.class_scores(x, y, mean)[0], ops.class_scores(x, y, mean.detach())[0])


WITHOUT_EXTENSION = """
import sys
sys.modules["ncharness._core"] = None
import torch
from ncharness import backend, measure
x, y = torch.load(sys.argv[1])
found = measure(x, y, 5, gram=True)
torch.save([found.nearest, found.cdnv, found.nc1, found.directional_cdnv, *backend()], sys.argv[2])
"""


def test_without_the_extension_the_reference_serves_and_says_why(tmp_path):
    x, y = example(300, 17, 5)
    torch.save((x, y), tmp_path / "in.pt")
    script = [sys.executable, "-c", WITHOUT_EXTENSION, str(tmp_path / "in.pt"), str(tmp_path / "out.pt")]
    subprocess.run(script, check=True, cwd=Path(ops.__file__).parents[1])
    *values, name, reason = torch.load(tmp_path / "out.pt")
    assert name == "torch"
    assert "the native extension could not be imported" in reason
    found = measure(x, y, 5, gram=True)
    torch.testing.assert_close(values, [found.nearest, found.cdnv, found.nc1, found.directional_cdnv])


@pytest.mark.skipif(not LEVELS, reason="the native extension is not built")
def test_backend_names_the_instruction_set_in_use(passes):  # noqa: ARG001  # sets the level
    assert backend() == ("cpu", f"native kernels, instruction set {ops._core.level()} of {', '.join(LEVELS)}")
