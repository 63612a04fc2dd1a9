"""Training in parallel: each run once, with any number of processes, and nothing lost when one ends early."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import torch

from ncharness import RunConfig, Store, grid
from ncharness.store import processes
from ncharness.store.estimates import estimated_seconds
from ncharness.store.messages import Event, Source, TrainingFailedError
from ncharness.store.processes import available_cpus, ensure, missing

checkpointed = importlib.import_module("ncharness.store.resume")


@pytest.mark.slow
def test_two_processes_train_every_run_once_with_the_bits_of_one(tiny: RunConfig, tmp_path: Path) -> None:
    configs, store = grid(tiny, seed=range(4)), Store(tmp_path / "two")
    events: list[Event] = []
    runs = ensure(store, configs, jobs=2, on_event=events.append)
    assert list(runs) == [config.key() for config in configs]
    assert [run.config for run in runs.values()] == configs
    epochs = sorted((event.key, event.epoch) for event in events if event.kind == "epoch")
    assert epochs == sorted((config.key(), epoch) for config in configs for epoch in range(tiny.epochs + 1))
    alone = Store(tmp_path / "one").train(configs[0])
    assert alone is not None
    assert alone.rows == runs[configs[0].key()].rows


def test_finished_runs_start_no_process(tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.train(tiny)
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: pytest.fail("a process was about to be started"))
    assert list(ensure(store, [tiny, tiny], jobs=2)) == [tiny.key()]


SCRIPT = """
from ncharness import *
from ncharness.store.processes import ensure
if __name__ == "__main__":
    configs = [RunConfig(depth=2, width=16, n_train=200, epochs={epochs}, measurements=3, seed=s) for s in range(3)]
    seen = set()
    ensure(Store({root!r}), configs, jobs={jobs}, on_event=lambda e: e.kind == "epoch" and seen.add((e.key, e.epoch)))
    print(len(seen))
