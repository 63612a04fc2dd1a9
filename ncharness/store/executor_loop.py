"""Runs through an executor, whose workers may be anywhere that sees the store.

Nothing goes through the executor but the configurations of a program (programs.py) and, at its end, an Outcome: locks,
checkpoints and rows are in the store, and so is the progress that is told meanwhile. A worker that is lost therefore
costs the epoch it was in, or a minute of them (store.py); its runs are submitted again and go on from the checkpoint.
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
"""Workers that a run may lose without finishing an epoch between them; a run that gets on may lose any number."""
_POLL_SECONDS = 0.25
_LOOK_SECONDS = 1.0
"""At least so long between looks at the checkpoints, which may be many and on a slow file system."""
_PAUSES = (1.0, 60.0)
"""The first and the longest time until a run that is trained elsewhere is asked for again."""
_CACHED_SECONDS = 90.0
"""So long may a file that is there stay unseen on another machine: NFS remembers for 60 s that it was not."""


class Future(Protocol):
    """What of a `concurrent.futures.Future` is used."""

    def done(self) -> bool:
        """Whether there is a result or an exception."""

    def exception(self) -> BaseException | None:
        """Why there is no result."""

    def result(self) -> Any:
        """What the function returned."""

    def cancel(self) -> object:
        """Keeps the function from being called, if it has not been yet."""


class Executor(Protocol):
    """What of a `concurrent.futures.Executor` is used."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """Has a worker call the function, which is pickled by its name."""


class Outcome(NamedTuple):
    """What a worker made of its runs.

    kind is `done`, `busy` (some are trained elsewhere), `large` (together more than the memory), `failed` or `astray`
    (no such store).
    """

    kind: str
    text: str = ""
    problems: tuple[str, ...] = ()


def train_runs(root: str, identity: str, values: list[dict[str, Any]], source: Source) -> Outcome:
    """Trains a program in the store at `root`, on one thread, from its checkpoints if any; called by a worker."""
    store, program = Store(root), [configuration_from(of) for of in values]
    if store.identity() != identity:
        here = f"process {os.getpid()} on {socket.gethostname()}"
        return Outcome("astray", f"{here} does not see the store: {root} is another directory there, or none")
    problems: list[str] = []
    try:
        runs = store.train_together(
            program,
            data_root=source.root,
            download=source.download,
            device=source.device,
            on_problem=lambda _, text: problems.append(text),
        )
    except torch.OutOfMemoryError as error:
        kind = "large" if len(program) > 1 else "failed"
        return Outcome(kind, f"{type(error).__name__}: {error}", tuple(problems))
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        return Outcome("failed", f"{type(error).__name__}: {error}", tuple(problems))
    return Outcome("busy" if None in runs else "done", problems=tuple(problems))


@dataclass
class _Task:
    """A program on its way; without a future it waits to be submitted, though not before `due`."""

    program: Program
    future: Future | None = None
    epochs: dict[str, int] = field(default_factory=dict)  # by key, the last that the store shows as finished
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
    """Trains the programs, at most `at_once` submitted at a time (None: all), and returns when all are finished.

    `executor` stays its owner's; a function that makes one is called once more for every one that breaks, and what it
    made is shut down here. Whatever ends this early, runs that have not begun are cancelled, as far as the executor
    can; others may go on to their end, in the store.
    """
    made = _Made(executor)
    identity = store.identity(create=True)
    # The worker has a working directory and an environment of its own.
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
    """An executor that was given, or the last of those that a given function made."""

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
        except Exception as error:  # each kind of executor has its own
            raise TrainingFailedError(
                f"the executor takes no more runs ({_line(error)}); start again to resume"
            ) from error
        return future

    def close(self, *, wait: bool) -> None:
        if self._make is not None:
            self._executor.shutdown(wait=wait, cancel_futures=True)


def _look(store: Store, task: _Task, on_event: Callable[[Event], None]) -> None:
    """Tells of epochs that were finished since the last look."""
    for config in task.program:
        with suppress(OSError):  # a file replaced on another machine can be gone while it is read
            epoch, key = store.status(config).epoch, config.key()
            if epoch > task.epochs.get(key, 0):
                task.epochs[key] = epoch
                on_event(Event("epoch", key, epoch))


def _left(store: Store, task: _Task, on_event: Callable[[Event], None]) -> list[_Task]:
    """What is left of a program: nothing if it is finished, all of it if its worker ended otherwise."""
    if task.future is None or not task.future.done():
        return [task]
    future, task.future = task.future, None
    name, key = groups.name(task.program), task.program[0].key()
    try:
        error = future.exception()
    except CancelledError as cancelled:  # not by us: the scheduler lost it
        error = cancelled
    outcome = Outcome("lost", _line(error)) if error is not None else Outcome(*future.result())
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
        return [_Task(half, pause=task.pause) for half in groups.halved(task.program)]  # which look for themselves
    if outcome.kind == "busy":
        task.due = time.monotonic() + task.pause
        if task.pause < _PAUSES[1] <= 2 * task.pause:  # once, and not where it is soon over
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
    except CorruptFileError as error:  # such as that of a worker with another version
        raise TrainingFailedError(f"{config.name()}: {error}") from None


def _line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0].removesuffix(":")
