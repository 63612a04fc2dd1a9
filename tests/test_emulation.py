"""The device code, run on the CPU by the emulation in tests/emulation: its answers, not its speed or its races."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from ncharness import reference

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="the emulation is compiled with g++, which is not there")

DTYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
LABEL_TYPES = {torch.int64: 0, torch.int32: 1, torch.uint8: 2}
Address, Size, Code = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The library that csrc/*.cu make with the emulation's headers in CUDA's place."""
    library = tmp_path_factory.mktemp("emulation") / "kernels.so"
    sources = [HERE.parent / "csrc" / name for name in ("class_stats_cuda.cu", "class_scores_cuda.cu")]
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-Wno-unknown-pragmas", f"-I{HERE / 'emulation'}", "-x", "c++"]
    subprocess.run([COMPILER, *flags, *sources, HERE / "emulation" / "kernels.cpp", "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    matrix = [Address, Code, Size, Size, Size]
    loaded.add_rows.argtypes = [*matrix, Address, Code, Size, Code, Address, Address, Address, Address]
    loaded.nearest.argtypes = [*matrix, Address, Size, Address]
    loaded.add_rows.restype = loaded.nearest.restype = ctypes.c_char_p
    return loaded


def matrix(x):
    return x.data_ptr(), DTYPES[x.dtype], *x.shape, x.stride(0)


def add_rows(kernels, x, y, n_classes, into=None):
    """Statistics of the rows alone, or added to `into`; and the index of the first bad label, or n."""
    stats = into or (
        torch.full((n_classes,), 77),
        torch.full((n_classes, x.shape[1]), 7.0, dtype=torch.float64),
        torch.full((n_classes,), 7.0, dtype=torch.float64),
    )
    bad = torch.empty(1, dtype=torch.int64)
    addresses = [part.data_ptr() for part in (*stats, bad)]
    error = kernels.add_rows(*matrix(x), y.data_ptr(), LABEL_TYPES[y.dtype], n_classes, into is None, *addresses)
    assert error is None, error
    return stats, int(bad)


def nearest(kernels, x, means):
    found = torch.full((len(x),), -7)
    error = kernels.nearest(*matrix(x), means.data_ptr(), len(means), found.data_ptr())
    assert error is None, error
    return found


def example(n, d, n_classes, dtype=torch.float32, *, offset=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(n_classes, (n,), generator=generator)
    centres = 2 * torch.randn(n_classes, d, generator=generator)
    return (centres[y] + torch.randn(n, d, generator=generator) + offset).to(dtype), y


def assert_equal_stats(got, expected, *, rtol=1e-12):
    assert torch.equal(got[0], expected[0])
    largest = float(expected[1].nan_to_num().abs().max())
    torch.testing.assert_close(got[1], expected[1], rtol=rtol, atol=rtol * largest, equal_nan=True)
    torch.testing.assert_close(got[2], expected[2], rtol=1e-10, atol=0)


# Whole and partial vectors, several tiles of columns, chunks of 32 rows and more; 4, 10, 16 and 32 classes at a time.
SHAPES = [(1, 1, 1), (37, 3, 2), (300, 33, 5), (70, 520, 10), (90, 130, 13), (33, 64, 40)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_passes_agree_with_the_reference(kernels, shape, dtype):
    n, d, n_classes = shape
    for offset in (0.0, 1e3):
        x, y = example(n, d, n_classes, dtype, offset=offset)
        stats, bad = add_rows(kernels, x, y, n_classes)
        assert bad == n
        expected = reference.class_stats(x, y, n_classes)
        assert_equal_stats(stats, expected)
        assert torch.equal(nearest(kernels, x, expected[1]), reference.class_scores(x, None, expected[1], False)[0])


def test_rows_of_any_stride_and_labels_of_any_type(kernels):
    x, y = example(120, 64, 7)
    expected = reference.class_stats(x[:, 3:60], y, 7)
    for label_type in LABEL_TYPES:
        stats, _ = add_rows(kernels, x[:, 3:60], y.to(label_type), 7)
        assert_equal_stats(stats, expected)
    assert torch.equal(
        nearest(kernels, x[:, 3:60], expected[1]), reference.class_scores(x[:, 3:60], None, expected[1], False)[0]
    )


def test_batches_add_up_and_empty_ones_change_nothing(kernels):
    x, y = example(200, 40, 6)
    y[y == 4] = 2  # an empty class
    stats, _ = add_rows(kernels, x[:0], y[:0], 6)
    assert stats[1].isnan().all()
    assert not stats[0].any()
    for rows in (slice(0, 77), slice(77, 77), slice(77, 200)):
        add_rows(kernels, x[rows], y[rows], 6, into=stats)
    assert_equal_stats(stats, reference.class_stats(x, y, 6))


def test_the_first_bad_label_is_found_and_its_row_left_out(kernels):
    x, y = example(100, 20, 3)
    y[[71, 40]] = torch.tensor([3, -1])
    stats, bad = add_rows(kernels, x, y, 3)
    assert bad == 40
    good = (y >= 0) & (y < 3)
    assert_equal_stats(stats, reference.class_stats(x[good], y[good], 3))


def test_ties_near_ties_and_rows_that_have_no_nearest(kernels):
    means = torch.tensor([[0.0, 0.0], [2.0, 0.0], [torch.nan, 1.0], [2.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([[1.0, 5.0], [1 + 1e-6, 5.0], [2.0, 0.0], [torch.nan, 0.0], [torch.inf, 0.0], [1e15, 0.0]])
    assert nearest(kernels, x, means).tolist() == [0, 1, 1, -1, -1, 1]
    assert nearest(kernels, x, torch.full((2, 2), torch.nan, dtype=torch.float64)).tolist() == [-1] * 6


def test_close_means_far_from_the_origin_are_told_apart(kernels):
    generator = torch.Generator().manual_seed(3)
    means = 1e4 + 1e-3 * torch.randn(12, 200, generator=generator, dtype=torch.float64)
    x = (means[torch.arange(60) % 12] + 1e-2 * torch.randn(60, 200, generator=generator)).float()
    assert torch.equal(nearest(kernels, x, means), reference.class_scores(x, None, means, False)[0])


@pytest.mark.parametrize("n_classes", [2, 5, 40])
def test_near_ties_are_decided_by_float64(kernels, n_classes):
    generator = torch.Generator().manual_seed(4)
    means = torch.randn(n_classes, 150, generator=generator, dtype=torch.float64)
    means[2:] += 10
    apart = means[1] - means[0]
    noise = torch.randn(80, 150, generator=generator, dtype=torch.float64)
    noise -= (noise @ apart)[:, None] * apart / apart.square().sum()
    x = ((means[0] + means[1]) / 2 + noise).float()  # as close to a tie as rounding leaves them
    distance = (x.double()[:, None] - means).square().sum(dim=2)
    assert (distance[:, 0] / distance[:, 1] - 1).abs().max() < 1e-6
    assert len(distance.argmin(dim=1).unique()) == 2
    assert torch.equal(nearest(kernels, x, means), distance.argmin(dim=1))


def test_a_value_that_is_not_finite_stays_in_its_class(kernels):
    x, y = example(90, 10, 3)
    x[int((y == 1).nonzero()[0]), 4] = torch.inf
    stats, _ = add_rows(kernels, x, y, 3)
    assert not stats[2][1].isfinite()
    assert not stats[1][1, 4].isfinite()
    stats[1][1, 4] = torch.inf
    torch.testing.assert_close(stats[1], reference.class_stats(x, y, 3)[1], rtol=1e-12, atol=1e-12)
