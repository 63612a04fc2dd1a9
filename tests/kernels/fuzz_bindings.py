"""Bounded, seeded fuzz run over the public functions and the ops.

    python tests/kernels/fuzz_bindings.py --seconds 60 --seed 0

Each call gets drawn shapes, layouts, types and values, many of them hostile. It must return what the torch reference
makes of a plain copy of the same data, or refuse the arguments by name; all else is a failure. A run prints how to
repeat the call that failed, and does so after a crash too, since the calls are made in a process of their own. Needs
nothing but torch and numpy.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncharness import ClassStats, cdnv, class_stats, measure, ncc, ncc_accuracy
from ncharness.kernels import arguments, cpu, ops, reference

NAMES = ("features: ", "labels: ", "n_classes: ", "means: ", "stats: ", "gram: ", "n_features: ")
NO_MEMORY = ("can't allocate memory", "Storage size calculation overflowed")  # torch's words, as RuntimeError
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LARGEST = 1e15  # float32 can square it, and add that up


class WrongError(AssertionError):
    """A call did not behave as specified."""


@dataclass(frozen=True)
class Argument:
    """Argument of a call, and its plain form: a contiguous tensor or a number, or None if the call must refuse it."""

    given: Any
    plain: Any


# --- arguments --------------------------------------------------------------------------------------------------------


def values(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = rng.standard_normal((n, d)) + 2 * rng.standard_normal((3, d))[rng.integers(0, 3, n)]
    kind = rng.choice(["normal", "whole", "zero", "offset", "tiny", "huge", "special", "outlier"])
    if kind == "whole":
        x = np.rint(x)
    elif kind == "special" and x.size:
        spoilt = rng.integers(0, x.size, rng.integers(1, 4))
        x.flat[spoilt] = rng.choice([np.nan, np.inf, -np.inf, 1e30, -0.0, 5e-324], len(spoilt))
    elif kind == "outlier":
        x[:1] *= 1e4
    return x * {"zero": 0.0, "tiny": 1e-25, "huge": 1e25}.get(kind, 1.0) + 1e4 * (kind == "offset")


def laid_out(rng: np.random.Generator, x: torch.Tensor) -> Any:
    """Return the same matrix in another memory layout, as a tensor or a numpy array."""
    layout = rng.choice(["plain", "padded", "steps", "transposed", "negative", "unaligned", "swapped", "read-only"])
    if layout == "padded":
        padded = torch.full((x.shape[0], x.shape[1] + 5), torch.nan, dtype=x.dtype)
        padded[:, 2:-3] = x
        return padded[:, 2:-3]
    if layout == "steps":
        return x.repeat_interleave(2, dim=0)[::2] if rng.random() < 0.5 else x.repeat_interleave(2, dim=1)[:, ::2]
    if layout == "transposed":
        return x.T.contiguous().T
    if x.dtype == torch.bfloat16:
        return x
    if layout == "negative":
        return np.ascontiguousarray(x.numpy()[::-1, ::-1])[::-1, ::-1]
    if layout == "unaligned":
        return np.frombuffer(b"\0" + x.numpy().tobytes(), dtype=x.numpy().dtype, offset=1).reshape(x.shape)
    if layout == "swapped":
        return x.numpy().astype(x.numpy().dtype.newbyteorder())
    if layout == "read-only":
        array = x.numpy().copy()
        array.flags.writeable = False
        return array
    return x


def features(rng: np.random.Generator) -> Argument:
    n, d = int(rng.choice([0, 1, 2, 7, 33, 70, 130])), int(rng.choice([1, 2, 3, 8, 17, 64, 127, 130, 257, 520]))
    x = torch.from_numpy(values(rng, n, d)).to(FLOATS[rng.integers(4)])
    if rng.random() < 0.05 and n:
        x = x[:1].expand(n, d) if rng.random() < 0.5 else x[:, :1].expand(n, d)
        return Argument(x, x.contiguous())
    if rng.random() < 0.05:
        windows = torch.from_numpy(values(rng, 1, n + d)[0]).float().as_strided((n, d), (1, 1))
        return Argument(windows, windows.contiguous())
    if rng.random() < 0.88:
        return Argument(laid_out(rng, x), x)
    hostile: list[Callable[[], Any]] = [
        lambda: x.flatten(),
        lambda: x[None],
        lambda: torch.zeros(()),
        lambda: x[:, :0],
        lambda: torch.zeros((3, 4), dtype=torch.int64),
        lambda: torch.zeros((3, 4), dtype=torch.bool),
        lambda: torch.zeros((3, 4), dtype=torch.complex64),
        lambda: torch.zeros((3, 4)).to_sparse(),
        lambda: np.zeros((3, 4), dtype=object),
        lambda: np.zeros((3, 4), dtype="U3"),
        lambda: np.zeros((3, 4), dtype=np.longdouble),
        lambda: np.zeros((3, 4), dtype="m8[s]"),
        lambda: [[1.0, 2.0]],
        lambda: None,
        lambda: 3.0,
    ]
    return Argument(hostile[rng.integers(len(hostile))](), None)


def labels(rng: np.random.Generator, n: int, n_classes: int) -> Argument:
    y = torch.from_numpy(rng.integers(0, n_classes, n))
    if rng.random() < 0.1:
        y = torch.full((n,), int(rng.integers(0, n_classes)))
    if rng.random() < 0.85:
        narrow = y.numpy().astype(rng.choice(["i8", "i4", "u1", "i2", "u4", "u8", ">i8"]) if n_classes < 128 else "i8")
        layout = rng.choice(["plain", "steps", "negative", "unaligned", "tensor"])
        given = {
            "plain": lambda: narrow,
            "steps": lambda: np.repeat(narrow, 2)[::2],
            "negative": lambda: narrow[::-1].copy()[::-1],
            "unaligned": lambda: np.frombuffer(b"\0" + narrow.tobytes(), dtype=narrow.dtype, offset=1),
            "tensor": lambda: y.to(torch.int32),
        }[layout]()
        return Argument(given, y)
    wrong = y.clone()
    if n:
        out = [-1, n_classes, 2**31, -(2**31), 2**63 - 1, -(2**63)]
        wrong[rng.integers(n)] = out[rng.integers(len(out))]
    hostile = [
        wrong if n else y.double(),
        y[:-1] if n else y.new_zeros(1),
        torch.cat([y, y.new_zeros(1)]),
        y[:, None],
        y.double(),
        y.bool(),
        y.new_zeros(()),
        y.tolist(),
        np.full(n + 1, 2**64 - 1, dtype="u8"),
        y.to("meta"),
        None,
        "0",
    ]
    return Argument(hostile[rng.integers(len(hostile))], None)


def class_counts(rng: np.random.Generator) -> Argument:
    if rng.random() < 0.95:
        count = int(rng.choice([1, 2, 3, 5, 12, 13, 40, 300, 600], p=[0.1, 0.15, 0.15, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]))
        return Argument(np.int32(count) if rng.random() < 0.1 else count, count)
    hostile = [0, -1, -(2**63), 2**62, 2**63 - 1, True, 2.0, "3", None, np.float64(2)]
    return Argument(hostile[rng.integers(len(hostile))], None)


def means_for(rng: np.random.Generator, x: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Draw means from the rows of x, moved a little or not at all, some of them equal, some not finite."""
    means = torch.from_numpy(rng.standard_normal((n_classes, x.shape[1])))
    if len(x):
        means = x.double()[torch.from_numpy(rng.integers(0, len(x), n_classes))] + rng.choice([0.0, 1e-9, 1.0]) * means
    if rng.random() < 0.2:
        means[rng.integers(n_classes)] = rng.choice([np.nan, np.inf])
    return means