"""


def start(tmp_path: Path, name: str, *, epochs: int, jobs: int = 2) -> subprocess.Popen[str]:
    script = tmp_path / f"{name}.py"
    script.write_text(SCRIPT.format(root=str(tmp_path / "runs"), epochs=epochs, jobs=jobs))
    # A session of its own, so that a signal can go to all of its processes, as a terminal's Ctrl-C does.
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_two_copies_at_once_share_the_work(tmp_path: Path) -> None:
    copies = [start(tmp_path, name, epochs=40, jobs=1) for name in ("first", "second")]
    outputs = [copy.communicate(timeout=120) for copy in copies]
    assert [copy.returncode for copy in copies] == [0, 0], outputs
    # Every run passes 41 states, epoch 0 among them; trained twice, the two counts would add up to more.
    assert sum(int(out) for out, _ in outputs) == 3 * 41


@pytest.mark.slow
def test_workers_of_a_killed_parent_end_and_leave_checkpoints(tmp_path: Path) -> None:
    parent, store = start(tmp_path, "killed", epochs=100_000, jobs=1), Store(tmp_path / "runs")
    configs = [RunConfig(depth=2, width=16, n_train=200, epochs=100_000, measurements=3, seed=s) for s in range(3)]
    wait_for(lambda: sum(store.status(config).epoch > 2 for config in configs) == 1)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    wait_for(lambda: settled(store, configs))
    assert sum(store.status(config).state == "partial" for config in configs) == 1


def settled(store: Store, configs: list[RunConfig]) -> bool:
    before = [store.status(config).epoch for config in configs]
    time.sleep(1.0)
    return before == [store.status(config).epoch for config in configs]


def wait_for(condition: "object", seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_interrupting_stops_the_workers_and_keeps_the_epochs(tmp_path: Path) -> None:
    parent, store = start(tmp_path, "interrupted", epochs=100_000), Store(tmp_path / "runs")
    configs = [RunConfig(depth=2, width=16, n_train=200, epochs=100_000, measurements=3, seed=s) for s in range(3)]
    wait_for(lambda: sum(store.status(config).epoch > 2 for config in configs) == 2)
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=180)
    assert "KeyboardInterrupt" in errors
    assert errors.count("Traceback") == 1, "the workers end without a word"
    assert sum(store.status(config).state == "partial" for config in configs) == 2


def test_a_run_that_cannot_be_trained_is_one_clear_line(tiny: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailedError, match=r"^mlp-L03.*ValueError: name: .*no-such-set") as caught:
        ensure(Store(tmp_path), [tiny.replace(data="no-such-set")], jobs=1)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_killed_worker_is_reported(tiny: RunConfig, tmp_path: Path) -> None:
    def kill(event: Event) -> None:
        for worker in multiprocessing.active_children():
            if event.epoch == 2 and worker.pid:
                os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(TrainingFailedError, match="exit code -9; start again to resume"):
        ensure(Store(tmp_path), [tiny.replace(epochs=2000)], jobs=1, on_event=kill)


@pytest.mark.slow
def test_the_run_of_a_killed_worker_is_taken_over(tiny: RunConfig, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one(event: Event) -> None:
        workers = [worker.pid for worker in multiprocessing.active_children() if worker.pid]
        if event.epoch == 2 and not killed and len(workers) == 2:
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    configs = grid(tiny.replace(epochs=300), seed=range(2))
    runs = ensure(Store(tmp_path), configs, jobs=2, on_event=kill_one)
    assert len(killed) == 1
    assert list(runs) == [config.key() for config in configs]


def test_missing_runs_come_once_and_the_longest_first(tiny: RunConfig, tmp_path: Path) -> None:
    long, done, store = tiny.replace(epochs=9), tiny.replace(seed=1), Store(tmp_path)
    store.train(done)
    assert missing(store, [tiny, done, long, tiny]) == [long, tiny]


def test_estimates_grow_with_every_cost(tiny: RunConfig) -> None:
    base = estimated_seconds(tiny)
    for change in ({"depth": 6}, {"width": 64}, {"epochs": 8}, {"n_train": 400}, {"arch": "conv"}):
        assert estimated_seconds(tiny.replace(**change)) > base
    first = tiny.replace(part="first")
    assert estimated_seconds(first) == base / 2
    assert estimated_seconds(first.replace(part="both")) == base


def test_a_classifier_of_torchvision_is_estimated_as_a_resnet18() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    short = RunConfig(arch="resnet18", n_train=1000, epochs=10)
    assert 60 < estimated_seconds(short) == estimated_seconds(short.replace(epochs=20)) / 2


def test_there_is_at_least_one_processor() -> None:
    assert available_cpus() >= 1


# --- programs of several runs -----------------------------------------------------------------------------------------


class Pipe:
    """Return the events that a worker sends."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def send(self, event: Event) -> None:
        self.events.append(event)

    def texts(self, kind: str) -> list[str]:
        return [event.text for event in self.events if event.kind == kind]


def take(store: Store, program: list[RunConfig]) -> tuple[list[list[RunConfig]], Pipe]:
    pipe = Pipe()
    return processes._take(store, program, Source(), pipe), pipe  # type: ignore[arg-type, return-value]


def test_a_program_tells_of_every_run(tiny: RunConfig, tmp_path: Path) -> None:
    program, store = grid(tiny, seed=range(3)), Store(tmp_path)
    left, pipe = take(store, program)
    assert left == []
    told = [(event.kind, event.key, event.epoch) for event in pipe.events]
    keys = [config.key() for config in program]
    assert told[:-3] == [("epoch", key, epoch) for epoch in range(tiny.epochs + 1) for key in keys]
    assert told[-3:] == [("done", key, tiny.epochs) for key in keys]
    assert all(event.loss is not None for event in pipe.events[:-3])


def test_what_is_left_of_a_program_is_what_others_train(tiny: RunConfig, tmp_path: Path) -> None:
    program, store = grid(tiny, seed=range(3)), Store(tmp_path)
    lock = store.lock_file(program[1])
    lock.parent.mkdir()
    with filelock.FileLock(lock):
        left, pipe = take(store, program)
    assert left == [[program[1]]]
    assert {event.key for event in pipe.events} == {program[0].key(), program[2].key()}
    assert take(store, left[0])[0] == []


