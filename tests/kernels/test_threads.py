"""Threads and processes: the same bits for any number of threads, forks, the GIL, and memory."""

import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from ncharness import ClassStats, measure
from ncharness.bench.timing import threads
from ncharness.kernels import cpu, ops, pointers

LEVELS = cpu._core.levels() if cpu._core else []
SOURCES = Path(__file__).parents[2] / "csrc"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
native_only = pytest.mark.skipif(not LEVELS, reason="the native extension is not built")
# n * d is enough for three threads: rows as they come, by class, one dtype each; few classes, panels, 8 groups at once.
LARGE = [
    (3001, 150, 1, torch.float32),
    (701, 600, 10, torch.float32),
    (3072, 129, 40, torch.bfloat16),
    (901, 513, 12, torch.float64),
    (420, 1030, 140, torch.float16),
]


def example(n, d, n_classes, dtype=torch.float32):
    """Draw rows around random class centres, far from the origin."""
    rng = np.random.default_rng([n, d, n_classes])
    y = rng.permutation(np.arange(n) % n_classes)
    x = 10 + rng.standard_normal((n_classes, d))[y] + rng.standard_normal((n, d))
    return torch.from_numpy(x).to(dtype), torch.from_numpy(y), n_classes


def outputs(x, y, n_classes):
    found = measure(x, y, n_classes, gram=True)
    return [found.nearest, found.stats.mean, found.stats.scatter, found.gram, found.directional, found.cdnv]


def assert_same_bits(got, expected):
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.fixture(params=LEVELS or ["reference"])
def level(request):
    """Set each instruction set in turn."""
    if request.param == "reference":
        yield request.param
        return
    before = cpu._core.level()
    cpu._core.set_level(request.param)
    yield request.param
    cpu._core.set_level(before)


@pytest.mark.parametrize("shape", LARGE, ids=str)
@pytest.mark.usefixtures("level")
def test_the_same_input_and_thread_count_give_the_same_bits(shape):
    rows = example(*shape)
    with threads(1):
        alone = outputs(*rows)
    for count in (1, 2, 3, 7):
        with threads(count):
            first = outputs(*rows)
            for _ in range(3):
                assert_same_bits(outputs(*rows), first)
        assert torch.equal(first[0], alone[0])
        for got, expected in zip(first[1:], alone[1:], strict=True):
            largest = float(expected.abs().max().nan_to_num())  # one class has no CDNV
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12 * largest, equal_nan=True)


