"""Kernels on a CUDA device; `pytest -m gpu` runs only these. test_emulation.py runs the code on the CPU."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ncharness as nc
from ncharness.kernels import cuda, ops, reference
from ncharness.kernels.merging import first_bad_label

if not torch.cuda.is_available():
    pytest.skip("torch finds no CUDA device", allow_module_level=True)
if not cuda.available():
    pytest.skip("the native extension was built without nvcc", allow_module_level=True)
if torch.cuda.get_device_capability() < cuda.LEAST_CAPABILITY:
    pytest.skip("the kernels need compute capability 8.0", allow_module_level=True)
pytestmark = pytest.mark.gpu
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Rows, features, classes: whole and odd vectors, few long rows, every way of scoring, more classes than rows.
SHAPES = [
    (1, 1, 1),
    (1000, 33, 4),
    (5000, 512, 10),
    (64, 25_600, 10),
    (3000, 130, 13),
    (2000, 257, 31),
    (4000, 512, 100),
    (3000, 2048, 1000),
    (50, 7, 3000),
    (200_000, 16, 10),
]


def example(n, d, n_classes, dtype=torch.float32, *, offset=0.0, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    y = torch.randint(n_classes, (n,), generator=generator, device="cuda")
    centres = 2 * torch.randn(n_classes, d, generator=generator, device="cuda")
    x = centres[y] + torch.randn(n, d, generator=generator, device="cuda") + offset
    return x.to(dtype), y


def on_cpu(tensors):
    return [tensor.cpu() for tensor in tensors]


def assert_agree(got, expected, *, float64, clear):
    """Compare count, mean, scatter, nearest, gram, directional with the reference; labels only for clear rows."""
    got, expected = on_cpu(got), on_cpu(expected)
    assert torch.equal(got[0], expected[0])
    largest = float(expected[1].nan_to_num().abs().max())
    torch.testing.assert_close(got[1], expected[1], rtol=1e-12, atol=1e-12 * largest, equal_nan=True)
    torch.testing.assert_close(got[2], expected[2], rtol=1e-9, atol=0)
    assert torch.equal(got[3][clear], expected[3][clear])
    for mine, true in zip(got[4:], expected[4:], strict=True):
        rtol = 1e-10 if float64 else 1e-5
        torch.testing.assert_close(mine, true, rtol=rtol, atol=rtol * float(true.abs().max()) if len(true) else 0)


def clear_rows(x, means):
    """Return the rows whose two smallest distances differ by more than 1e-5 of them, or which have only one."""
    if len(means) < 2:
        return torch.ones(len(x), dtype=torch.bool)
    shift = means.nanmean(dim=0)
    x, means = x.double().cpu() - shift.cpu(), (means - shift).cpu()
    filled = means.isfinite().all(dim=1)
    if int(filled.sum()) < 2:
        return torch.ones(len(x), dtype=torch.bool)
    two = torch.cdist(x, means[filled]).topk(2, dim=1, largest=False).values
    return two[:, 1] - two[:, 0] > 1e-5 * two[:, 0]


def test_the_kernels_serve_this_device():
    assert ops.backend("cuda").name == "cuda", ops.backend("cuda").reason


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_both_passes_agree_with_the_reference(shape, dtype, offset):
    n, d, n_classes = shape
    if offset and dtype in (torch.float16, torch.bfloat16):
        offset = 30.0  # more has no room in these
    x, y = example(n, d, n_classes, dtype, offset=offset)
    x_cpu, y_cpu = x.cpu(), y.cpu()
    expected = ops.measure(x_cpu, y_cpu, n_classes, True)
    assert_agree(
        ops.measure(x, y, n_classes, True),
        expected,
        float64=dtype == torch.float64,
        clear=clear_rows(x_cpu, expected[1]),
    )


def test_labels_are_those_of_float64_wherever_they_are_clear():
    for n_classes in (10, 100, 1000):
        x, y = example(20_000, 300, n_classes, offset=1e3)
        count, mean, _scatter = ops.class_stats(x, y, n_classes)
        assert int(count.sum()) == len(x)
        true = reference.class_scores(x.double(), None, mean, False)[0]
        clear = clear_rows(x, mean)
        assert clear.double().mean() > 0.99
        assert torch.equal(ops.class_scores(x, None, mean)[0].cpu()[clear], true.cpu()[clear])


def test_rows_of_any_stride_and_labels_of_any_type():
    x, y = example(5000, 300, 7)
    x = x[:, 3:260]
    expected = ops.measure(x.cpu(), y.cpu(), 7, True)
    for label_type in (torch.int64, torch.int32, torch.uint8, torch.int16):
        found = ops.measure(x, y.to(label_type), 7, True)
        assert_agree(found, expected, float64=False, clear=clear_rows(x, expected[1]))


def test_batches_add_up():
    x, y = example(10_000, 257, 20)
    stats = nc.ClassStats.empty(20, 257, device="cuda")
    for rows, labels in zip(x.split(1111), y.split(1111), strict=True):
        stats.update(rows, labels)
    true = nc.class_stats(x.cpu(), y.cpu(), 20)
    assert torch.equal(stats.count.cpu(), true.count)
    torch.testing.assert_close(stats.mean.cpu(), true.mean, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(stats.scatter.cpu(), true.scatter, rtol=1e-10, atol=0)


@pytest.mark.parametrize("labels", ["one class", "zipf"])
def test_skewed_labels(labels):
    x, y = example(60_000, 64, 50)
    y = torch.zeros_like(y) if labels == "one class" else (50 * torch.rand(len(y), device="cuda").pow(4)).long()
    expected = ops.measure(x.cpu(), y.cpu(), 50, True)
    assert_agree(ops.measure(x, y, 50, True), expected, float64=False, clear=clear_rows(x, expected[1]))


@pytest.mark.parametrize("n_classes", [10, 200])
def test_the_same_input_gives_the_same_bits(n_classes):
    x, y = example(50_000, 200, n_classes)
    first = ops.measure(x, y, n_classes, True)
    for _ in range(20):
        assert all(torch.equal(a, b) for a, b in zip(first, ops.measure(x, y, n_classes, True), strict=True))


@pytest.mark.parametrize("n_classes", [10, 200])
def test_work_is_on_the_stream_of_the_caller(n_classes):
    """Features appear on the side stream only after a long wait there: a kernel on another stream would see zeros."""
    x, y = example(4000, 300, n_classes)
    expected = ops.measure(x, y, n_classes, True)
    late, side = torch.zeros_like(x), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)
        late.copy_(x)
        found = ops.measure(late, y, n_classes, True)
        value = ops.cdnv(*found[:3])
    side.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(value, ops.cdnv(*expected[:3]))


@pytest.mark.parametrize("gram", [False, True])
def test_nothing_waits_for_the_device(gram):
    x, y = example(3000, 100, 60)

    def work():
        found = ops.measure(x, y, 60, gram)
        ops.cdnv(*found[:3])
        ops.class_update(x, y, *found[:3])

    work()
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # a second or so
    work()
    assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()


def test_a_scorer_may_be_used_on_several_streams_and_outside_the_graph_it_was_first_used_in():
    x, y = example(2000, 100, 12)
    mean = ops.class_stats(x, y, 12)[1]
    true = ops.class_scores(x, None, mean)[0]
    nearest = ops.nearest_centre(mean)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = nearest(x)
    assert torch.equal(nearest(x), true)
    graph.replay()
    assert torch.equal(captured, true)
    for _ in range(3):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            found = nearest(x)
        side.synchronize()
        assert torch.equal(found, true)
    mean += 100  # the means as they were count
    assert torch.equal(nearest(x), true)


@pytest.mark.parametrize("n_classes", [10, 200])
def test_a_graph_replays_on_new_features(n_classes):
    x, y = example(3000, 300, n_classes)
    other, labels = example(3000, 300, n_classes, seed=1)
    at, at_labels = x.clone(), y.clone()
    nc.measure(at, at_labels, n_classes, gram=True)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = nc.measure(at, at_labels, n_classes, gram=True)
        value = found.cdnv
    for features, of in ((x, y), (other, labels), (x, y)):
        at.copy_(features)
        at_labels.copy_(of)
        graph.replay()
        true = nc.measure(features, of, n_classes, gram=True)
        assert torch.equal(found.nearest, true.nearest)
        assert torch.equal(found.stats.mean, true.stats.mean)
        assert torch.equal(found.gram, true.gram)
        assert torch.equal(value, true.cdnv)


def test_a_label_out_of_range_is_an_error_and_spoils_the_statistics():
    x, y = example(2000, 30, 5)
    bad = y.clone()
    bad[[1500, 700]] = torch.tensor([5, -3], device="cuda")
    for call in (nc.class_stats, nc.measure):
        with pytest.raises(ValueError, match=r"labels: expected values in \[0, 5\), got -3 at index 700"):
            call(x, bad, 5)
    stats = nc.class_stats(x, y, 5)
    with pytest.raises(ValueError, match="got -3 at index 700"):
        stats.update(x, bad)
    assert first_bad_label(stats.count) == 700
    with pytest.raises(ValueError, match="an earlier batch had another at index 700"):
        stats.update(x, y)


def test_nan_features_are_reported_and_stay_in_their_class():
    x, y = example(2000, 30, 5)
    x[int((y == 3).nonzero()[0]), 4] = torch.nan
    with pytest.warns(RuntimeWarning, match="class 3"):
        found = nc.measure(x, y, 5)
    assert found.stats.mean[[0, 1, 2, 4]].isfinite().all()
    assert not (found.nearest == 3).any()


def test_memory_that_is_not_there_is_torch_s_error_and_the_next_call_works():
    x, y = example(2000, 30, 5)
    expected = ops.measure(x, y, 5, False)
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (64 << 20)) / total)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            ops.measure(x, y, 2_000_000, False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert all(torch.equal(a, b) for a, b in zip(expected, ops.measure(x, y, 5, False), strict=True))


@pytest.mark.parametrize("n_classes", [1, 2, 100])
def test_cdnv(n_classes):
    x, y = example(3000, 90, n_classes)
    y[y == 1] = 0
    found = nc.class_stats(x, y, n_classes)
    true = nc.class_stats(x.cpu(), y.cpu(), n_classes)
    torch.testing.assert_close(nc.cdnv(found).cpu(), nc.cdnv(true), rtol=1e-10, atol=0, equal_nan=True)


@pytest.mark.parametrize("gram", [False, True])
def test_opcheck_and_compile(gram):
    x, y = example(400, 20, 6)
    torch.library.opcheck(torch.ops.ncharness.measure.default, (x, y, 6, gram))
    stats = ops.class_stats(x, y, 6)
    torch.library.opcheck(torch.ops.ncharness.class_update.default, (x, y, *stats))
    torch.library.opcheck(torch.ops.ncharness.cdnv.default, stats)
    compiled = torch.compile(lambda a, b: nc.measure(a, b, 6, gram=gram).nearest, fullgraph=True)
    assert torch.equal(compiled(x, y), ops.measure(x, y, 6, gram)[3])


def test_measure_layers_on_the_device():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 5))
    x, y = torch.randn(600, 20), torch.arange(600) % 5
    there = nc.measure_layers(
        model.cuda(), list(zip(x.cuda().split(100), y.cuda().split(100), strict=True)), layers=["0", "2"], n_classes=5
    )
    here = nc.measure_layers(
        model.cpu(), list(zip(x.split(100), y.split(100), strict=True)), layers=["0", "2"], n_classes=5
    )
    assert there.ncc_error == pytest.approx(here.ncc_error, abs=0.01)
    assert there.cdnv == pytest.approx(here.cdnv, rel=1e-3)


def test_numpy_stays_on_the_cpu():
    assert not nc.class_stats(np.zeros((4, 3), np.float32), np.arange(4), 4).mean.is_cuda


SANITIZED = """
import torch
from ncharness.kernels import ops
few, many = [(300, 33, 5, "float32"), (64, 3000, 10, "float16")], [(150, 70, 40, "bfloat16"), (200, 50, 300, "float32")]
for n, d, n_classes, dtype in [*few, *many, (90, 20, 60, "float64")]:
    y = torch.arange(n, device="cuda") % n_classes
    x = torch.randn(n, d, device="cuda").to(getattr(torch, dtype))
    found = ops.measure(x, y, n_classes, True)
    ops.cdnv(*found[:3])
    torch.cuda.synchronize()
"""


@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="there is no compute-sanitizer")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_the_sanitizer_finds_nothing(tool):
    # The allocator's cache would hide what is read too far. What torch's own kernels do is no matter of ours, but for
    # what they initialise.
    ours = [] if tool == "initcheck" else ["--kernel-name", "kns=ncharness"]
    of_tool = ["--report-api-errors", "no"] if tool == "memcheck" else []
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *ours, *of_tool]
    done = subprocess.run(
        [*command, sys.executable, "-c", SANITIZED],
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        cwd=Path(ops.__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
