"""Many runs side by side: single-threaded worker processes that take the next run nobody else holds.

There is no scheduler. Every worker walks the same list and trains what it can lock, so a second copy of the program,
on the same store, simply helps, and each run is trained once. A run takes one thread (store.py): on small networks,
several processes of one thread beat one process with all threads.
"""

import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from ncharness.config import RunConfig
from ncharness.record import Run
from ncharness.store import Store
from ncharness.train import State


class Event(NamedTuple):
    """News from a worker: kind is `epoch`, `done`, `problem` or `failed`."""

    kind: str
    key: str
    epoch: int = 0
    loss: float = float("nan")
    text: str = ""


class TrainingFailedError(RuntimeError):
    """A run could not be trained; what was finished before is kept."""


@dataclass(frozen=True)
class Source:
    """Where data sets that are not embedded come from."""

    root: Path | None = None
    download: bool = False


def available_cpus() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def estimated_seconds(config: RunConfig) -> float:
    """Roughly how long a run takes one core of a server of the 2020s: for the order of runs, plans and ETAs."""
    per_layer: float = config.width**2 * (9 * 64 if config.arch != "mlp" else 1) + 2000 * float(config.width) ** 0.5
    return 5e-11 * (config.depth + 1) * per_layer * config.epochs * (config.n_train or 4000)


def ensure(
    store: Store,
    configs: Sequence[RunConfig],
    *,
    jobs: int,
    source: Source | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> dict[str, Run]:
    """All the runs, by key; those that are not finished are trained by up to `jobs` processes.

    Raises TrainingFailedError when a run fails or a worker dies; finished runs and checkpoints stay. On Ctrl-C the
    workers are stopped and KeyboardInterrupt goes on: the next call resumes every run from its last epoch.
    """
    wanted = {config.key(): config for config in configs}
    missing = sorted(
        (config for config in wanted.values() if store.status(config).state != "done"),
        key=estimated_seconds,
        reverse=True,
    )
    if missing:
        _train_all(store, missing, max(1, min(jobs, len(missing))), source or Source(), on_event)
    runs = {}
    for key, config in wanted.items():
        run = store.load(config)
        if run is None:
            raise TrainingFailedError(f"{config.name()} was not trained")
        runs[key] = run
    return runs


def _train_all(
    store: Store, configs: Sequence[RunConfig], jobs: int, source: Source, on_event: Callable[[Event], None]
) -> None:
    context = multiprocessing.get_context("spawn")
    events: multiprocessing.Queue[Event] = context.Queue()
    arguments = (str(store.root), [config.to_dict() for config in configs], source, events)
    workers = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            _pass_on(events, on_event, timeout=0.2)
            _check_alive(workers)
        _pass_on(events, on_event, timeout=0.0)
        _check_alive(workers)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _pass_on(events: Any, on_event: Callable[[Event], None], *, timeout: float) -> None:
    while True:
        try:
            event = events.get(timeout=timeout) if timeout else events.get_nowait()
        except queue.Empty:
            return
        if event.kind == "failed":
            raise TrainingFailedError(event.text)
        on_event(event)


def _check_alive(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        if worker.exitcode not in (None, 0):
            raise TrainingFailedError(
                f"a training process ended with exit code {worker.exitcode}; start again to resume"
            )


def _work(root: str, configs: list[dict[str, Any]], source: Source, events: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops the workers
    store, parent = Store(root), multiprocessing.parent_process()
    pending = [RunConfig.from_dict(values) for values in configs]
    while pending:
        before = len(pending)
        pending = [config for config in pending if not _take(store, config, source, events, parent)]
        if len(pending) == before:
            time.sleep(0.5)  # all that is left is being trained elsewhere


def _take(store: Store, config: RunConfig, source: Source, events: Any, parent: Any) -> bool:
    """Trains a run unless somebody else does; whether it is done."""
    key = config.key()

    def on_epoch(state: State) -> None:
        if not parent.is_alive():  # killed outright: nobody waits for the rest
            os._exit(1)
        events.put(Event("epoch", key, state.epoch, state.loss))

    try:
        run = store.train(
            config,
            data_root=source.root,
            download=source.download,
            on_epoch=on_epoch,
            on_problem=lambda text: events.put(Event("problem", key, text=text)),
            wait=False,
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        # Told in one line to whoever started this; the worker's own traceback would only be noise.
        events.put(Event("failed", key, text=f"{config.name()}: {type(error).__name__}: {error}"))
        return True
    if run is not None:
        events.put(Event("done", key, config.epochs))
    return run is not None