def test_a_program_that_does_not_fit_into_memory_is_halved(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, store = grid(tiny, seed=range(5)), Store(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr("ncharness.store.resume.train_together", full)
        left, pipe = take(store, program)
        assert left == [program[:2], program[2:]]
        assert pipe.texts("failed") == []
        name = f"{program[0].name()} and 4 others of its shape"
        assert pipe.texts("problem") == [f"{name} do not fit into memory together; they are trained in halves"]
    with monkeypatch.context() as patched:
        patched.setattr("ncharness.store.resume.train", full)
        left, pipe = take(store, program[:1])
        assert left == []
        assert pipe.texts("failed") == [f"{tiny.name()}: OutOfMemoryError: CUDA out of memory"]


def test_a_worker_goes_on_with_the_halves(tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, store, together = grid(tiny, seed=range(5)), Store(tmp_path), checkpointed.train_together

    def small(configs: list[RunConfig], *arguments: object, **settings: object) -> object:
        if len(configs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return together(configs, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("ncharness.store.resume.train_together", small)
    pipe = Pipe()
    processes._work(str(tmp_path), [[config.to_dict() for config in program]], Source(), pipe)  # type: ignore[arg-type]
    counts = [run.provenance["together"] for config in program if (run := store.load(config)) is not None]
    assert sorted(counts) == [1, 2, 2, 2, 2]
    assert len(pipe.texts("problem")) == 2


def test_a_program_that_fails_is_one_clear_line(tiny: RunConfig, tmp_path: Path) -> None:
    left, pipe = take(Store(tmp_path), grid(tiny.replace(data="no-such-set"), seed=range(2)))
    assert left == []
    (text,) = pipe.texts("failed")
    assert text.startswith("mlp-L03-H16-no-such-set-p0.00-s0 and 1 other of its shape: ValueError: name: ")
    assert "\n" not in text


@pytest.mark.parametrize(("device", "jobs", "expected"), [("cuda:0", None, 1), ("cuda", 2, 2), ("cpu", None, 3)])
def test_a_gpu_has_one_process_unless_more_are_asked_for(
    tiny: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    jobs: int | None,
    expected: int,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(processes, "available_cpus", lambda: 3)
    monkeypatch.setattr(processes, "_train_all", lambda _store, _work, jobs, *_: asked.append(jobs) or [])
    configs = [tiny.replace(depth=depth) for depth in range(1, 6)]
    with pytest.raises(TrainingFailedError):  # as nothing was trained
        ensure(Store(tmp_path), configs, jobs=jobs, source=Source(device=device))
    assert asked == [expected]


@pytest.mark.slow
def test_programs_are_trained_by_processes(tiny: RunConfig, tmp_path: Path) -> None:
    configs, store = [*grid(tiny, seed=range(4)), tiny.replace(depth=2)], Store(tmp_path)
    runs = ensure(store, configs, jobs=2, together=2)
    assert list(runs) == [config.key() for config in configs]
    assert [run.provenance["together"] for run in runs.values()] == [2, 2, 2, 2, 1]


@pytest.mark.slow
def test_a_killed_program_goes_on_with_all_of_its_runs(tiny: RunConfig, tmp_path: Path) -> None:
    def kill(event: Event) -> None:
        for worker in multiprocessing.active_children():
            if event.epoch == 5 and worker.pid:
                os.kill(worker.pid, signal.SIGKILL)

    configs, store = grid(tiny.replace(epochs=200), seed=range(3)), Store(tmp_path / "killed")
    with pytest.raises(TrainingFailedError, match="exit code -9; start again to resume"):
        ensure(store, configs, jobs=1, on_event=kill, together=3)
    epochs = [store.status(config).epoch for config in configs]
    assert min(epochs) >= 5
    assert max(epochs) - min(epochs) <= 1, "it was killed at most between two checkpoints"
    untouched = ensure(Store(tmp_path / "untouched"), configs, jobs=1, together=3)
    runs = ensure(store, configs, jobs=1, together=3)
    assert [run.provenance["resumed_from_epoch"] for run in runs.values()] == epochs
    if len(set(epochs)) == 1:  # else one or two were behind and trained without the others for an epoch
        assert [run.rows for run in runs.values()] == [run.rows for run in untouched.values()]
