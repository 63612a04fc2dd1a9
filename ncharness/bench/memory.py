"""Peak memory of a call, measured in a process of its own."""

import ctypes
import gc
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from ncharness.bench.contenders import Shape
from ncharness.bench.timing import sample, threads

T = TypeVar("T")


def peak_above(call: Callable[[], object]) -> int | None:
    """Return by how many bytes the peak resident set size during `call` exceeds the size before it.

    The result of the call is included. Linux updates the counters in batches of pages per processor, so a few hundred
    kB may be missing or too much. Elsewhere there is no such counter, and the answer is None. Memory that an allocator
    kept from earlier calls is not counted: call this in a fresh process (`in_fresh_process`).
    """
    process = Path("/proc/self")
    if not (process / "clear_refs").exists():
        return None
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)  # return to the system what making the data left in the allocator
    try:
        (process / "clear_refs").write_text("5")  # reset the peak to the present size
    except OSError:  # a kernel or a sandbox without it
        return None
    before = _status(process, "VmRSS")
    call()
    return max(0, _status(process, "VmHWM") - before)


def _status(process: Path, field: str) -> int:
    for line in (process / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{process / 'status'}: expected a line {field}, got none")


def extra_bytes(run: Callable[..., object], shape: Shape, *, n_threads: int) -> int | None:
    """Measure the peak memory of `run(x, y, C)` above its float32 inputs, in a fresh process, after a tiny call."""
    return in_fresh_process(_extra_bytes, run, shape, n_threads)


def _extra_bytes(run: Callable[..., object], shape: Shape, n_threads: int) -> int | None:
    with threads(n_threads):
        run(*sample(Shape(64, 8, 4)), 4)  # libraries load and threads start before, not during
        x, y = sample(shape)
        return peak_above(lambda: run(x, y, shape.C))


def in_fresh_process(function: Callable[..., T], *arguments: object) -> T:
    """Call a module-level function in a new process and return its result.

    Raises ChildProcessError if that process died.
    """
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(writer, function, arguments), daemon=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for the parent, which ends the child
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    writer.close()
    try:
        result: T = reader.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(f"a process that measured memory ended with exit code {process.exitcode}") from None
    finally:
        process.terminate()
        process.join()
        reader.close()
    return result


def _answer(writer: Connection, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    writer.send(function(*arguments))
