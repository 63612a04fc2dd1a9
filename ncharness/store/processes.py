"""Training of many runs in parallel, by single-threaded worker processes that take runs from a shared queue.

The queue is a list of programs (groups.py): runs that are trained together, or a single one. There is no scheduler,
unless an executor brings its own (executor_loop.py). Every worker goes through the same list and trains the runs that
it can lock. So each run is trained once, and a second process on the same store shares the work. A run takes one thread
(store.py): on small networks, several processes of one thread are faster than one process with all threads.
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

import torch

from ncharness.store.estimates import estimated_seconds
from ncharness.store.executor_loop import Executor, train_through
from ncharness.store.groups import Program, failure, grouped, halved, too_large
from ncharness.store.messages import Event, Source, TrainingFailedError
from ncharness.store.run import Configuration, Run, configuration_from
from ncharness.store.store import Store


def available_cpus() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def missing(store: Store, configs: Sequence[Configuration]) -> list[Configuration]:
    """Return the runs that are not finished, each once, the longest first."""
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
    together: int | None = None,
) -> dict[str, Run]:
    """Return all the runs, by key, after training those that are not finished with up to `jobs` processes.

    Without `jobs` there are as many processes as CPUs, or one on a GPU. Up to `together` runs of one shape are trained
    as one program; None means the default of `groups.grouped` for the device.

    If a process dies, the others train its run. Raises TrainingFailedError if a run fails or is left over; finished
    runs and checkpoints are kept. On Ctrl-C the workers are stopped and KeyboardInterrupt is raised: the next call
    resumes every run from its last checkpoint.

    With an `executor`, such as those of `concurrent.futures`, or a function that makes one, its workers train the
    runs, up to `jobs` submitted at a time (None: all). They must see the store at the same path. A run whose worker is
    lost is submitted again and continues from its last checkpoint. A function also replaces an executor that breaks,
    as a ProcessPoolExecutor does when a process dies. On Ctrl-C only runs that have not begun are cancelled.
    """
    ended: list[int] = []
    if todo := missing(store, configs):
        source = source or Source()
        work = grouped(todo, together=together, device=source.device)
        if executor is not None:
            train_through(executor, store, work, source=source, on_event=on_event, at_once=jobs)
        else:
            most = jobs or (1 if source.device.startswith("cuda") else available_cpus())  # one program fills a GPU
            ended = _train_all(store, work, min(most, len(work)), source, on_event)
    runs = {}
    for config in configs:
        run = store.load(config)
        if run is None:
            why = f"a training process ended with exit code {', '.join(map(str, ended)) or '0'}"
            raise TrainingFailedError(f"{config.name()} was not finished: {why}; start again to resume")
        runs[config.key()] = run
    return runs


def _train_all(
    store: Store, work: Sequence[Program], jobs: int, source: Source, on_event: Callable[[Event], None]
) -> list[int]:
    """Train the programs and return the nonzero exit codes of workers."""
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, BaseProcess] = {}
    ended: list[int] = []
    try:
        with _ignoring_ctrl_c():  # workers inherit this: Ctrl-C reaches them too, and the parent stops them
            for _ in range(jobs):
                # One pipe for each worker: one that is killed while it sends an event does not block the others.
                reader, writer = context.Pipe(duplex=False)
                values = [[config.to_dict() for config in program] for program in work]
                arguments = (str(store.root), values, source, writer)
                workers[reader] = context.Process(target=_work, args=arguments, daemon=True)
                workers[reader].start()
                writer.close()  # only the worker's end stays open: its death closes the pipe
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
def _ignoring_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _work(root: str, work: list[list[dict[str, Any]]], source: Source, events: Connection) -> None:
    store, parent = Store(root), multiprocessing.parent_process()
    pending: list[Program] = [[configuration_from(values) for values in program] for program in work]
    while pending:
        left = [part for program in pending for part in _take(store, program, source, events)]
        if left == pending:
            if parent is not None and not parent.is_alive():
                return
            time.sleep(0.5)  # other processes hold the locks of all remaining runs
        pending = left


def _take(store: Store, program: Program, source: Source, events: Connection) -> list[Program]:
    """Train the runs of a program that no other process has locked.

    Returns the programs that remain: the locked runs, or two halves if the program was out of memory.
    """

    def send(kind: str, config: Configuration, epoch: int = 0, loss: float | None = None, text: str = "") -> None:
        try:
            events.send(Event(kind, config.key(), epoch, loss, text))
        except BrokenPipeError:  # the parent was killed, and nobody waits for the results
            os._exit(1)

    try:
        runs = store.train_together(
            program,
            source=source,
            on_epoch=lambda config, state: send("epoch", config, state.epoch, state.loss),
            on_problem=lambda config, text: send("problem", config, text=text),
        )
    except torch.OutOfMemoryError as error:
        if len(program) == 1:
            send("failed", program[0], text=failure(program, error))
            return []
        send("problem", program[0], text=too_large(program))
        return halved(program)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        # Sent in one line to the parent; the traceback of the worker would not help.
        send("failed", program[0], text=failure(program, error))
        return []
    for config, run in zip(program, runs, strict=True):
        if run is not None:
            send("done", config, config.epochs)
    left = [config for config, run in zip(program, runs, strict=True) if run is None]
    return [left] if left else []