@pytest.mark.parametrize("shape", LARGE, ids=str)
@pytest.mark.usefixtures("level")
def test_statistics_do_not_depend_on_the_batches_or_the_threads_that_add_them(shape):
    x, y, n_classes = example(*shape)
    with threads(1):
        whole = ClassStats.empty(n_classes, x.shape[1]).update(x, y)
    for count, cuts in ((3, [len(x) // 2 + 1]), (2, [1, 2, 500]), (1, list(range(0, len(x), 97)))):
        with threads(count):
            stats = ClassStats.empty(n_classes, x.shape[1])
            for rows in torch.arange(len(x)).tensor_split(cuts):
                stats.update(x[rows], y[rows])
        assert torch.equal(stats.count, whole.count)
        torch.testing.assert_close(stats.mean, whole.mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(stats.scatter, whole.scatter, rtol=1e-12, atol=0)


def test_a_bad_label_in_any_thread_s_rows_is_the_first_that_is_named():
    x, y, n_classes = example(*LARGE[1])
    with threads(3):
        for bad in ([5], [300], [700], [650, 250], [0, 700]):
            labels, stats = y.clone(), ClassStats.empty(n_classes, x.shape[1])
            labels[bad] = n_classes
            with pytest.raises(ValueError, match=f"^labels: .* got {n_classes} at index {min(bad)}$"):
                stats.update(x, labels)
            assert not stats.count.any()
            assert stats.mean.isnan().all()
            assert not stats.scatter.any()


def test_concurrent_calls_from_python_threads_give_the_same_bits():
    tables = [example(*shape) for shape in LARGE]
    with threads(2):
        expected = [outputs(*rows) for rows in tables]
        turns = [(start + i) % len(tables) for start in range(4) for i in range(6)]
        with ThreadPoolExecutor(4) as pool:
            for turn, found in zip(turns, pool.map(lambda turn: outputs(*tables[turn]), turns), strict=True):
                assert_same_bits(found, expected[turn])


@native_only
def test_threads_that_have_gone_to_sleep_or_were_never_there_change_no_bit():
    rows = example(*LARGE[1])
    with threads(3):
        first = outputs(*rows)
        for pause in (0, 0.00005, 0.0002, 0.01):
            for _ in range(5):
                time.sleep(pause)
                assert_same_bits(outputs(*rows), first)


def test_one_set_of_prepared_centres_serves_several_python_threads():
    x, y, n_classes = example(*LARGE[3])
    means = measure(x, y, n_classes).stats.mean
    nearest = ops.nearest_centre(means)
    rows = [part.to(dtype) for dtype in (torch.float64, torch.float32, torch.float16) for part in x.split(111)]
    expected = [ops.class_scores(part, None, means)[0] for part in rows]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(nearest, rows * 3), expected * 3, strict=True):
            assert torch.equal(found, alone)


def calls_of_the_extension(x, y, n_classes):
    """Return objects to keep alive, and each entry point as a call in which only the kernel releases the GIL."""
    stats = ClassStats.empty(n_classes, x.shape[1]).update(x, y)
    into = stats.count.data_ptr(), stats.mean.data_ptr(), stats.scatter.data_ptr()
    means = stats.mean.data_ptr(), n_classes, x.shape[1], False, True, 1
    nearest, square = torch.empty_like(y), torch.empty((2, n_classes, n_classes), dtype=torch.float64)
    outs = nearest.data_ptr(), square[0].data_ptr(), square[1].data_ptr()
    features, labels, centres = pointers.of_features(x), pointers.of_labels(y), cpu._core.Centres(*means)
    return (x, y, stats, nearest, square), {
        "class_stats": lambda: cpu._core.class_stats(features, labels, n_classes, 1, *into),
        "measure": lambda: cpu._core.measure(features, labels, n_classes, True, 1, *into, *outs),
        "add_rows": lambda: cpu._core.add_rows(features, labels, n_classes, 1, *into),
        "Centres": lambda: cpu._core.Centres(*means),
        "class_scores": lambda: cpu._core.class_scores(features, labels, centres, 1, *outs),
        "cdnv": lambda: cpu._core.cdnv(*into, n_classes, x.shape[1], 1),
        "read": lambda: cpu._core.read(features, 1),
    }


@native_only
@pytest.mark.parametrize("name", ["class_stats", "measure", "add_rows", "Centres", "class_scores", "cdnv", "read"])
def test_other_python_threads_run_during_a_call(name):
    kept, calls = calls_of_the_extension(*example(3000, 300, 300))
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(None)
            time.sleep(0)  # hands the GIL back

    before = sys.getswitchinterval()
    other = threading.Thread(target=tick)
    other.start()
    try:
        while not ticks:
            time.sleep(0.001)
        # From here on nobody has to give the GIL up, so that the other thread runs only where a call lets it.
        sys.setswitchinterval(1000)
        waited = 0
        while waited < 500:
            seen = len(ticks)
            calls[name]()
            if len(ticks) > seen:
                break
            waited += 1
    finally:
        sys.setswitchinterval(before)
        stop.set()
        other.join()
    assert waited < 500, f"{name} keeps the GIL"
    del kept


FORK = """
import os, pickle, sys, torch
from ncharness import measure
x, y, n_classes = torch.load(sys.argv[1])
torch.set_num_threads(3)
def outputs():
    found = measure(x, y, n_classes, gram=True)
    return [part.numpy() for part in (found.nearest, found.stats.mean, found.stats.scatter, found.gram)]
expected = outputs()
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    with os.fdopen(writer, "wb") as pipe:
        pickle.dump(outputs(), pipe)
    os._exit(0)
os.close(writer)
with os.fdopen(reader, "rb") as pipe:
    found = pickle.load(pipe)
assert os.waitpid(child, 0)[1] == 0
for mine in (found, outputs()):
    assert all((a == b).all() for a, b in zip(mine, expected, strict=True))
"""

FORK_AMID = """
import os, sys, threading, torch
from ncharness import measure
x, y, n_classes = torch.load(sys.argv[1])
torch.set_num_threads(3)
expected = measure(x, y, n_classes, gram=True)
stop = threading.Event()
def keep_calling():
    while not stop.is_set():
        measure(x, y, n_classes, gram=True)
busy = threading.Thread(target=keep_calling)
busy.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(int(not torch.equal(measure(x, y, n_classes, gram=True).nearest, expected.nearest)))
    assert os.waitpid(child, 0)[1] == 0
stop.set()
busy.join()
assert torch.equal(measure(x, y, n_classes, gram=True).gram, expected.gram)
"""


def run_script(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        timeout=120,
        cwd=Path(ops.__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@native_only  # torch's own thread pool does not survive a fork
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_the_same_bits(tmp_path):
    torch.save(example(*LARGE[1]), tmp_path / "in.pt")
    run_script(FORK, tmp_path / "in.pt")


@native_only
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_amid_other_calls_leaves_parent_and_child_working(tmp_path):
    torch.save(example(*LARGE[1]), tmp_path / "in.pt")
    run_script(FORK_AMID, tmp_path / "in.pt")


@pytest.fixture(scope="module")
def run_parts(tmp_path_factory):
    """Build run_parts.cpp."""
    program = tmp_path_factory.mktemp("run_parts") / "run_parts"
    sources = Path(__file__).with_name("run_parts.cpp"), SOURCES / "threads.cpp"
    subprocess.run([COMPILER, "-std=c++17", "-pthread", f"-I{SOURCES}", *sources, "-o", program], check=True)
    return program


PROMISES = ["side by side", "kept from call to call", "exceptions", "after a fork", "no thread to be had"]


@pytest.mark.skipif(not COMPILER or not SOURCES.is_dir(), reason="there is no C++ compiler, or no source")
@pytest.mark.parametrize("promise", PROMISES)
def test_each_part_of_a_call_runs_once_and_the_threads_keep_their_promises(run_parts, promise):
    done = subprocess.run([run_parts, promise], timeout=180, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this system cannot bring it about")
    assert done.returncode == 0, done.stderr


MEMORY = """
import sys, torch
from ncharness import measure
from ncharness.kernels import ops
def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(field))
n, d, n_classes, gram = map(int, sys.argv[1:])
torch.set_num_threads(2)
y = torch.arange(n) % n_classes
x = torch.empty(n, d).uniform_()
measure(x[:64], y[:64], n_classes, gram=bool(gram))
before = memory("VmRSS")
found = measure(x, y, n_classes, gram=bool(gram))
print(max(memory("VmHWM") - before, 0))
"""


@native_only
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says how much memory was used at most")
@pytest.mark.parametrize(("n_classes", "gram"), [(500, 0), (100, 1)])
def test_memory_grows_with_classes_and_threads_alone(n_classes, gram):
    n, d, count = 100_000, 256, 2
    grown = int(run_script(MEMORY, n, d, n_classes, gram))
    # Two tables of class sums for each thread, three of means and centres, some of C x C, and the labels found.
    allowed = 8 * (2 * count + 4) * n_classes * d + 8 * (2 * count + 6) * n_classes**2 * gram + 8 * n
    assert grown <= allowed + (4 << 20), f"{grown / 1e6:.1f} MB, allowed {allowed / 1e6:.1f} MB and what libraries take"
    for forbidden in (4 * n * n_classes, 4 * n * d):
        assert allowed + (4 << 20) < forbidden / 2  # else this test could not tell
