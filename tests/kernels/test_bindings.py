"""Arguments from outside: any layout of the matrix, hostile calls, torch's own checks, a missing extension."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ncharness import ClassStats, backend, cdnv, class_stats, measure, ncc
from ncharness.kernels import cpu, ops, reference

LEVELS = cpu._core.levels() if cpu._core else []
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def example(n, d, n_classes, *, dtype=torch.float32, seed=0):
    """Draw rows around random class centres; from three classes on, class 1 has no rows."""
    rng = np.random.default_rng([seed, n, d, n_classes])
    y = rng.integers(0, n_classes, n)
    y[(y == 1) & (n_classes > 2)] = 0
    x = rng.standard_normal((n_classes, d))[y] + rng.standard_normal((n, d))
    return torch.from_numpy(x).to(dtype), torch.from_numpy(y)


# --- layouts ----------------------------------------------------------------------------------------------------------


def assert_equal_bits(got, expected):
    """Check that two measurements agree bit for bit."""
    for name in ("nearest", "labels", "gram", "directional"):
        ours, theirs = getattr(got, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    for name in ("count", "mean", "scatter"):
        ours, theirs = getattr(got.stats, name), getattr(expected.stats, name)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def _padded(x):
    padded = torch.full((x.shape[0], x.shape[1] + 9), torch.nan, dtype=x.dtype)
    padded[:, 5:-4] = x
    return padded[:, 5:-4]


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_bits_of_the_contiguous_matrix(layout, dtype):
    for d in (21, 150):  # with panels, and without
        x, y = example(37, d, 5, dtype=dtype)
        laid_out = LAYOUTS[layout](x)
        assert_equal_bits(measure(laid_out, y.numpy(), 5, gram=True), measure(x, y, 5, gram=True))
        stats = class_stats(x, y, 5)
        assert torch.equal(ncc(laid_out, stats), ncc(x, stats))


def test_the_bits_that_are_read_do_not_depend_on_where_they_lie():
    for dtype in (torch.float32, torch.float64, torch.float16):
        x = torch.randn((37, 21)).to(dtype)
        assert ops.read(_unaligned(x)) == ops.read(x) == ops.read(x.clone()) != 0
        assert ops.read(x[:0]) == 0
        assert ops.read(_padded(x)) == ops.read(torch.cat([x, x], dim=1)[:, :21])


def test_one_row_or_column_may_have_a_negative_stride():
    # numpy calls such an array contiguous, and torch refuses it.
    for shape in ((1, 5), (5, 1), (1, 1), (0, 5)):
        x = np.random.default_rng(0).standard_normal(shape)
        y = np.zeros(shape[0], dtype=np.int64)
        assert_equal_bits(measure(x[::-1, ::-1], y[::-1], 1), measure(x[::-1, ::-1].copy(), y, 1))


def test_rows_that_overlap_are_read_as_they_lie():
    y = example(37, 21, 5)[1]
    for dtype in FLOATS:
        windows = torch.randn(300).to(dtype).as_strided((37, 21), (7, 1))
        assert ops.as_features(windows).data_ptr() == windows.data_ptr()
        assert_equal_bits(measure(windows, y, 5, gram=True), measure(windows.clone(), y, 5, gram=True))


def test_bfloat16_views_into_bytes_are_read_wherever_they_lie():
    x, y = example(37, 21, 5, dtype=torch.bfloat16)
    matrix = torch.zeros(x.numel() * 2 + 1, dtype=torch.uint8)
    matrix[1:] = x.flatten().view(torch.uint8)
    view = torch.frombuffer(matrix.numpy(), dtype=torch.bfloat16, offset=1, count=x.numel()).view(x.shape)
    assert view.data_ptr() % 2 == 1
    assert_equal_bits(measure(view, y, 5, gram=True), measure(x, y, 5, gram=True))


def test_a_negated_view_is_measured_as_what_it_stands_for():
    negated = torch._neg_view(torch.randn(37, 21))  # as the imaginary part of a conjugate is
    assert negated.is_neg()  # the sign is kept apart from the bits
    y = example(37, 21, 5)[1]
    assert_equal_bits(measure(negated, y, 5, gram=True), measure(negated.clone(), y, 5, gram=True))
    means = class_stats(negated, y, 5).mean
    assert torch.equal(ops.nearest_centre(means)(negated), ops.nearest_centre(means)(negated.clone()))
    assert torch.equal(ops.nearest_centre(torch._neg_view(-means))(negated), ops.nearest_centre(means)(negated))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_one_row_expanded_over_all_is_read_with_stride_zero(dtype):
    x, y = torch.randn((1, 21)).to(dtype).expand(37, 21), example(37, 21, 5)[1]
    assert ops.as_features(x).stride(0) == 0
    assert_equal_bits(measure(x, y, 5, gram=True), measure(x.contiguous(), y, 5, gram=True))
    assert_equal_bits(measure(x[:, :1].expand(37, 21), y, 5), measure(x[:, :1].repeat(1, 21), y, 5))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", ">i8"])
def test_labels_may_be_any_integers_in_any_layout(dtype):
    x, y = example(37, 21, 5)
    labels = np.repeat(y.numpy().astype(dtype), 3)[::3]
    for given in (labels, labels[::-1].copy()[::-1]):
        found, expected = measure(x, given, np.int64(5), gram=True), measure(x, y, 5, gram=True)
        assert found.labels.tolist() == y.tolist()
        assert_equal_bits(replace(found, labels=y), expected)
    unaligned = np.frombuffer(b"\0" + labels.tobytes(), dtype=labels.dtype, offset=1)
    assert torch.equal(measure(x, unaligned, 5).stats.mean.nan_to_num(), expected.stats.mean.nan_to_num())


def test_a_read_only_file_is_measured_without_a_copy_or_a_warning(tmp_path):
    x, y = example(37, 21, 5)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert ops.as_features(mapped).data_ptr() == mapped.ctypes.data
    assert_equal_bits(measure(mapped, y, 5), measure(x, y, 5))


# --- hostile calls ----------------------------------------------------------------------------------------------------

X, Y = torch.zeros((4, 3)), torch.zeros(4, dtype=torch.int64)
MEAN = torch.zeros((2, 3), dtype=torch.float64)
COUNT, SCATTER = torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.float64)
SQUARES, FOUND = torch.zeros((2, 2, 2), dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
NEAREST, SQUARE = FOUND.data_ptr(), SQUARES.data_ptr()
F, L = (X.data_ptr(), 0, 4, 3, 3), (Y.data_ptr(), 0)
INTO = (COUNT.data_ptr(), MEAN.data_ptr(), SCATTER.data_ptr())


def add_rows(features=F, labels=L, n_classes=2, threads=1, into=INTO):
    cpu._core.add_rows(features, labels, n_classes, threads, *into)


def measured(features=F, labels=L, n_classes=2, threads=1, into=INTO, out=(NEAREST, 0, 0), gram=False):
    cpu._core.measure(features, labels, n_classes, gram, threads, *into, *out)


def scores(features=F, labels=L, threads=1, nearest=NEAREST, gram=0, directional=0, prepared=""):
    centres = cpu._core.Centres(MEAN.data_ptr(), 2, 3, prepared == "float64", prepared == "gram", 1)
    cpu._core.class_scores(features, labels, centres, threads, nearest, gram, directional)


HOSTILE = {
    "negative n": (lambda: add_rows((F[0], 0, -1, 3, 3)), "features: expected n >= 0"),
    "no columns": (lambda: add_rows((F[0], 0, 4, 0, 3)), "features: .* got n = 4, d = 0"),
    "negative d": (lambda: add_rows((F[0], 0, 4, -3, 3)), "features: .* d = -3"),
    "negative stride": (lambda: add_rows((F[0], 0, 4, 3, -3)), "features: .* stride = -3"),
    "dtype code": (lambda: add_rows((F[0], 4, 4, 3, 3)), "features: unknown dtype code 4"),
    "negative dtype code": (lambda: add_rows((F[0], -1, 4, 3, 3)), "features: unknown dtype code -1"),
    "null features": (lambda: add_rows((0, 0, 4, 3, 3)), "features: the address is null"),
    "unaligned features": (lambda: add_rows((F[0] + 2, 0, 4, 3, 3)), "features: the address is not aligned"),
    "unaligned halves": (lambda: add_rows((F[0] + 1, 2, 4, 3, 3)), "features: the address is not aligned"),
    "null labels": (lambda: add_rows(labels=(0, 0)), "labels: the address is null"),
    "unaligned labels": (lambda: add_rows(labels=(L[0] + 2, 1)), "labels: the address is not aligned"),
    "label code": (lambda: add_rows(labels=(L[0], 3)), "labels: unknown type code 3"),
    "negative label code": (lambda: add_rows(labels=(L[0], -1)), "labels: unknown type code -1"),
    "no classes": (lambda: add_rows(n_classes=0), "n_classes: expected at least 1, got 0"),
    "negative classes": (lambda: add_rows(n_classes=-2), "n_classes: expected at least 1, got -2"),
    "classes beyond int32": (lambda: add_rows(n_classes=2**31), "n_classes: .* got 2147483648"),
    "means beyond memory": (
        lambda: add_rows((F[0], 0, 0, 2**40, 3), n_classes=2**30),
        "mean: expected .* 2.57 elements",
    ),
    "no threads": (lambda: add_rows(threads=0), "threads: expected at least 1, got 0"),
    "null count": (lambda: add_rows(into=(0, *INTO[1:])), "stats: an address is null"),
    "unaligned mean": (lambda: add_rows(into=(INTO[0], INTO[1] + 4, INTO[2])), "mean: the address is not aligned"),
    "null means": (lambda: cpu._core.Centres(0, 2, 3, False, False, 1), "mean: the address is null"),
    "no means": (lambda: cpu._core.Centres(INTO[1], 0, 3, False, False, 1), "n_classes: expected at least 1, got 0"),
    "means of no columns": (lambda: cpu._core.Centres(INTO[1], 2, 0, False, False, 1), "mean: .* got d = 0"),
    "centres, no threads": (
        lambda: cpu._core.Centres(INTO[1], 2, 3, False, False, 0),
        "threads: expected at least 1",
    ),
    "scores: negative n": (lambda: scores((F[0], 0, -1, 3, 3)), "features: expected n >= 0"),
    "scores: null": (lambda: scores((0, 0, 4, 3, 3)), "features: the address is null"),
    "scores: columns": (lambda: scores((F[0], 0, 4, 2, 3)), "features: expected 3 columns as the centres have, got 2"),
    "scores: dtype": (lambda: scores((F[0], 1, 2, 3, 3)), "features: the centres were prepared for another dtype"),
    "scores: float64": (lambda: scores(prepared="float64"), "features: the centres were prepared for another dtype"),
    "scores: no threads": (lambda: scores(threads=0), "threads: expected at least 1, got 0"),
    "scores: no output": (lambda: scores(nearest=0), "nearest: the address is null"),
    "scores: gram unprepared": (lambda: scores(gram=SQUARE), "gram: wanted and prepared for must agree"),
    "scores: gram unwanted": (lambda: scores(prepared="gram"), "gram: wanted and prepared for must agree"),
    "scores: half a gram": (lambda: scores(prepared="gram", gram=SQUARE), "gram: wanted and prepared for"),
    "scores: gram, null labels": (
        lambda: scores(labels=(0, 0), prepared="gram", gram=SQUARE, directional=SQUARE),
        "labels: the address is null",
    ),
    "measure: null": (lambda: measured((0, 0, 4, 3, 3)), "features: the address is null"),
    "measure: null labels": (lambda: measured(labels=(0, 0)), "labels: the address is null"),
    "measure: no classes": (lambda: measured(n_classes=0), "n_classes: expected at least 1, got 0"),
    "measure: no threads": (lambda: measured(threads=0), "threads: expected at least 1, got 0"),
    "measure: null scatter": (lambda: measured(into=(*INTO[:2], 0)), "stats: an address is null"),
    "measure: no output": (lambda: measured(out=(0, 0, 0)), "nearest: the address is null"),
    "measure: unaligned": (lambda: measured(out=(NEAREST + 4, 0, 0)), "nearest: the address is not aligned"),
    "measure: gram unwanted": (lambda: measured(out=(NEAREST, SQUARE, SQUARE)), "gram: wanted and prepared for must"),
    "measure: half a gram": (lambda: measured(out=(NEAREST, SQUARE, 0), gram=True), "gram: wanted and prepared for"),
    "cdnv: null": (lambda: cpu._core.cdnv(0, INTO[1], INTO[2], 2, 3, 1), "stats: an address is null"),
    "cdnv: no classes": (lambda: cpu._core.cdnv(*INTO, 0, 3, 1), "n_classes: expected at least 1, got 0"),
    "cdnv: no threads": (lambda: cpu._core.cdnv(*INTO, 2, 3, 0), "threads: expected at least 1, got 0"),
    "read: null": (lambda: cpu._core.read((0, 0, 4, 3, 3), 1), "features: the address is null"),
    "read: no threads": (lambda: cpu._core.read(F, 0), "threads: expected at least 1, got 0"),
    "level": (lambda: cpu._core.set_level("mmx"), "level: .* no 'mmx'"),
}


@pytest.mark.skipif(not LEVELS, reason="the native extension is not built")
@pytest.mark.parametrize("case", HOSTILE)
def test_the_extension_refuses_hostile_calls(case):
    call, message = HOSTILE[case]
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


@pytest.mark.parametrize("shape", [(2, 4), (3,), (2, 3, 1), (0, 3), ()])
def test_means_of_another_shape_are_refused(shape):
    means = torch.zeros(shape, dtype=torch.float64)
    for call in (lambda: ops.class_scores(X, Y, means), lambda: ops.nearest_centre(means)(X)):
        with pytest.raises(ValueError, match=r"means: expected shape \(C, 3\) as features, got \("):
            call()


BAD_STATS = {
    "dtype": (TypeError, "stats: expected int64 counts, .* got torch.int32", (COUNT.int(), MEAN, SCATTER)),
    "scatter's dtype": (TypeError, "stats: .* torch.float64, torch.float32$", (COUNT, MEAN, SCATTER.float())),
    "mean's dtype": (TypeError, "stats: .* torch.float32, torch.float64$", (COUNT, MEAN.float(), SCATTER)),
    "columns": (ValueError, "features: expected 2 columns as in stats, got 3", (COUNT, MEAN[:, :2].clone(), SCATTER)),
    "classes": (ValueError, r"stats: expected count .* \(1,\), \(2, 3\) and \(2,\)", (COUNT[:1], MEAN, SCATTER)),
    "rank": (ValueError, "stats: expected count", (COUNT, MEAN[0], SCATTER)),
    "none": (ValueError, "stats: expected count", (COUNT[:0], MEAN[:0], SCATTER[:0])),
    "stride": (ValueError, "stats: expected contiguous tensors", (COUNT, MEAN.T.contiguous().T, SCATTER)),
    "expanded": (ValueError, "stats: expected contiguous tensors", (COUNT, MEAN, SCATTER[:1].expand(2))),
    "expanded counts": (ValueError, "stats: expected contiguous tensors", (COUNT[:1].expand(2), MEAN, SCATTER)),
    "devices": (ValueError, "stats: expected one device .* got cpu, meta, cpu", (COUNT, MEAN.to("meta"), SCATTER)),
}


@pytest.mark.parametrize("case", BAD_STATS)
def test_statistics_that_cannot_be_added_to_are_refused(case):
    error, message, stats = BAD_STATS[case]
    with pytest.raises(error, match=f"^{message}"):
        ops.class_update(X, Y, *stats)
    if case != "columns":
        with pytest.raises(error, match=f"^{message}"):
            ops.cdnv(*stats)


BAD_LABELS = [([0, 1, 2, -1], "got 2 at index 2"), ([0, -5, 9, 0], "got -5 at index 1")]
BAD_LABELS += [([0, 0, 0, 2**63 - 1], "got 9223372036854775807 at index 3"), ([-(2**63), 0, 0, 0], "got -92.* index 0")]


@pytest.mark.parametrize("implementation", ["native", "reference"] if LEVELS else ["reference"])
@pytest.mark.parametrize(("labels", "said"), BAD_LABELS)
def test_every_pass_names_the_first_label_out_of_range_and_changes_nothing(labels, said, implementation):
    kernels = cpu if implementation == "native" else reference
    y, stats = torch.tensor(labels), ClassStats.empty(2, 3).update(X + 1, Y)
    before = [part.clone() for part in (stats.count, stats.mean, stats.scatter)]
    message = rf"^labels: expected values in \[0, 2\), {said}"
    with pytest.raises(ValueError, match=message):
        ops.class_stats(X, y, 2, kernels=kernels)
    with pytest.raises(ValueError, match=message):
        ops.class_scores(X, y, MEAN, True, kernels=kernels)
    with pytest.raises(ValueError, match=message):
        ops.class_update(X, y, stats.count, stats.mean, stats.scatter, kernels=kernels)
    for part, was in zip((stats.count, stats.mean, stats.scatter), before, strict=True):
        torch.testing.assert_close(part, was, rtol=0, atol=0, equal_nan=True)
    with pytest.raises(ValueError, match=r"^gram: needs labels"):
        ops.class_scores(X, None, MEAN, True, kernels=kernels)


# --- torch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_registered_ops_pass_opcheck(dtype):
    x, y = example(9, 5, 3, dtype=dtype)[0], torch.arange(9) % 3
    mean, op = torch.randn((3, 5), dtype=torch.float64), torch.ops.ncharness
    stats = torch.ones(3, dtype=torch.int64), torch.zeros((3, 5), dtype=torch.float64), mean[:, 0].exp()
    torch.library.opcheck(op.class_stats.default, (x, y, 3))
    for gram in (False, True):
        torch.library.opcheck(op.measure.default, (x, y, 3, gram))
    for rows in (slice(9), slice(0)):
        torch.library.opcheck(op.class_update.default, (x[rows], y[rows], *(part.clone() for part in stats)))
        for labels, gram in ((None, False), (y[rows].to(torch.uint8), True)):
            torch.library.opcheck(op.class_scores.default, (x[rows], labels, mean, gram))
    torch.library.opcheck(op.cdnv.default, (stats[0], mean, stats[2]))


def test_compiled_without_a_graph_break_everything_equals_eager():
    def everything(x, y):
        found = measure(x, y, 5)
        stats = class_stats(x, y, 5)
        added = ClassStats.empty(5, 17).update(x, y).update(x, y)
        near = ops.nearest_centre(stats.mean)(x)
        return found.nearest, found.cdnv, stats.mean, stats.scatter, cdnv(stats), ncc(x, stats), added.scatter, near

    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (300, 40):
        x, y = example(n, 17, 5)
        for got, expected in zip(compiled(x, y), everything(x, y), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


class Watch(TorchDispatchMode):
    """Records the name of every op that is called."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