# --- what must come out -----------------------------------------------------------------------------------------------


def check(condition: Any, what: str) -> None:
    if not bool(condition):
        raise WrongError(what)


def check_close(got: torch.Tensor, expected: torch.Tensor, tolerance: torch.Tensor | float, what: str) -> None:
    check(got.shape == expected.shape and got.dtype == expected.dtype, f"{what}: {got.shape} {got.dtype}")
    check(torch.equal(got.isfinite(), expected.isfinite()), f"{what}: other elements are finite")
    off = ((got - expected).abs() > tolerance) & expected.isfinite()
    check(not off.any(), f"{what}: {got[off][:1].tolist()}, expected {expected[off][:1].tolist()}")


def check_stats(stats: ClassStats, x: torch.Tensor, y: torch.Tensor, n_classes: int) -> None:
    count, mean, scatter = reference.class_stats(x, y, n_classes)
    largest = float(x.double().abs().nan_to_num(0.0, 0.0, 0.0).max()) if len(x) else 0.0
    check(torch.equal(stats.count, count), f"count: {stats.count.tolist()}, expected {count.tolist()}")
    check_close(stats.mean, mean, 1e-14 * largest, "mean")
    # The reference rounds a mean, and the scatter of equal rows is what that leaves.
    check_close(stats.scatter, scatter, 1e-11 * scatter + x.numel() * (1e-15 * largest) ** 2, "scatter")


