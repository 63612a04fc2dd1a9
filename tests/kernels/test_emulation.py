"""CUDA kernels and the code that calls them from Python, run on the CPU by the emulation in tests/kernels/emulation.

The emulation shows what they compute, but neither their speed nor races.
"""

import ctypes
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from ncharness.kernels import cuda, ops, reference
from ncharness.kernels.merging import first_bad_label

HERE = Path(__file__).parent
SOURCES = sorted((Path(__file__).parents[2] / "csrc").glob("*.cu"))
COMPILER = shutil.which("g++")
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="the emulation is compiled with g++, which is not there"),
    pytest.mark.skipif(not SOURCES, reason="the device code is not there"),
]
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
GUARD = 0x5A
STREAM = 7  # a number that nothing looks behind


class Emulated:
    """Replacement of the extension: the same functions of a library that is called through ctypes."""

    def __init__(self, library):
        self.library = ctypes.CDLL(str(library))

    def __getattr__(self, name):
        function = getattr(self.library, name)
        sizes = name.endswith("_bytes")
        function.restype = ctypes.c_int64 if sizes else ctypes.c_char_p

        def call(*arguments):
            flat = [part for given in arguments for part in (given if isinstance(given, tuple) else (given,))]
            assert sizes or flat[-1] == STREAM
            found = function(*(ctypes.c_int64(part) for part in flat))
            if not sizes and found is not None:
                raise RuntimeError(found.decode())
            return found

        return call


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Library compiled from csrc/*.cu with the emulation's headers in place of CUDA's."""
    path = tmp_path_factory.mktemp("emulation") / "kernels.so"
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-Wno-unknown-pragmas", f"-I{HERE / 'emulation'}", "-x", "c++"]
    subprocess.run([COMPILER, *flags, *SOURCES, HERE / "emulation" / "kernels.cpp", "-o", path], check=True)
    return path


@pytest.fixture
def kernels(library, monkeypatch):
    """Yield `kernels.cuda` for CPU tensors. Scratch memory begins as 0xFF bytes; writes beyond it are detected."""
    lent = []

    @contextmanager
    def stream(device):
        assert device == torch.device("cpu")
        yield STREAM

    def memory(size, device):
        assert device == torch.device("cpu")
        whole = torch.full((size + 64,), 0xFF, dtype=torch.uint8, device="cpu")
        whole[size:] = GUARD
        lent.append(whole)
        return whole[:size]

    monkeypatch.setattr(cuda, "_core", Emulated(library))
    monkeypatch.setattr(cuda, "_stream", stream)
    monkeypatch.setattr(cuda, "_memory", memory)
    yield cuda
    assert lent
    assert all((whole[-64:] == GUARD).all() for whole in lent)


def nearest(kernels, x, means):
    return kernels.class_scores(x, None, means, False)[0]


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


def assert_equal_scores(got, expected, *, rtol):
    assert torch.equal(got[0], expected[0])
    for mine, true in zip(got[1:], expected[1:], strict=True):
        torch.testing.assert_close(mine, true, rtol=rtol, atol=rtol * float(true.abs().max()))


# Whole and partial vectors, several tiles of columns, chunks of 32 rows and more, columns split among blocks;
# 4, 10, 16 and 32 classes at a time, and blocks of 128 for the tensor cores, which take no float64.
SHAPES = [(1, 1, 1), (37, 3, 2), (300, 33, 5), (70, 1100, 10), (90, 130, 13), (33, 64, 31), (150, 40, 40)]
CASES = [(shape, dtype) for shape in SHAPES for dtype in DTYPES]
CASES += [((290, 33, 290), dtype) for dtype in DTYPES if dtype != torch.float64]


@pytest.mark.parametrize(("shape", "dtype"), CASES, ids=str)
def test_both_passes_agree_with_the_reference(kernels, shape, dtype):
    n, d, n_classes = shape
    for offset in (0.0, 1e3) if dtype in (torch.float32, torch.float64) else (0.0,):
        x, y = example(n, d, n_classes, dtype, offset=offset)
        expected = reference.class_stats(x, y, n_classes)
        assert_equal_stats(kernels.class_stats(x, y, n_classes), expected)
        means = expected[1]
        rtol = 1e-12 if dtype == torch.float64 else 1e-5
        assert_equal_scores(
            kernels.class_scores(x, y, means, True), reference.class_scores(x, y, means, True), rtol=rtol
        )


def test_rows_of_any_stride_and_labels_of_any_type(kernels):
    x, y = example(120, 64, 7)
    x = x[:, 3:60]
    expected = reference.class_stats(x, y, 7)
    scores = reference.class_scores(x, y, expected[1], True)
    for dtype in (torch.int64, torch.int32, torch.uint8):
        labels = y.to(dtype)
        assert_equal_stats(kernels.class_stats(x, labels, 7), expected)
        assert_equal_scores(kernels.class_scores(x, labels, expected[1], True), scores, rtol=1e-5)


def test_batches_add_up_and_empty_ones_change_nothing(kernels):
    x, y = example(200, 40, 6)
    y[y == 4] = 2  # an empty class
    stats = kernels.class_stats(x[:0], y[:0], 6)
    assert stats[1].isnan().all()
    assert not stats[0].any()
    for rows in (slice(0, 77), slice(77, 77), slice(77, 200)):
        kernels.class_update(x[rows], y[rows], *stats)
    assert_equal_stats(stats, reference.class_stats(x, y, 6))
    found, gram, directional = kernels.class_scores(x[:0], y[:0], stats[1], True)
    assert len(found) == 0
    assert not gram.any()
    assert not directional.any()


def test_a_label_out_of_range_spoils_the_statistics_for_good(kernels):
    x, y = example(100, 20, 3)
    bad = y.clone()
    bad[[71, 40]] = torch.tensor([3, -1])
    spoilt = kernels.class_stats(x, bad, 3)
    assert first_bad_label(kernels.class_stats(x, y, 3)[0]) is None
    for _ in range(2):
        assert first_bad_label(spoilt[0]) == 40
        assert (spoilt[0] < 0).all()
        assert spoilt[1].isnan().all()
        assert spoilt[2].isnan().all()
        kernels.class_update(x, y, *spoilt)
    means = reference.class_stats(x, y, 3)[1]
    assert (nearest(kernels, x, spoilt[1]) == -1).all()
    _, gram, directional = kernels.class_scores(x, bad, means, True)
    assert gram.isnan().all()
    assert directional.isnan().all()


@pytest.mark.parametrize("many", [0, 40])
def test_ties_near_ties_and_rows_that_have_no_nearest(kernels, many):
    means = torch.tensor([[0.0, 0.0], [2.0, 0.0], [torch.nan, 1.0], [2.0, 0.0]], dtype=torch.float64)
    means = torch.cat([means, torch.full((many, 2), 1e6, dtype=torch.float64)])
    x = torch.tensor([[1.0, 5.0], [1 + 1e-6, 5.0], [2.0, 0.0], [torch.nan, 0.0], [torch.inf, 0.0], [-1e15, 0.0]])
    assert nearest(kernels, x, means).tolist() == [0, 1, 1, -1, -1, 0]
    assert nearest(kernels, x, torch.full((2 + many, 2), torch.nan, dtype=torch.float64)).tolist() == [-1] * 6


@pytest.mark.parametrize("n_classes", [12, 60])
def test_close_means_far_from_the_origin_are_told_apart(kernels, n_classes):
    generator = torch.Generator().manual_seed(3)
    means = 1e4 + 1e-3 * torch.randn(n_classes, 200, generator=generator, dtype=torch.float64)
    y = torch.arange(120) % n_classes
    x = (means[y] + 1e-2 * torch.randn(120, 200, generator=generator)).float()
    assert_equal_scores(kernels.class_scores(x, y, means, True), reference.class_scores(x, y, means, True), rtol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 5, 31, 40, 300])
def test_near_ties_are_decided_by_float64(kernels, n_classes):
    generator = torch.Generator().manual_seed(4)
    means = torch.randn(n_classes, 150, generator=generator, dtype=torch.float64)
    means[2:] += 10
    if n_classes > 200:
        means[[1, 200]] = means[[200, 1]]  # the two in different blocks of classes
    one, two = 0, 200 if n_classes > 200 else 1
    apart = means[two] - means[one]
    noise = torch.randn(80, 150, generator=generator, dtype=torch.float64)
    noise -= (noise @ apart)[:, None] * apart / apart.square().sum()
    x = ((means[one] + means[two]) / 2 + noise).float()  # as close to a tie as rounding leaves them
    distance = (x.double()[:, None] - means).square().sum(dim=2)
    assert (distance[:, one] / distance[:, two] - 1).abs().max() < 1e-6
    assert len(distance.argmin(dim=1).unique()) == 2
    assert torch.equal(nearest(kernels, x, means), distance.argmin(dim=1))


def test_near_ties_of_rows_that_are_split_with_their_weight_at_the_end(kernels):
    generator = torch.Generator().manual_seed(6)
    means = torch.zeros(4, 1200, dtype=torch.float64)
    means[:, 1000:] = torch.randn(4, 200, generator=generator, dtype=torch.float64)
    means[2:, 1000:] += 10
    apart = torch.linalg.qr((means[1:] - means[0]).T).Q
    noise = torch.zeros(40, 1200, dtype=torch.float64)
    noise[:, 1000:] = 1e3 * torch.randn(40, 200, generator=generator, dtype=torch.float64)
    noise -= noise @ apart @ apart.T
    x = ((means[0] + means[1]) / 2 + noise).float()
    distance = (x.double()[:, None] - means).square().sum(dim=2)
    assert len(distance.argmin(dim=1).unique()) == 2
    assert torch.equal(nearest(kernels, x, means), distance.argmin(dim=1))


def test_tensor_cores_see_what_one_bfloat16_part_alone_would_not(kernels):
    generator = torch.Generator().manual_seed(7)
    means = torch.full((40, 6), torch.nan, dtype=torch.float64)
    means[:8] = torch.nn.functional.normalize(torch.randn(8, 6, generator=generator, dtype=torch.float64), dim=1)
    x = 0.5 * torch.randn(1000, 6, generator=generator, dtype=torch.float64)
    one, two = means[torch.cdist(x, means[:8]).topk(2, largest=False).indices].unbind(dim=1)
    apart = two - one
    gap = ((x - two).square() - (x - one).square()).sum(dim=1)
    # Squared distances that differ by 6e-4: more than two parts can be wrong by, less than one would be.
    x = (x + (gap - 6e-4)[:, None] / 2 * apart / apart.square().sum(dim=1, keepdim=True)).float()
    distance = torch.cdist(x.double(), means[:8]).square().sort(dim=1)
    gaps = distance.values[:, 1:3] - distance.values[:, :1]
    kept = ((gaps[:, 0] - 6e-4).abs() < 1e-5) & (gaps[:, 1] > 0.01) & (x.norm(dim=1) < 1)
    assert kept.sum() > 200
    assert torch.equal(nearest(kernels, x[kept], means), distance.indices[kept, 0])


@pytest.mark.parametrize("n_classes", [3, 40])
def test_three_in_a_near_tie_are_decided_among_all(kernels, n_classes):
    generator = torch.Generator().manual_seed(5)
    means = torch.randn(n_classes, 60, generator=generator, dtype=torch.float64)
    means[:3] = 30 + 1e-9 * means[:3]
    x = (30 + torch.randn(70, 60, generator=generator)).float()
    distance = (x.double()[:, None] - means).square().sum(dim=2)
    assert len(distance.argmin(dim=1).unique()) == 3
    assert torch.equal(nearest(kernels, x, means), distance.argmin(dim=1))


@pytest.mark.parametrize("n_classes", [3, 40])
def test_what_overflows_in_float32_is_decided_by_float64(kernels, n_classes):
    means = torch.zeros(n_classes, 4, dtype=torch.float64)
    means[0], means[1], means[2] = 3e19, -3e19, 2e19
    means[3:] = -torch.arange(n_classes - 3)[:, None].double() - 1e19
    x = torch.tensor([[3e19] * 4, [-2.9e19] * 4, [2.2e19] * 4, [1.0] * 4, [3e38, -3e38, 3e38, 1e38]])
    distance = (x.double()[:, None] - means).square().sum(dim=2)
    assert torch.equal(nearest(kernels, x, means), distance.argmin(dim=1))


def test_a_value_that_is_not_finite_stays_in_its_class(kernels):
    x, y = example(90, 10, 3)
    x[int((y == 1).nonzero()[0]), 4] = torch.inf
    stats = kernels.class_stats(x, y, 3)
    assert not stats[2][1].isfinite()
    assert not stats[1][1, 4].isfinite()
    scores = kernels.class_scores(x, y, stats[1], True)
    assert_equal_scores(scores, reference.class_scores(x, y, stats[1], True), rtol=1e-5)
    assert not scores[1][1].any()
    assert not scores[2][:, 1].any()
    stats[1][1, 4] = torch.inf
    torch.testing.assert_close(stats[1], reference.class_stats(x, y, 3)[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("skewed", [False, True])
def test_the_gram_of_several_chunks(kernels, skewed):
    x, y = example(500, 6, 50)  # 64 rows a chunk: the emulation takes 16 kB at a time
    if skewed:
        y = torch.where(torch.arange(500) % 7 == 0, 5, 9)
    means = reference.class_stats(x, y, 50)[1]
    assert_equal_scores(kernels.class_scores(x, y, means, True), reference.class_scores(x, y, means, True), rtol=1e-5)


@pytest.mark.parametrize("n_classes", [1, 2, 7, 21])
def test_cdnv(kernels, n_classes):
    x, y = example(150, 50, n_classes)
    if n_classes > 2:
        y[y == 1] = 0  # an empty class
    stats = reference.class_stats(x, y, n_classes)
    got, expected = kernels.cdnv(*stats), reference.cdnv(*stats)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0, equal_nan=True)
    if n_classes > 2:
        stats[1][2] = stats[1][0]
        assert kernels.cdnv(*stats) == torch.inf
        stats[2].zero_()  # nothing over nothing too
        assert kernels.cdnv(*stats) == reference.cdnv(*stats) == torch.inf


def test_measure_is_both_passes_and_a_scorer_serves_every_dtype(kernels):
    x, y = example(60, 20, 4)
    found = kernels.measure(x, y, 4, True)
    expected = kernels.class_stats(x, y, 4)
    expected += kernels.class_scores(x, y, expected[1], True)
    assert all(torch.equal(mine, true) for mine, true in zip(found, expected, strict=True))
    scorer = kernels.Scorer(found[1].float(), False)
    for dtype in (*DTYPES, *DTYPES):
        true = reference.class_scores(x.to(dtype), None, scorer.means, False)[0]
        assert torch.equal(scorer(x.to(dtype), None)[0], true)
    assert len(scorer.centres) == 2


def test_features_off_their_element_size_are_copied(kernels):
    x, y = example(30, 5, 3)
    odd = torch.from_numpy(np.zeros(4 * 150 + 1, dtype=np.uint8)[1:].view(np.float32).reshape(30, 5))
    odd.copy_(x)
    assert odd.data_ptr() % 4
    assert_equal_stats(kernels.class_stats(odd, y, 3), reference.class_stats(x, y, 3))


def test_a_workspace_too_small_is_refused(kernels, monkeypatch):
    x, y = example(30, 5, 3)
    whole = cuda._memory
    monkeypatch.setattr(cuda, "_memory", lambda size, device: whole(size - 1, device))
    with pytest.raises(RuntimeError, match="workspace: too small"):
        kernels.class_stats(x, y, 3)


def test_a_device_is_served_only_where_the_kernels_agree_with_the_reference(kernels, monkeypatch):
    device = torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    kernels.refusal.cache_clear()
    assert kernels.refusal(device) == ""
    right = kernels.measure
    for part in range(6):

        def wrong(*arguments, part=part):
            found = list(right(*arguments))
            found[part] = found[part] + (found[part] == found[part].max())
            return tuple(found)

        monkeypatch.setattr(kernels, "measure", wrong)
        kernels.refusal.cache_clear()
        with pytest.warns(UserWarning, match="wrong answers on cpu"):
            assert "wrong answers" in kernels.refusal(device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    kernels.refusal.cache_clear()
    assert "has 7.5" in kernels.refusal(device)
    kernels.refusal.cache_clear()


def test_the_means_as_they_were_count(kernels):
    means = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    x = torch.tensor([[0.5], [1.5], [0.2]], dtype=torch.float64)  # two ties, which are decided by the means themselves
    scorer = kernels.Scorer(means, False)
    first = scorer(x, None)[0]
    means[1] = 7
    assert torch.equal(scorer(x, None)[0], first)
    assert first.tolist() == [0, 1, 0]


def test_a_device_that_cannot_run_the_kernels_gets_the_reference(kernels, monkeypatch):
    def fails(*_arguments):
        raise RuntimeError("CUDA: set_value: no kernel image is available")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(kernels, "measure", fails)
    kernels.refusal.cache_clear()
    with pytest.warns(UserWarning, match="failed .*no kernel image"):
        assert "no kernel image" in kernels.refusal(torch.device("cpu"))
    kernels.refusal.cache_clear()
    kernels.class_stats(*example(3, 2, 2), 2)


def test_the_default_device_of_torch_is_no_matter(kernels, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    x, y = example(30, 5, 3)
    kernels.refusal.cache_clear()
    with torch.device("meta"):
        assert kernels.refusal(torch.device("cpu")) == ""
        found = ops.measure(x, y, 3, True)
    kernels.refusal.cache_clear()
    assert all(part.device.type == "cpu" for part in found)
