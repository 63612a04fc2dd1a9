"""Many runs side by side: single-threaded worker processes that take the next run nobody else holds.

There is no scheduler, unless an executor brings its own (remote.py). Every worker walks the same list and trains what
it can lock, so a second copy of the program, on the same store, simply helps, and each run is trained once. A run
takes one thread (store.py): on small networks, several processes of one thread beat one process with all threads.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, cast

from ncharness.config import ARCHS
from ncharness.record import Configuration, Run, configuration_from
from ncharness.remote import Executor, train_through
from ncharness.store import Store
from ncharness.study import Study
from ncharness.work import Event, Source, TrainingFailedError

_RESNET18 = 5.6e8
"""Multiplications of a ResNet-18 with the CIFAR stem for one image of 32 x 32 pixels: for want of more, of any such."""


def available_cpus() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def estimated_seconds(config: Configuration) -> float:
    """Roughly how long a run takes one core of a server of the 2020s: for the order of runs, plans and ETAs."""
    if isinstance(config, Study):
        return config.seconds
    samples = (config.n_train or 4000) / (2 if config.part == "first" else 1)
    if config.arch not in ARCHS:
        return 6.5e-11 * _RESNET18 * config.epochs * samples
    per_layer: float = config.width**2 * (9 * 64 if config.arch != "mlp" else 1) + 2000 * float(config.width) ** 0.5
    return 6.5e-11 * (config.depth + 1) * per_layer * config.epochs * samples


def missing(store: Store, configs: Sequence[Configuration]) -> list[Configuration]:
    """The runs that are not finished, each once, the longest first."""
    unique = {config.key(): config for config in configs}.values()
    return sorted(
        (config for config in unique if store.status(config).state != "done"), key=estimated_seconds, reverse=True
    )


def ensure(
    store: Store,
    configs: Sequence[Configuration],
    *,
    jobs: int | None = None,
    source: Source | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    executor: Executor | Callable[[], Any] | None = None,
) -> dict[str, Run]:
    """All the runs, by key; those that are not finished are trained by up to `jobs` processes (None: as many as CPUs).

    A process that dies leaves its run to the others. Raises TrainingFailedError when a run fails or is left over;
    finished runs and checkpoints stay. On Ctrl-C the workers are stopped and KeyboardInterrupt goes on: the next call
    resumes every run from its last epoch.

    With an `executor`, such as those of `concurrent.futures`, or a function that makes one, its workers train the
    runs, up to `jobs` submitted at a time (None: all). They must see the store, at the same path. A run whose worker
    is lost is submitted again and repeats at most one epoch; a function also replaces an executor that breaks, as a
    ProcessPoolExecutor does when a process dies. On Ctrl-C only runs that have not begun are cancelled.
    """
    ended: list[int] = []
    if todo := missing(store, configs):
        if executor is not None:
            train_through(executor, store, todo, source=source or Source(), on_event=on_event, at_once=jobs)
        else:
            processes = max(1, min(jobs or available_cpus(), len(todo)))
            ended = _train_all(store, todo, processes, source or Source(), on_event)
    runs = {}
    for config in configs:
        run = store.load(config)
        if run is None:
            why = f"a training process ended with exit code {', '.join(map(str, ended)) or '0'}"
            raise TrainingFailedError(f"{config.name()} was not finished: {why}; start again to resume")
        runs[config.key()] = run
    return runs


def _train_all(
    store: Store, configs: Sequence[Configuration], jobs: int, source: Source, on_event: Callable[[Event], None]
) -> list[int]:
    """Trains the runs and returns the exit codes of workers that did not end well."""
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, BaseProcess] = {}
    ended: list[int] = []
    try:
        with _deaf_to_ctrl_c():  # which reaches the workers too: they inherit this, and the parent stops them
            for _ in range(jobs):
                # A pipe each: a worker that is killed while it reports blocks no other.
                reader, writer = context.Pipe(duplex=False)
                arguments = (str(store.root), [config.to_dict() for config in configs], source, writer)
                workers[reader] = context.Process(target=_work, args=arguments, daemon=True)
                workers[reader].start()
                writer.close()  # the worker's end is the only one left: its death ends the pipe
        open_pipes = set(workers)
        while open_pipes:
            for ready in connection.wait(list(open_pipes)):
                reader = cast(Connection, ready)
                try:
                    event = reader.recv()
                except EOFError:
                    open_pipes.remove(reader)
                    workers[reader].join()
                    if code := workers[reader].exitcode:
                        ended.append(code)
                    continue
                if event.kind == "failed":
                    raise TrainingFailedError(event.text)
                on_event(event)
    finally:
        for worker in workers.values():
            if worker.pid is not None:
                worker.terminate()
                worker.join()
        for reader in workers:
            reader.close()
    return ended


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one hears signals
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _work(root: str, configs: list[dict[str, Any]], source: Source, events: Connection) -> None:
    store, parent = Store(root), multiprocessing.parent_process()
    pending = [configuration_from(values) for values in configs]
    while pending:
        before = len(pending)
        pending = [config for config in pending if not _take(store, config, source, events)]
        if len(pending) == before:
            if parent is not None and not parent.is_alive():
                return
            time.sleep(0.5)  # all that is left is being trained elsewhere


def _take(store: Store, config: Configuration, source: Source, events: Connection) -> bool:
    """Trains a run unless somebody else does; whether it is done."""

    def send(kind: str, epoch: int = 0, loss: float | None = None, text: str = "") -> None:
        try:
            events.send(Event(kind, config.key(), epoch, loss, text))
        except BrokenPipeError:  # the parent was killed outright, and nobody waits for the rest
            os._exit(1)

    try:
        run = store.train(
            config,
            data_root=source.root,
            download=source.download,
            on_epoch=lambda state: send("epoch", state.epoch, state.loss),
            on_problem=lambda text: send("problem", text=text),
            wait=False,
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        # Told in one line to whoever started this; the worker's own traceback would only be noise.
        send("failed", text=f"{config.name()}: {type(error).__name__}: {error}")
        return True
    if run is not None:
        send("done", config.epochs)
    return run is not None
