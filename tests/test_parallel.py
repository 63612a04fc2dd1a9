"""Runs side by side: each once, whoever else is at work, and nothing lost when something ends early."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncharness import RunConfig, Store, grid
from ncharness.cost import estimated_seconds
from ncharness.parallel import available_cpus, ensure, missing
from ncharness.work import Event, TrainingFailedError


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
from ncharness.parallel import ensure
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
