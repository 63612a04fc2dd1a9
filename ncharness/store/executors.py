"""Executors by name, the values of `--executor`: a dask cluster, or jobs of Slurm."""

import importlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ncharness.store.executor_loop import Executor

NAMES = "processes, dask:<host>:<port> or slurm[:<sbatch option>=<value>,...]"
_PACKAGES = {"dask": "distributed", "slurm": "submitit"}
_CONNECT_SECONDS = 10
_ASK_SECONDS = 5.0
"""Least time between two calls of squeue: one call covers all jobs, but the scheduler is shared with other users."""


def check(name: str) -> tuple[str, str]:
    """Split a name into the kind of executor and the text after the colon.

    Raises ValueError for an invalid name, ModuleNotFoundError if the package that it needs is not installed.
    """
    kind, _, rest = name.partition(":")
    if not (name in ("processes", "slurm") or (kind == "slurm" and rest) or re.fullmatch(r"dask:.*\S:\d+", name)):
        raise ValueError(f"--executor: expected {NAMES}, got {name!r}")
    if kind == "slurm":
        _sbatch_options(rest)
    if kind in _PACKAGES:
        _package(kind)
    return kind, rest


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Executor | None]:
    """Open the executor of that name for the duration of the block; None for `processes`, which need none.

    Slurm's scripts, logs and results go into `folder`, which the nodes must see. Raises like `check`, and OSError if
    there is no dask scheduler at the address or no sbatch on this machine.
    """
    kind, rest = check(name)
    if kind == "dask":
        try:
            client = _package(kind).Client(rest, timeout=_CONNECT_SECONDS, set_as_default=False)
        except OSError as error:
            raise OSError(f"--executor: expected a dask scheduler at {rest}, got no answer: {error}") from None
        with client:
            # Not pure: a run that is submitted again must be trained again, not answered from dask's earlier result.
            yield client.get_executor(pure=False)
    elif kind == "slurm":
        if shutil.which("sbatch") is None:
            raise FileNotFoundError("--executor: slurm needs sbatch and squeue, which this machine does not have")
        yield SlurmExecutor(folder, _sbatch_options(rest))
    else:
        yield None


def _package(kind: str) -> Any:
    try:
        return importlib.import_module(_PACKAGES[kind])
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"--executor: {kind} needs {error.name}: pip install 'ncharness[{kind}]'", name=error.name
        ) from error


def _sbatch_options(text: str) -> dict[str, str]:
    """Parse `a=1,b=2,3` into {a: 1, b: "2,3"}: a comma that no name and equals sign follow belongs to the value."""
    options = {}
    for part in re.split(r",(?=[\w-]+=)", text) if text else []:
        name, equals, value = part.partition("=")
        if not re.fullmatch(r"[a-z][\w-]*", name) or not equals or not value:
            raise ValueError(f"--executor: expected slurm:<sbatch option>=<value>,..., got {part!r}")
        options[name.replace("_", "-")] = value
    return options


class WorkerLostError(RuntimeError):
    """A job ended without a result."""


class SlurmExecutor:
    """Executor that submits every program as a Slurm job of one task, by submitit. Jobs outlive this process."""

    def __init__(self, folder: Path, options: dict[str, str]) -> None:
        self._submitit = _package("slurm").SlurmExecutor(folder=folder)
        # submitit's default is a time limit of five minutes; with None the limit of the partition holds.
        self._submitit.update_parameters(
            job_name="ncharness",
            time=None,
            wckey=None,
            signal_delay_s=1,
            additional_parameters={"cpus-per-task": "1", **options},
        )
        self._queue = _Queue()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> "SlurmJob":
        """Submit a job that calls the function. Raises RuntimeError with the message of sbatch if it refuses."""
        return SlurmJob(self._submitit.submit(_mortal, function, *arguments), self._queue)


class SlurmJob:
    """Future of a job, done when squeue no longer lists it.

    submitit itself calls sacct, which needs an accounting database.
    """

    def __init__(self, job: Any, queue: "_Queue") -> None:
        self._job, self._queue = job, queue
        self._submitted = time.monotonic()

    def done(self) -> bool:
        """Return whether the job has written a result or left the queue."""
        return self._result_file().exists() or self._queue.has_lost(self._job.job_id, self._submitted)

    def exception(self) -> BaseException | None:
        """Return a WorkerLostError that names the job's log if there is no result, otherwise None."""
        number, log = self._job.job_id, Path(self._job.paths.stderr)
        if self._result_file().exists():
            error = self._job.exception()
            return None if error is None else WorkerLostError(f"Slurm job {number} failed, its log is {log}")
        return WorkerLostError(f"Slurm job {number} ended without a result, its log is {log}{_last_words(log)}")

    def result(self) -> Any:
        """Return the result of the function."""
        return self._job.result()

    def cancel(self) -> bool:
        """Cancel the job if it has not begun."""
        return subprocess.run(["scancel", "--state=PENDING", self._job.job_id], check=False).returncode == 0

    def _result_file(self) -> Path:
        return Path(self._job.paths.result_pickle)


class _Queue:
    """Cache of the jobs that squeue lists, with one call for all of them."""

    def __init__(self) -> None:
        self._ask_next = self._listed_at = float("-inf")
        self._listed: set[str] = set()

    def has_lost(self, number: str, submitted: float) -> bool:
        """Return whether a job that was submitted at `submitted` has left the queue."""
        now = time.monotonic()
        if now >= self._ask_next:
            self._ask_next = now + _ASK_SECONDS
            asked = subprocess.run(
                ["squeue", "--me", "--noheader", "--format=%i"], capture_output=True, text=True, check=False
            )
            if asked.returncode == 0:  # otherwise Slurm itself is down, and its jobs may still run
                self._listed, self._listed_at = set(asked.stdout.split()), now
        return submitted < self._listed_at and number not in self._listed


def _mortal(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function in a job that ignores warnings of the time limit and dies at the signal that terminates it.

    submitit would raise during the training when it is warned of the time limit, and would ignore SIGTERM. Every epoch
    is in the store, so a job may end at any time: unfinished runs are submitted again.
    """
    for warning in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(warning, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return function(*arguments)


def _last_words(log: Path) -> str:
    """Return Slurm's reason from the log, such as the time limit, or else the last line of the log.

    Slurm puts the reason between asterisks.
    """
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    reasons = [line for line in lines if "***" in line]
    return f": {(reasons or lines)[-1].strip()}" if lines else ""
