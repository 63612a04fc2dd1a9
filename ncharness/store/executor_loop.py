"""Training through an executor. Its workers may be on any machine that sees the store.

Only the configurations of a program (groups.py) go through the executor, and a WorkerResult comes back. Locks,
checkpoints and rows are in the store, and so is the progress that is reported meanwhile. A lost worker therefore costs
the epoch it was in, or a minute of epochs (store.py). Its runs are submitted again and continue from the checkpoint.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from ncharness.store import groups
from ncharness.store.files import CorruptFileError
from ncharness.store.groups import Program
from ncharness.store.messages import Event, Source, TrainingFailedError
from ncharness.store.run import Configuration, configuration_from
from ncharness.store.store import Store

_LOST_IN_A_ROW = 3
"""Retries: consecutive workers that a run may lose without finishing an epoch. With progress there is no limit."""
_POLL_SECONDS = 0.25
_LOOK_SECONDS = 1.0
"""Least time between two polls of the checkpoints, which may be many and on a slow file system."""
_PAUSES = (1.0, 60.0)
"""First and longest pause before the retry of a run that is trained elsewhere."""
_CACHED_SECONDS = 90.0
"""Longest time that a new file may stay invisible on another machine: NFS caches for 60 s that it was missing."""


class Future(Protocol):
    """The used part of the interface of `concurrent.futures.Future`."""

    def done(self) -> bool:
        """Return whether there is a result or an exception."""

    def exception(self) -> BaseException | None:
        """Return the reason why there is no result, or None."""

    def result(self) -> Any:
        """Return the result of the function."""

    def cancel(self) -> object:
        """Prevent the call of the function, if it has not begun."""


class Executor(Protocol):
    """The used part of the interface of `concurrent.futures.Executor`."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """Let a worker call the function, which is pickled by its name."""


class WorkerResult(NamedTuple):
    """Report of a worker about the runs of its program.

    kind is `done`, `busy` (some are trained elsewhere), `large` (out of memory when trained together), `failed`,
    `astray` (the worker does not see the store) or `lost` (the worker ended without a report).
    """

    kind: str
    text: str = ""
    problems: tuple[str, ...] = ()


def train_runs(root: str, identity: str, values: list[dict[str, Any]], source: Source) -> WorkerResult:
    """Train a program in the store at `root`, on one thread, from its checkpoints if it has any. Called by a worker."""
    store, program = Store(root), [configuration_from(of) for of in values]
    if store.identity() != identity:
        here = f"process {os.getpid()} on {socket.gethostname()}"
        return WorkerResult("astray", f"{here} does not see the store: {root} is another directory there, or none")
    problems: list[str] = []
    try:
        runs = store.train_together(
            program,
            source=source,
            on_problem=lambda _, text: problems.append(text),
        )
    except torch.OutOfMemoryError as error:
        kind = "large" if len(program) > 1 else "failed"
        return WorkerResult(kind, f"{type(error).__name__}: {error}", tuple(problems))
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        return WorkerResult("failed", f"{type(error).__name__}: {error}", tuple(problems))
    return WorkerResult("busy" if None in runs else "done", problems=tuple(problems))


@dataclass
class _Task:
    """A program that is not finished. Without a future it waits to be submitted, not before `due`."""

    program: Program
    future: Future | None = None
    epochs: dict[str, int] = field(default_factory=dict)  # by key: the last finished epoch in the store
    begun_at: int = 0  # the sum of those epochs when the program was submitted
    lost: int = 0  # workers since an epoch was finished
    due: float = 0.0
    pause: float = 0.0


def train_through(
    executor: Executor | Callable[[], Any],
    store: Store,
    work: Sequence[Program],
    *,
    source: Source,
    on_event: Callable[[Event], None],
    at_once: int | None = None,
) -> None:
    """Train the programs, at most `at_once` submitted at a time (None: all), and return when all are finished.

    An `executor` is not shut down here. A function that makes one is called again for every executor that breaks, and
    the executors that it made are shut down here. If this ends early for any reason, runs that have not begun are
    cancelled, as far as the executor can; others may go on to their end, in the store.
    """
    made = _Made(executor)
    identity = store.identity(create=True)
    # Workers have another working directory and another environment.
    root = str(store.root.absolute())
    data_root = source.root or os.environ.get("NCHARNESS_DATA")
    source = replace(source, root=Path(data_root).expanduser().absolute() if data_root else None)
    tasks, next_look = [_Task(program, pause=_PAUSES[0]) for program in work], 0.0
    try:
        while tasks:
            under_way, now = [task for task in tasks if task.future is not None], time.monotonic()
            room = len(tasks) if at_once is None else at_once - len(under_way)
            for task in [task for task in tasks if task.future is None and task.due <= now][: max(room, 0)]:
                task.begun_at = sum(task.epochs.values())
                values = [config.to_dict() for config in task.program]
                task.future = made.submit(train_runs, root, identity, values, source)
            time.sleep(_POLL_SECONDS)
            if time.monotonic() >= next_look:
                began = time.monotonic()
                for task in under_way:
                    _look(store, task, on_event)
                ended = time.monotonic()
                next_look = ended + max(_LOOK_SECONDS, 10 * (ended - began))
            tasks = [left for task in tasks for left in _left(store, task, on_event)]
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "training stopped: runs that had not begun are cancelled, others may go on where they are; "
            "the same command goes on from the last checkpoint of every run"
        ) from None
    finally:
        for task in tasks:
            if task.future is not None:
                task.future.cancel()
        made.close(wait=not tasks)


class _Made:
    """The given executor, or the latest one that the given function made."""

    def __init__(self, given: Executor | Callable[[], Any]) -> None:
        self._make = given if callable(given) else None
        self._executor: Any = given() if callable(given) else given

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        try:
            try:
                future: Future = self._executor.submit(function, *arguments)
            except BrokenExecutor:
                if self._make is None:
                    raise
                self._executor.shutdown()
                self._executor = self._make()
                future = self._executor.submit(function, *arguments)
        except Exception as error:  # each kind of executor raises another type
            raise TrainingFailedError(
                f"the executor takes no more runs ({_line(error)}); start again to resume"
            ) from error
        return future

    def close(self, *, wait: bool) -> None:
        if self._make is not None:
            self._executor.shutdown(wait=wait, cancel_futures=True)


def _look(store: Store, task: _Task, on_event: Callable[[Event], None]) -> None:
    """Send an event for every run with epochs finished since the last poll."""
    for config in task.program:
        with suppress(OSError):  # a file replaced on another machine can be gone while it is read
            epoch, key = store.status(config).epoch, config.key()
            if epoch > task.epochs.get(key, 0):
                task.epochs[key] = epoch
                on_event(Event("epoch", key, epoch))


def _left(store: Store, task: _Task, on_event: Callable[[Event], None]) -> list[_Task]:
    """Return the tasks that remain of one: none if it is finished, otherwise the task itself or its halves."""
    if task.future is None or not task.future.done():
        return [task]
    future, task.future = task.future, None
    name, key = groups.name(task.program), task.program[0].key()
    try:
        error = future.exception()
    except CancelledError as cancelled:  # by the scheduler, not by this process
        error = cancelled
    outcome = WorkerResult("lost", _line(error)) if error is not None else WorkerResult(*future.result())
    for text in outcome.problems:
        on_event(Event("problem", key, text=text))
    if outcome.kind == "failed":
        raise TrainingFailedError(f"{name}: {outcome.text}")
    if outcome.kind == "done":
        for config in task.program:
            _await_result(store, config)
            on_event(Event("done", config.key(), config.epochs))
        return []
    _look(store, task, on_event)
    if outcome.kind == "large":
        on_event(Event("problem", key, text=groups.too_large(task.program)))
        return [_Task(half, pause=task.pause) for half in groups.halved(task.program)]  # they poll from the start
    if outcome.kind == "busy":
        task.due = time.monotonic() + task.pause
        if task.pause < _PAUSES[1] <= 2 * task.pause:  # once, and only after a long wait
            locks = " or ".join(str(store.lock_file(config)) for config in task.program)
            on_event(Event("problem", key, text=f"{name} waits for another process, which holds {locks}"))
        task.pause = min(2 * task.pause, _PAUSES[1])
        return [task]
    done = sum(task.epochs.values())
    task.lost = 1 if done > task.begun_at else task.lost + 1
    if task.lost >= _LOST_IN_A_ROW:
        raise TrainingFailedError(
            f"{name}: {task.lost} workers in a row ended before they finished an epoch of it ({outcome.text}); "
            "what is finished stays"
        )
    epoch = min(task.epochs.get(config.key(), 0) for config in task.program)
    on_event(Event("problem", key, text=f"{name} lost its worker ({outcome.text}) and goes on after epoch {epoch}"))
    return [task]


def _await_result(store: Store, config: Configuration) -> None:
    deadline = time.monotonic() + _CACHED_SECONDS
    try:
        while store.load(config) is None:
            if time.monotonic() > deadline:
                raise TrainingFailedError(
                    f"{config.name()}: a worker finished it, but {store.path(config)} has no result"
                )
            time.sleep(_POLL_SECONDS)
    except CorruptFileError as error:  # for example written by a worker of another version
        raise TrainingFailedError(f"{config.name()}: {error}") from None


def _line(error: BaseException) -> str:
    """Return the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0].removesuffix(":")
