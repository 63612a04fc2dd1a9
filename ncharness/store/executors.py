"""Executors by name, as `--executor` takes them: a dask cluster, or jobs of Slurm."""

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
"""At least so long between calls of squeue: it is one call for all jobs, but the scheduler is everybody's."""


def check(name: str) -> tuple[str, str]:
    """The kind of executor and what follows its colon.

    Raises ValueError for a name that is none, ModuleNotFoundError where the package it needs is not installed.
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
    """The executor of that name, while the block lasts; None for `processes`, which need none.

    Slurm's scripts, logs and results go into `folder`, which the nodes must see. Raises as `check` does, and OSError
    where nothing answers: no dask scheduler at the address, no sbatch on this machine.
    """
    kind, rest = check(name)
    if kind == "dask":
        try:
            client = _package(kind).Client(rest, timeout=_CONNECT_SECONDS, set_as_default=False)
        except OSError as error:
            raise OSError(f"--executor: expected a dask scheduler at {rest}, got no answer: {error}") from None
        with client:
            # Not pure: a run that is submitted again is to be trained again, not answered from what came of it before.
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
    """`a=1,b=2,3` is {a: 1, b: "2,3"}: a comma that no name and equals sign follow belongs to the value."""
    options = {}
    for part in re.split(r",(?=[\w-]+=)", text) if text else []:
        name, equals, value = part.partition("=")
        if not re.fullmatch(r"[a-z][\w-]*", name) or not equals or not value:
            raise ValueError(f"--executor: expected slurm:<sbatch option>=<value>,..., got {part!r}")
        options[name.replace("_", "-")] = value
    return options


class WorkerLostError(RuntimeError):
    """A job ended without saying what came of its run."""


class SlurmExecutor:
    """Jobs of Slurm by way of submitit: one a run, of one task, which goes on when this process ends."""

    def __init__(self, folder: Path, options: dict[str, str]) -> None:
        self._submitit = _package("slurm").SlurmExecutor(folder=folder)
        # submitit's own default is a limit of five minutes; without it the partition's holds.
        self._submitit.update_parameters(
            job_name="ncharness",
            time=None,
            wckey=None,
            signal_delay_s=1,
            additional_parameters={"cpus-per-task": "1", **options},
        )
        self._queue = _Queue()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> "SlurmJob":
        """A job that calls the function; RuntimeError with sbatch's words where it refuses."""
        return SlurmJob(self._submitit.submit(_mortal, function, *arguments), self._queue)


class SlurmJob:
    """A job as a future, done when squeue lists it no more: submitit asks sacct, which needs an accounting database."""

    def __init__(self, job: Any, queue: "_Queue") -> None:
        self._job, self._queue = job, queue
        self._submitted = time.monotonic()

    def done(self) -> bool:
        """Whether the job has left a result or the queue."""
        return self._result_file().exists() or self._queue.has_lost(self._job.job_id, self._submitted)

    def exception(self) -> BaseException | None:
        """A WorkerLostError that names the job's log, if there is no result."""
        number, log = self._job.job_id, Path(self._job.paths.stderr)
        if self._result_file().exists():
            error = self._job.exception()
            return None if error is None else WorkerLostError(f"Slurm job {number} failed, its log is {log}")
        return WorkerLostError(f"Slurm job {number} ended without a result, its log is {log}{_last_words(log)}")

    def result(self) -> Any:
        """What the function returned."""
        return self._job.result()

    def cancel(self) -> bool:
        """Cancels the job if it has not begun."""
        return subprocess.run(["scancel", "--state=PENDING", self._job.job_id], check=False).returncode == 0

    def _result_file(self) -> Path:
        return Path(self._job.paths.result_pickle)


class _Queue:
    """The jobs that squeue lists, asked once in a while for all of them."""

    def __init__(self) -> None:
        self._ask_next = self._listed_at = float("-inf")
        self._listed: set[str] = set()

    def has_lost(self, number: str, submitted: float) -> bool:
        """Whether a job that was submitted at `submitted` has left the queue."""
        now = time.monotonic()
        if now >= self._ask_next:
            self._ask_next = now + _ASK_SECONDS
            asked = subprocess.run(
                ["squeue", "--me", "--noheader", "--format=%i"], capture_output=True, text=True, check=False
            )
            if asked.returncode == 0:  # else Slurm itself is away, and its jobs may well go on
                self._listed, self._listed_at = set(asked.stdout.split()), now
        return submitted < self._listed_at and number not in self._listed


def _mortal(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the function in a job that uses its time to the end, and then ends at once.

    submitit would raise in the midst of the training when it is warned of the time limit, and not hear what terminates
    it. As every epoch is in the store, a job may just end; what it did not finish is submitted again.
    """
    for warning in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(warning, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return function(*arguments)


def _last_words(log: Path) -> str:
    """Slurm's reason, such as the time limit, which it puts between asterisks; else the last line of the log."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    reasons = [line for line in lines if "***" in line]
    return f": {(reasons or lines)[-1].strip()}" if lines else ""
