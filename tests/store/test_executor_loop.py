"""Training through executors: lost workers, retries, and the events that are sent."""

import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch

from ncharness import RunConfig, Store, grid
from ncharness.store import executor_loop
from ncharness.store.executor_loop import WorkerResult, train_runs
from ncharness.store.messages import Event, Source, TrainingFailedError
from ncharness.store.processes import ensure
from ncharness.training.loop import State

checkpointed = importlib.import_module("ncharness.store.resume")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_loop, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(executor_loop, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(executor_loop, "_PAUSES", (0.001, 0.004))


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(depth=2, width=8, n_train=100, epochs=8, measurements=2)


class Worker:
    """Executor that calls a function of its own at once; the future holds its result or exception."""

    def __init__(self, work: Callable[..., Any] = train_runs) -> None:
        self.work = work
        self.submitted: list[tuple[Any, ...]] = []
        self.futures: list[Future[Any]] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
        assert function is train_runs
        self.submitted.append(arguments)
        self.futures.append(Future())
        try:
            self.futures[-1].set_result(self.work(*arguments))
        except Exception as error:  # noqa: BLE001
            self.futures[-1].set_exception(error)
        return self.futures[-1]


class KilledError(Exception):
    """Ends a training like a kill, with a second line."""

    def __str__(self) -> str:
        return "by hand\nand more"


def killed_at(*epochs: int) -> Callable[..., WorkerResult]:
    """Train, but kill the first call at the first of these epochs, the second at the second, and so on."""
    ahead = list(epochs)

    def work(root: str, identity: str, values: list[dict[str, Any]], source: Source) -> WorkerResult:
        if not ahead:
            return train_runs(root, identity, values, source)
        epoch = ahead.pop(0)

        def stop(state: State) -> None:
            if state.epoch == epoch:
                raise KilledError

        Store(root).train(RunConfig.from_dict(*values), on_epoch=stop)
        raise AssertionError("was not killed")

    return work


def test_threads_train_to_the_bits_of_a_run_alone(config: RunConfig, tmp_path: Path) -> None:
    configs, store, events = grid(config, seed=range(3)), Store(tmp_path / "shared"), list[Event]()
    with ThreadPoolExecutor(2) as executor:
        runs = ensure(store, configs, executor=executor, on_event=events.append)
        assert executor.submit(int, "7").result() == 7, "it stays its owner's"
    assert list(runs) == [each.key() for each in configs]
    assert sorted(event.key for event in events if event.kind == "done") == sorted(runs)
    for each in configs:
        alone = Store(tmp_path / "alone").train(each)
        assert alone is not None
        assert alone.rows == runs[each.key()].rows
        assert runs[each.key()].provenance["threads"] == 1


def test_finished_runs_are_not_submitted(config: RunConfig, tmp_path: Path) -> None:
    store, worker = Store(tmp_path), Worker()
    store.train(config)
    assert list(ensure(store, [config], executor=worker)) == [config.key()]
    assert worker.submitted == []


def test_a_lost_worker_costs_its_run_the_epoch_it_was_in(config: RunConfig, tmp_path: Path) -> None:
    store, worker, events = Store(tmp_path), Worker(killed_at(3)), list[Event]()
    run = ensure(store, [config], executor=worker, on_event=events.append)[config.key()]
    assert run.provenance["resumed_from_epoch"] == 3
    assert len(worker.submitted) == 2
    (problem,) = [event.text for event in events if event.kind == "problem"]
    assert problem == f"{config.name()} lost its worker (KilledError: by hand) and goes on after epoch 3"
    assert [event.kind for event in events][-1] == "done"


def test_a_run_that_gets_on_may_lose_any_number_of_workers(config: RunConfig, tmp_path: Path) -> None:
    worker = Worker(killed_at(1, 2, 3, 4, 5, 6))
    run = ensure(Store(tmp_path), [config], executor=worker)[config.key()]
    assert run.provenance["resumed_from_epoch"] == 6
    assert len(worker.submitted) == 7


def test_a_run_that_does_not_get_on_is_given_up(config: RunConfig, tmp_path: Path) -> None:
    def work(*arguments: Any) -> WorkerResult:
        return killed_at(5)(*arguments) if len(worker.submitted) == 1 else killed_at()(*arguments[:3], 1 / 0)

    worker, store = Worker(work), Store(tmp_path)
    message = rf"^{config.name()}: 3 workers in a row ended before .* \(ZeroDivisionError: division by zero\)"
    with pytest.raises(TrainingFailedError, match=message):
        ensure(store, [config], executor=worker)
    assert len(worker.submitted) == 3, "the first, which finished five epochs, and two that finished none"
    assert store.status(config)[:2] == ("partial", 5)


def test_a_future_that_the_scheduler_cancels_is_a_lost_worker(config: RunConfig, tmp_path: Path) -> None:
    class Cancelling(Worker):
        def submit(self, function: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
            if self.submitted:
                return super().submit(function, *arguments)
            self.submitted.append(arguments)
            future: Future[Any] = Future()
            future.cancel()
            return future

    worker, events = Cancelling(), list[Event]()
    ensure(Store(tmp_path), [config], executor=worker, on_event=events.append)
    assert len(worker.submitted) == 2
    assert CancelledError.__name__ in next(event.text for event in events if event.kind == "problem")


def test_a_run_that_is_trained_elsewhere_is_waited_for(config: RunConfig, tmp_path: Path) -> None:
    store, events = Store(tmp_path), list[Event]()
    lock = store.lock_file(config)
    lock.parent.mkdir(parents=True)

    def work(*arguments: Any) -> WorkerResult:
        if len(worker.submitted) == 5:
            held.release()
        return train_runs(*arguments)

    worker = Worker(work)
    with filelock.FileLock(lock) as held:
        ensure(store, [config], executor=worker, on_event=events.append)
    assert len(worker.submitted) == 5
    notes = [event.text for event in events if event.kind == "problem"]
    assert notes == [f"{config.name()} waits for another process, which holds {lock}"], "once"


def test_what_fails_is_one_clear_line_and_ends_the_rest(config: RunConfig, tmp_path: Path) -> None:
    worker = Worker(lambda *arguments: train_runs(*arguments) if arguments[2][0]["seed"] == 0 else WorkerResult("busy"))
    configs = [config.replace(data="no-such-set"), config.replace(seed=1)]
    with pytest.raises(TrainingFailedError, match=r"^mlp-L02.*ValueError: name: .*no-such-set") as caught:
        ensure(Store(tmp_path), configs, executor=worker)
    assert "\n" not in str(caught.value)


def test_problems_are_told(config: RunConfig, tmp_path: Path) -> None:
    store, events = Store(tmp_path), list[Event]()
    store.path(config).mkdir(parents=True)
    (store.path(config) / "checkpoint.pt").write_text("nothing")
    ensure(store, [config], executor=Worker(), on_event=events.append)
    (problem,) = [event.text for event in events if event.kind == "problem"]
    assert "training the run from the start" in problem


def test_a_worker_that_sees_another_directory_trains_nothing(config: RunConfig, tmp_path: Path) -> None:
    other = tmp_path / "other"
    worker = Worker(lambda _, *arguments: train_runs(str(other), *arguments))
    with pytest.raises(TrainingFailedError, match=rf"does not see the store: {other} is another directory there"):
        ensure(Store(tmp_path / "here"), [config], executor=worker)
    assert not other.exists()
    Store(other).identity(create=True)
    assert train_runs(str(other), Store(tmp_path / "here").identity(), [config.to_dict()], Source()).kind == "astray"


def test_workers_are_given_absolute_paths(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NCHARNESS_DATA", "from/environment")
    for given, expected in ((Path("given"), tmp_path / "given"), (None, tmp_path / "from" / "environment")):
        worker = Worker()
        ensure(Store("runs"), [config], executor=worker, source=Source(given, download=True))
        ((root, _, _, source),) = worker.submitted
        assert (root, source) == (str(tmp_path / "runs"), Source(expected, download=True))
        config = config.replace(seed=config.seed + 1)


def test_a_result_that_does_not_show_is_not_waited_for_in_vain(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_loop, "_CACHED_SECONDS", 0.01)
    with pytest.raises(TrainingFailedError, match=r"a worker finished it, but .* has no result"):
        ensure(Store(tmp_path), [config], executor=Worker(lambda *_: WorkerResult("done")))


def test_a_result_that_shows_late_is_found(config: RunConfig, tmp_path: Path) -> None:
    def work(*_: Any) -> WorkerResult:
        late.start()
        return WorkerResult("done")

    late = threading.Timer(0.2, Store(tmp_path).train, (config,))
    assert list(ensure(Store(tmp_path), [config], executor=Worker(work))) == [config.key()]
    late.join()


def test_a_result_of_another_version_is_one_clear_line(config: RunConfig, tmp_path: Path) -> None:
    def work(*arguments: Any) -> WorkerResult:
        outcome = train_runs(*arguments)
        file = Store(tmp_path).path(config) / "result.json"
        file.write_text(file.read_text().replace('"schema": ', '"schema": 9'))
        return outcome

    with pytest.raises(TrainingFailedError, match=rf"^{config.name()}: .*result.json is corrupt"):
        ensure(Store(tmp_path), [config], executor=Worker(work))


class Waiting(Worker):
    """Executor whose futures end at the test's command."""

    def submit(self, _: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
        self.submitted.append(arguments)
        self.futures.append(Future())
        self.futures[-1].set_running_or_notify_cancel()
        return self.futures[-1]


def test_progress_is_read_from_the_store(config: RunConfig, tmp_path: Path) -> None:
    """Train the run elsewhere while the worker is silent: between two polls to the next of these epochs."""
    store, events, stops = Store(tmp_path), list[Event](), iter([1, None, 2, 4])

    class Silent(Future[Any]):
        def done(self) -> bool:
            try:
                epoch = next(stops)
            except StopIteration:
                self.set_result(train_runs(*worker.submitted[0]))
                return super().done()
            if epoch is not None:
                with pytest.raises(KilledError):
                    killed_at(epoch)(str(tmp_path), "", [config.to_dict()], Source())
            return False

    class Unseen(Waiting):
        def submit(self, function: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
            super().submit(function, *arguments)
            return Silent()

    worker = Unseen()
    ensure(store, [config], executor=worker, on_event=events.append)
    key = config.key()
    assert events == [
        *(Event("epoch", key, epoch) for epoch in (1, 2, 4)),
        Event("done", key, config.epochs),
    ]
    assert events[0].loss is None


def test_no_more_runs_are_submitted_than_allowed(config: RunConfig, tmp_path: Path) -> None:
    under_way, most = set[str](), list[int]()

    class Slow(Future[Any]):
        def __init__(self, arguments: tuple[Any, ...], polls: int) -> None:
            super().__init__()
            self.arguments, self.polls = arguments, polls

        def done(self) -> bool:
            self.polls -= 1
            if self.polls == 0:
                self.set_result(train_runs(*self.arguments))
                under_way.remove(self.arguments[2][0]["seed"])
            return super().done()

    class Counting(Waiting):
        def submit(self, _: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
            under_way.add(arguments[2][0]["seed"])
            most.append(len(under_way))
            return Slow(arguments, polls=1 + len(most))  # no two end together

    ensure(Store(tmp_path), grid(config, seed=range(5)), executor=Counting(), jobs=2)
    assert most == [1, 2, 2, 2, 2]


def test_stopping_cancels_what_has_not_begun_and_says_how_to_go_on(config: RunConfig, tmp_path: Path) -> None:
    class Stopping(Future[Any]):
        def done(self) -> bool:
            raise KeyboardInterrupt

    class Queue(Waiting):
        def submit(self, _: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
            self.submitted.append(arguments)
            self.futures.append(Stopping() if not self.futures else Future())
            return self.futures[-1]

    worker = Queue()
    with pytest.raises(KeyboardInterrupt, match="the same command goes on from the last checkpoint of every run"):
        ensure(Store(tmp_path), grid(config, seed=range(3)), executor=worker)
    assert [future.cancelled() for future in worker.futures] == [True, True, True]


# --- programs of several runs -----------------------------------------------------------------------------------------


def test_a_program_is_submitted_as_one_and_every_run_of_it_is_told_of(config: RunConfig, tmp_path: Path) -> None:
    configs, worker, events = grid(config, seed=range(3)), Worker(), list[Event]()
    runs = ensure(Store(tmp_path), configs, executor=worker, on_event=events.append, together=2)
    assert sorted(len(arguments[2]) for arguments in worker.submitted) == [1, 2]
    assert sorted(run.provenance["together"] for run in runs.values()) == [1, 2, 2]
    assert sorted(event.key for event in events if event.kind == "done") == sorted(runs)


def test_for_a_gpu_programs_are_made_without_being_asked_for(config: RunConfig, tmp_path: Path) -> None:
    worker = Worker(lambda *_: WorkerResult("failed", "there is none"))
    with pytest.raises(TrainingFailedError, match="there is none"):
        ensure(Store(tmp_path), grid(config, seed=range(3)), executor=worker, source=Source(device="cuda"))
    assert [len(arguments[2]) for arguments in worker.submitted] == [3]


def test_a_program_that_loses_its_worker_goes_on_with_all_of_its_runs(config: RunConfig, tmp_path: Path) -> None:
    configs, events = grid(config, seed=range(3)), list[Event]()

    def work(root: str, identity: str, values: list[dict[str, Any]], source: Source) -> WorkerResult:
        if len(worker.submitted) > 1:
            return train_runs(root, identity, values, source)

        def stop(each: RunConfig, state: State) -> None:
            if state.epoch == 3 and each == configs[-1]:
                raise KilledError

        Store(root).train_together([RunConfig.from_dict(of) for of in values], on_epoch=stop)
        raise AssertionError("was not killed")

    worker = Worker(work)
    runs = ensure(Store(tmp_path), configs, executor=worker, on_event=events.append, together=3)
    assert [run.provenance["resumed_from_epoch"] for run in runs.values()] == [3, 3, 3]
    (problem,) = [event.text for event in events if event.kind == "problem"]
    name = f"{config.name()} and 2 others of its shape"
    assert problem == f"{name} lost its worker (KilledError: by hand) and goes on after epoch 3"
    told = [(event.key, event.epoch) for event in events if event.kind == "epoch"]
    assert told == [(each.key(), 3) for each in configs]


def test_a_program_goes_on_after_the_epoch_that_all_of_its_runs_have(config: RunConfig, tmp_path: Path) -> None:
    configs, worker, events = grid(config, seed=range(2)), Worker(), list[Event]()

    def work(root: str, identity: str, values: list[dict[str, Any]], source: Source) -> WorkerResult:
        if len(worker.submitted) > 1:
            return train_runs(root, identity, values, source)
        return killed_at(3)(root, identity, values[:1], source)  # between the checkpoints of the two

    worker.work = work
    runs = ensure(Store(tmp_path), configs, executor=worker, on_event=events.append, together=2)
    (problem,) = [event.text for event in events if event.kind == "problem"]
    assert problem.endswith("goes on after epoch 0")
    assert [run.provenance["resumed_from_epoch"] for run in runs.values()] == [3, None]


def test_one_run_that_is_trained_elsewhere_is_waited_for_and_not_the_others(config: RunConfig, tmp_path: Path) -> None:
    store, configs = Store(tmp_path), grid(config, seed=range(3))
    lock = store.lock_file(configs[1])
    lock.parent.mkdir(parents=True)

    def work(*arguments: Any) -> WorkerResult:
        if len(worker.submitted) == 2:
            assert [store.status(each).state for each in configs] == ["done", "missing", "done"]
            held.release()
        return train_runs(*arguments)

    worker = Worker(work)
    with filelock.FileLock(lock) as held:
        runs = ensure(store, configs, executor=worker, together=3)
    assert len(worker.submitted) == 2
    assert [run.provenance["together"] for run in runs.values()] == [2, 1, 2]


def test_a_program_that_does_not_fit_into_a_workers_memory_is_halved(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs, events, together = grid(config, seed=range(5)), list[Event](), checkpointed.train_together

    def small(program: list[RunConfig], *arguments: Any, **settings: Any) -> Any:
        if len(program) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return together(program, *arguments, **settings)

    monkeypatch.setattr("ncharness.store.resume.train_together", small)
    worker = Worker()
    ensure(Store(tmp_path), configs, executor=worker, on_event=events.append, together=5)
    assert sorted(len(arguments[2]) for arguments in worker.submitted) == [1, 2, 2, 3, 5]
    problems = [event.text for event in events if event.kind == "problem"]
    assert len(problems) == 2
    assert all(text.endswith("do not fit into memory together; they are trained in halves") for text in problems)


def test_a_half_that_does_not_get_on_is_given_up_whatever_the_other_does(config: RunConfig, tmp_path: Path) -> None:
    configs, store = grid(config, seed=range(2)), Store(tmp_path)
    killed = killed_at(*range(1, 7))

    def work(root: str, identity: str, values: list[dict[str, Any]], source: Source) -> WorkerResult:
        if len(values) == 2:
            return WorkerResult("large")
        if values[0]["seed"] == 0:
            return killed(root, identity, values, source)
        raise KilledError

    with pytest.raises(TrainingFailedError, match=rf"^{configs[1].name()}: 3 workers in a row ended"):
        ensure(store, configs, executor=Worker(work), together=2)
    assert store.status(configs[0]).epoch < 6


def test_a_run_that_does_not_fit_alone_is_one_clear_line(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ncharness.store.resume.train", full)
    with pytest.raises(TrainingFailedError, match=rf"^{config.name()}: OutOfMemoryError: CUDA out of memory"):
        ensure(Store(tmp_path), [config], executor=Worker())


@pytest.mark.parametrize("error", [BrokenExecutor("a process died"), KilledError(), OSError("no route")])
def test_an_executor_that_is_broken_for_good_is_one_clear_line(
    config: RunConfig, tmp_path: Path, error: Exception
) -> None:
    def broken(*_: Any) -> WorkerResult:
        raise error

    class Broken(Worker):
        def submit(self, function: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":
            if self.submitted:
                broken()
            return super().submit(function, *arguments)

    with pytest.raises(TrainingFailedError, match=r"takes no more runs \(\w+: .*start again to resume") as caught:
        ensure(Store(tmp_path), [config], executor=Broken(broken))
    assert type(error).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_pool_that_breaks_is_made_again(config: RunConfig, tmp_path: Path) -> None:
    store, config, pools = Store(tmp_path / "shared"), config.replace(epochs=200), list[ProcessPoolExecutor]()
    stopped_at: list[int] = []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["ncharness.store.executor_loop", "sklearn.datasets", "torch._dynamo"]
    )  # seconds, once

    def pool() -> ProcessPoolExecutor:
        pools.append(ProcessPoolExecutor(1, mp_context=context))
        return pools[-1]

    def kill(event: Event) -> None:
        if event.kind == "epoch" and event.epoch > 2 and not stopped_at:
            (worker,) = multiprocessing.active_children()
            assert worker.pid
            stop(worker.pid)
            stopped_at.append(store.status(config).epoch)
            os.kill(worker.pid, signal.SIGKILL)

    run = ensure(store, [config], executor=pool, on_event=kill)[config.key()]
    assert len(pools) == 2
    assert run.provenance["resumed_from_epoch"] == stopped_at[0]
    with pytest.raises(RuntimeError, match="after shutdown"):
        pools[1].submit(int)
    alone = Store(tmp_path / "alone").train(config)
    assert alone is not None
    assert alone.rows == run.rows


def stop(pid: int) -> None:
    """Stop a process, so that it writes nothing more."""
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)