def check_nearest(nearest: torch.Tensor, x: torch.Tensor, means: torch.Tensor) -> None:
    """Check by differences in float64, which are more exact than the reference."""
    check(nearest.shape == x.shape[:1] and nearest.dtype == torch.int64, "nearest: shape or type")
    if not len(x):
        return
    distance = torch.stack([(x.double() - mean).square().sum(dim=1) for mean in means], dim=1)
    distance = torch.where(distance.isfinite(), distance, torch.inf)
    least = distance.min(dim=1).values
    check(torch.equal(nearest < 0, least.isinf()), f"nearest: -1 for {(nearest < 0).nonzero()[:, 0].tolist()}")
    chosen = distance.gather(1, nearest.clamp_min(0)[:, None])[:, 0]
    wrong = (nearest >= len(means)) | ~((chosen <= least * (1 + 1e-9)) | least.isinf())
    check(not wrong.any(), f"nearest: row {wrong.nonzero()[:1].tolist()}: {chosen[wrong][:1]} for {least[wrong][:1]}")


def check_gram(got: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor, y: torch.Tensor, means: torch.Tensor) -> None:
    expected = reference.class_scores(x, y, means, True)[1:]
    active = means.isfinite().all(dim=1)
    if not bool(active.any()) or not len(x):
        for part in got:
            check(not part.any(), "gram: not zero without means or rows")
        return
    centred = means[active] - means[active].mean(dim=0)
    rows = x.double()
    largest = max(float(part.abs().max()) for part in (rows, means[active], centred))
    if not np.isfinite(largest) or (x.dtype != torch.float64 and not 1 / LARGEST < largest < LARGEST):
        return  # float32 scores may overflow or vanish where the reference's do not
    longest = float(centred.square().sum(dim=1).max())
    kept = active[y]
    within = float((rows - means[y])[kept].square().sum())
    around = float((rows - means[active].mean(dim=0))[kept].square().sum()) + largest**2
    unit = 2.0**-53 if x.dtype == torch.float64 else 2.0**-24
    steps = min(x.shape[1], 256) + x.shape[1] / 256 + 5
    tolerance = 8 * unit * steps * within * longest + 1e-13 * (within * around) ** 0.5 * longest
    tolerance += 1e-26 * around * longest + 1e-70
    # Where means nearly coincide far from the origin, their mean is known to float64's rounding of it alone.
    tolerance += 8 * 2.0**-53 * largest * x.shape[1] ** 0.5 * within * longest**0.5
    for part, wanted, what in zip(got, expected, ("gram", "directional"), strict=True):
        check_close(part, wanted, tolerance, what)


# --- calls ------------------------------------------------------------------------------------------------------------


def refuses(call: Callable[[], Any], what: str) -> None:
    """Check that the call raises TypeError or ValueError with the name of an argument first, or is out of memory."""
    try:
        call()
    except (TypeError, ValueError) as error:
        check(str(error).startswith(NAMES), f"{what}: {type(error).__name__} names no argument: {error}")
    except MemoryError:
        pass
    except RuntimeError as error:
        check(any(words in str(error) for words in NO_MEMORY), f"{what}: RuntimeError: {error}")
    else:
        raise WrongError(f"{what}: was not refused")