OPS = ("class_stats", "class_update", "class_scores", "measure", "cdnv")


def call_every_op(x, y):
    measure(x, y, 5, gram=True)
    stats = class_stats(x, y, 5).update(x, y)
    ncc(x, stats)
    cdnv(stats)


def test_a_dispatch_mode_sees_every_op_by_its_name():
    with Watch() as watch:
        call_every_op(*example(37, 21, 5))
    assert {f"ncharness.{name}.default" for name in OPS} <= watch.seen


@pytest.mark.skipif(not LEVELS, reason="the native extension is not built")
def test_nothing_on_the_cpu_is_left_to_the_reference(monkeypatch):
    def unreachable(*_):
        raise AssertionError("the reference was called")

    for name in OPS:
        monkeypatch.setattr(reference, name, unreachable)
    call_every_op(*example(37, 21, 5))
    with Watch():
        call_every_op(*example(37, 21, 5))


def test_other_devices_and_who_asks_for_it_get_the_reference(monkeypatch):
    (x, y), found = example(37, 21, 5), ()
    monkeypatch.setattr(reference, "measure", lambda *_: found)
    assert ops.measure(x.to("meta"), y.to("meta"), 5) is found
    assert ops.measure(x, y, 5, kernels=reference) is found


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
sys.modules["ncharness.kernels._core"] = None
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
    subprocess.run(script, check=True, cwd=Path(ops.__file__).parents[2])
    *values, name, reason = torch.load(tmp_path / "out.pt")
    assert name == "torch"
    assert "the native extension could not be imported" in reason
    found = measure(x, y, 5, gram=True)
    torch.testing.assert_close(values, [found.nearest, found.cdnv, found.nc1, found.directional_cdnv])


@pytest.mark.skipif(not LEVELS, reason="the native extension is not built")
def test_backend_names_the_instruction_set_in_use():
    before = cpu._core.level()
    for level in LEVELS:
        cpu._core.set_level(level)
        assert backend() == ("cpu", f"native kernels, instruction set {level} of {', '.join(LEVELS)}")
    cpu._core.set_level(before)