def call_statistics(_rng: np.random.Generator, x: Argument, y: Argument, n_classes: Argument) -> None:
    """Fuzz class_stats, update in batches, merge, and the CDNV of their results."""
    if any(part.plain is None for part in (x, y, n_classes)):
        refuses(lambda: class_stats(x.given, y.given, n_classes.given), "class_stats")
        if n_classes.plain is not None and x.plain is not None:
            stats = ClassStats.empty(n_classes.plain, x.plain.shape[1])
            refuses(lambda: stats.update(x.given, y.given), "update")
            check(not stats.count.any() and stats.mean.isnan().all(), "update: changed by a call that was refused")
        return
    check_stats(class_stats(x.given, y.given, n_classes.given), x.plain, y.plain, n_classes.plain)
    stats, other = (ClassStats.empty(n_classes.given, x.plain.shape[1]) for _ in range(2))
    for cut, into in zip(np.array_split(np.arange(len(x.plain)), 3), (stats, other, stats), strict=True):
        into.update(x.given[cut], y.given[cut])
    check_stats(stats.merge(other), x.plain, y.plain, n_classes.plain)
    got, expected = cdnv(stats), reference.cdnv(stats.count, stats.mean, stats.scatter)
    check(got.isnan() == expected.isnan(), f"cdnv: {got}, expected {expected}")
    if expected.isfinite():
        check((got - expected).abs() <= 1e-9 * expected, f"cdnv: {got}, expected {expected}")


def call_measure(rng: np.random.Generator, x: Argument, y: Argument, n_classes: Argument) -> None:
    gram = bool(rng.random() < 0.5)
    if any(part.plain is None for part in (x, y, n_classes)):
        refuses(lambda: measure(x.given, y.given, n_classes.given, gram=gram), "measure")
        return
    found = measure(x.given, y.given, n_classes.given, gram=gram)
    check_stats(found.stats, x.plain, y.plain, n_classes.plain)
    check(torch.equal(found.labels.long(), y.plain), "labels: others than were given")
    check_nearest(found.nearest, x.plain, found.stats.mean)
    if gram and len(x.plain):
        assert found.gram is not None
        assert found.directional is not None
        sums = found.gram * len(x.plain), (found.directional * found.stats.count[:, None]).nan_to_num()
        poisoned = not found.stats.scatter.isfinite().all()
        if not poisoned:
            check_gram(sums, x.plain, y.plain, found.stats.mean)
    for value in (found.cdnv, found.ncc_accuracy):
        check(value.shape == () and value.dtype == torch.float64, "measure: not a float64 scalar")


def call_ncc(rng: np.random.Generator, x: Argument, y: Argument, n_classes: Argument) -> None:
    """Fuzz scores of held-out rows against the statistics of others."""
    if n_classes.plain is None:
        refuses(lambda: ClassStats.empty(n_classes.given, 2**17), "empty")
        return
    d = 3 if x.plain is None else x.plain.shape[1]
    rows = torch.from_numpy(rng.standard_normal((5, d)))
    stats = class_stats(rows, torch.from_numpy(rng.integers(0, n_classes.plain, 5)), n_classes.plain)
    if x.plain is None:
        refuses(lambda: ncc(x.given, stats), "ncc")
        return
    check_nearest(ncc(x.given, stats), x.plain, stats.mean)
    if y.plain is None:
        refuses(lambda: ncc_accuracy(x.given, y.given, stats), "ncc_accuracy")
    else:
        share = ncc_accuracy(x.given, y.given, stats)
        check(share.isnan() if not len(x.plain) else 0 <= share <= 1, f"ncc_accuracy: {share}")


def call_ops(rng: np.random.Generator, x: Argument, y: Argument, n_classes: Argument) -> None:
    """Fuzz the ops themselves, with any means."""
    if x.plain is None:
        refuses(lambda: ops.read(x.given), "read")
        return
    rows = arguments.as_features(x.given)
    ops.read(x.given)
    if n_classes.plain is None:
        return
    means = means_for(rng, x.plain, n_classes.plain)
    prepared = ops.nearest_centre(means)
    for nearest in (ops.class_scores(rows, None, means)[0], prepared(rows), prepared(rows)):
        check_nearest(nearest, x.plain, means)
    check_nearest(prepared(rows.double()), x.plain.double(), means)
    wrong = [means[:, :-1], means[0], means[None], means[:0], torch.zeros(())][rng.integers(5)]
    refuses(lambda: ops.class_scores(rows, None, wrong), "class_scores, means")
    refuses(lambda: ops.class_scores(rows, None, means, gram=True), "class_scores, no labels")
    if isinstance(y.given, torch.Tensor | np.ndarray) and y.plain is not None:
        classes = arguments.as_labels(y.given, rows)
        nearest, *sums = ops.class_scores(rows, classes, means, gram=True)
        check_nearest(nearest, x.plain, means)
        check_gram((sums[0], sums[1]), x.plain, y.plain, means)
        stats = ClassStats.empty(n_classes.plain, x.plain.shape[1])
        of = [stats.count, stats.mean, stats.scatter]
        at = int(rng.integers(3))
        of[at] = [of[at][:0], of[at].float(), of[at][None], of[at].repeat_interleave(2, dim=-1)[..., ::2]][
            rng.integers(4)
        ]
        if not of[at].is_contiguous() or of[at].shape != (stats.count, stats.mean, stats.scatter)[at].shape:
            refuses(lambda: ops.class_update(rows, classes, of[0], of[1], of[2]), "class_update")
            refuses(lambda: ops.cdnv(of[0], of[1], of[2]), "cdnv")
    elif isinstance(y.given, torch.Tensor):
        refuses(
            lambda: ops.class_scores(rows, arguments.as_labels(y.given, rows), means, gram=True), "class_scores, labels"
        )


CALLS = (call_statistics, call_measure, call_ncc, call_ops)


def one_call(seed: int, index: int) -> None:
    """Repeat the single call of this seed and index."""
    rng = np.random.default_rng([seed, index])
    call = CALLS[rng.integers(len(CALLS))]
    x, n_classes = features(rng), class_counts(rng)
    n = 3 if x.plain is None else len(x.plain)
    y = labels(rng, n, 2 if n_classes.plain is None else n_classes.plain)
    if n_classes.plain is None and isinstance(n_classes.given, int) and n_classes.given > 2**60 and n:
        x = Argument(*[torch.zeros((n, 2**17))] * 2)  # beyond any memory
    torch.set_num_threads(int(rng.integers(1, 4)))
    if cpu._core is not None:
        cpu._core.set_level(str(rng.choice(cpu._core.levels())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a class holds NaN is what the call says, not what it gets wrong
        call(rng, x, y, n_classes)


def fuzz(seed: int, seconds: float, first: int = 0, at: Callable[[int], object] = lambda _: None) -> int:
    """Make calls until the time is over and return their number. `at` is called before each of them."""
    threads, level = torch.get_num_threads(), cpu._core and cpu._core.level()
    deadline, index = time.monotonic() + seconds, first
    try:
        while time.monotonic() < deadline or index == first:
            at(index)
            try:
                one_call(seed, index)
            except Exception as error:
                raise WrongError(f"{type(error).__name__}: {error}\nrepeat it with: {replay(seed, index)}") from error
            index += 1
    finally:
        torch.set_num_threads(threads)
        if level:
            cpu._core.set_level(level)
    return index - first


def replay(seed: int, index: int) -> str:
    return f"python tests/kernels/fuzz_bindings.py --seed {seed} --first {index} --seconds 0"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first call (default: 0)")
    parser.add_argument("--note", type=Path, help=argparse.SUPPRESS)  # where the calling process looks after a crash
    options = parser.parse_args(arguments)
    if options.note:
        with options.note.open("r+b", buffering=0) as note:
            made = fuzz(
                options.seed, options.seconds, options.first, lambda i: os.pwrite(note.fileno(), b"%20d" % i, 0)
            )
        sys.stdout.write(f"{made} calls of seed {options.seed}, all as they should be\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "call"
        note.write_bytes(b"")
        own = [f"--{name}={getattr(options, name)}" for name in ("seconds", "seed", "first")]
        status = subprocess.run([sys.executable, __file__, *own, f"--note={note}"], check=False).returncode
        if status:
            last = note.read_text()
            where = f"call {int(last)} of seed {options.seed}" if last else "before the first call"
            sys.stderr.write(f"failed with status {status} in {where}\n")
            sys.stderr.write(f"repeat it with: {replay(options.seed, int(last or 0))}\n")
        return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
