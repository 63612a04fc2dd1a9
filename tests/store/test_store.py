"""The run store: identity, resuming after any death, locks, and files that cannot be believed."""

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest
import torch

from ncharness import RunConfig, Store, Study
from ncharness.bench.timing import threads
from ncharness.store.files import CorruptFileError, read_checkpoint, read_result, write_result
from ncharness.store.run import Run
from ncharness.training import datasets
from ncharness.training.config import SCHEMA
from ncharness.training.loop import State, train


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return RunConfig(depth=3, width=16, n_train=200, epochs=4, measurements=3)


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds one finished run."""
    root = tmp_path_factory.mktemp("finished")
    Store(root).train(config)
    return root


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Store:
    shutil.copytree(finished, tmp_path / "runs")
    return Store(tmp_path / "runs")


class StoppedError(Exception):
    """Ends a training at a chosen epoch, as a kill would."""


def train_until(store: Store, config: RunConfig, epoch: int) -> None:
    def stop(state: State) -> None:
        if state.epoch == epoch:
            raise StoppedError

    with pytest.raises(StoppedError):
        store.train(config, on_epoch=stop)


def loaded(store: Store, config: RunConfig) -> Run:
    run = store.load(config)
    assert run is not None
    return run


def test_a_finished_run_is_loaded_not_trained(store: Store, config: RunConfig) -> None:
    epochs: list[int] = []
    run = store.train(config, on_epoch=lambda state: epochs.append(state.epoch))
    assert epochs == []
    assert run == loaded(store, config)
    assert store.status(config).state == "done"


def test_a_half_is_drawn_by_the_split_and_not_by_the_seed(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the initialisations and depths of a split must see one S1 and one S2."""
    seen = []
    load = datasets.load

    def recorded(name: str, **arguments: object) -> datasets.Dataset:
        seen.append(load(name, **arguments))
        return seen[-1]

    monkeypatch.setattr("ncharness.store.resume.load", recorded)
    first = config.replace(part="first", split=3, epochs=1)
    for run in (first, first.replace(seed=1), first.replace(part="both", noise=0.2), first.replace(split=4)):
        Store(tmp_path).train(run)
    inputs = [dataset.train_x[:100] for dataset in seen]
    assert torch.equal(inputs[0], inputs[1])
    assert torch.equal(inputs[0], inputs[2])
    assert not torch.equal(inputs[0], inputs[3])
    assert [int(dataset.noise_mask.sum()) for dataset in seen] == [0, 0, 20, 0]


def test_a_run_is_a_directory_named_by_its_key(store: Store, config: RunConfig) -> None:
    path = store.path(config)
    assert path.name == f"{config.name()}_{config.key()}"
    assert sorted(file.name for file in path.iterdir()) == ["model.pt", "result.json"]
    renamed = path.rename(path.with_name(f"my-favourite_{config.key()}"))
    assert store.path(config) == renamed
    assert store.status(config).state == "done"


def test_the_result_says_where_it_comes_from(store: Store, config: RunConfig) -> None:
    body = json.loads((store.path(config) / "result.json").read_text())
    assert body["schema"] == SCHEMA
    assert body["config"] == config.to_dict()
    assert {"version", "commit", "torch", "python", "threads", "finished", "seconds"} <= set(body["provenance"])


def test_the_trained_weights_are_kept(store: Store, config: RunConfig) -> None:
    weights = torch.load(store.path(config) / "model.pt", weights_only=True)
    assert weights["block02.pre_bn.weight"].shape == (16, 16)


@pytest.mark.parametrize("epoch", [0, 1, 3, 4])
def test_a_stopped_run_resumes_to_the_same_rows(store: Store, config: RunConfig, tmp_path: Path, epoch: int) -> None:
    other = Store(tmp_path / "other")
    train_until(other, config, epoch)
    assert other.status(config)[:2] == ("partial", epoch)
    seen: list[int] = []
    run = other.train(config, on_epoch=lambda state: seen.append(state.epoch))
    assert seen == list(range(epoch + 1, config.epochs + 1))
    assert run is not None
    assert run.rows == loaded(store, config).rows
    assert run.provenance["resumed_from_epoch"] == epoch
    assert not (other.path(config) / "checkpoint.pt").exists()


@pytest.mark.slow
def test_a_killed_process_loses_at_most_the_epoch_in_progress(tmp_path: Path) -> None:
    config = RunConfig(depth=3, width=16, n_train=200, epochs=400, measurements=3)
    code = f"from ncharness import *; Store({str(tmp_path)!r}).train(RunConfig.from_dict({config.to_dict()!r}))"
    process = subprocess.Popen([sys.executable, "-c", code])
    store = Store(tmp_path)
    deadline = time.monotonic() + 60
    while store.status(config).epoch < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = store.status(config)
    assert at.state == "partial"
    first: list[int] = []

    def stop(state: State) -> None:
        first.append(state.epoch)
        raise StoppedError

    with pytest.raises(StoppedError):
        store.train(config, on_epoch=stop)
    assert first == [at.epoch + 1]


def written_epochs(
    config: RunConfig, root: Path, monkeypatch: pytest.MonkeyPatch, *, seconds: list[float]
) -> list[int]:
    """The epochs after which a checkpoint is written by a run whose epochs take these seconds."""
    written: list[int] = []
    module, clock = sys.modules["ncharness.store.resume"], [1000.0]
    write = module.write_checkpoint

    def recorded(file: Path, config: RunConfig, state: State) -> int:
        written.append(state.epoch)
        return int(write(file, config, state))

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_checkpoint", recorded)
        patched.setattr(module.time, "monotonic", lambda: clock[0])
        Store(root).train(config, on_epoch=lambda state: clock.append(clock.pop() + [*seconds, 0.0][state.epoch]))
    return written


def test_a_large_checkpoint_is_written_once_a_minute_and_a_small_one_always(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick, slow = [30.0, 20.0, 20.0, 30.0], [60.0, 61.0, 59.0, 2.0]
    assert written_epochs(config, tmp_path / "small", monkeypatch, seconds=quick) == [0, 1, 2, 3, 4]
    monkeypatch.setattr("ncharness.store.resume.LARGE_CHECKPOINT", 1000)
    assert written_epochs(config, tmp_path / "quick", monkeypatch, seconds=quick) == [0, 3]
    assert written_epochs(config, tmp_path / "slow", monkeypatch, seconds=slow) == [0, 1, 2, 4]


@pytest.mark.parametrize("changes", [{}, {"augment": "code", "precision": "bf16"}], ids=["plain", "augmented, bf16"])
def test_a_run_killed_long_after_its_checkpoint_resumes_to_the_same_rows(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    config = config.replace(**changes)
    untouched = Store(tmp_path / "untouched").train(config)
    assert untouched is not None
    monkeypatch.setattr("ncharness.store.resume.LARGE_CHECKPOINT", 1000)
    store = Store(tmp_path / "runs")
    train_until(store, config, 3)
    assert store.status(config).epoch == 0, "the minute has not passed"
    run = store.train(config)
    assert run is not None
    assert run.rows == untouched.rows
    assert run.provenance["resumed_from_epoch"] == 0


# --- several runs as one program --------------------------------------------------------------------------------------


def stop_together(store: Store, configs: list[RunConfig], epoch: int, *, after: int = 0) -> None:
    """Trains them together until `after` of them are told to have finished the epoch."""
    told: list[RunConfig] = []

    def stop(config: RunConfig, state: State) -> None:
        if state.epoch == epoch:
            told.append(config)
            if len(told) > after:
                raise StoppedError

    with pytest.raises(StoppedError):
        store.train_together(configs, on_epoch=stop)


def assert_close(run: Run | None, other: Run) -> None:
    assert run is not None
    assert [row[:4] for row in run.rows] == [row[:4] for row in other.rows]
    assert [row.value for row in run.rows] == pytest.approx([row.value for row in other.rows], rel=1e-4, abs=1e-6)


def test_runs_trained_together_are_runs_like_others(store: Store, config: RunConfig, tmp_path: Path) -> None:
    shared, configs = Store(tmp_path / "shared"), [config, config.replace(seed=1), config.replace(seed=2, noise=0.2)]
    told: list[tuple[str, int]] = []
    runs = shared.train_together(configs, on_epoch=lambda each, state: told.append((each.key(), state.epoch)))
    assert told == [(each.key(), epoch) for epoch in range(config.epochs + 1) for each in configs]
    for each, run in zip(configs, runs, strict=True):
        assert run == loaded(shared, each)
        assert run.config == each
        assert run.provenance["together"] == 3
        assert sorted(file.name for file in shared.path(each).iterdir()) == ["model.pt", "result.json"]
        alone = store.train(each)
        assert alone is not None
        assert alone.provenance["together"] == 1
        assert_close(run, alone)
    weights = [torch.load(shared.path(each) / "model.pt", weights_only=True) for each in configs]
    assert not torch.equal(weights[0]["head.weight"], weights[1]["head.weight"])


def test_other_shapes_are_refused_before_anything_is_written(config: RunConfig, tmp_path: Path) -> None:
    store, deeper = Store(tmp_path), config.replace(depth=4)
    train_until(store, config, 2)
    with pytest.raises(ValueError, match="configs: expected runs that agree in depth, got 4 and 3"):
        store.train_together([config, deeper])
    assert store.status(deeper).state == "missing"


@pytest.mark.parametrize("arch", ["mlp", "conv"])
def test_a_run_alone_has_the_bits_of_the_training_loop(config: RunConfig, tmp_path: Path, arch: str) -> None:
    config = config.replace(arch=arch, width=8)
    with threads(1):
        *_, state = train(config, datasets.load(config.data, n_train=config.n_train, seed=config.data_seed()))
    (run,) = Store(tmp_path).train_together([config])
    assert run is not None
    assert list(run.rows) == state.rows
    weights = torch.load(Store(tmp_path).path(config) / "model.pt", weights_only=True)
    assert all(torch.equal(value, state.model[name]) for name, value in weights.items())


def test_the_inputs_of_a_program_are_kept_once(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    together, seen = sys.modules["ncharness.store.resume"].train_together, list[datasets.Dataset]()

    def recorded(
        configs: list[RunConfig], datasets: list[datasets.Dataset], *others: object, **settings: object
    ) -> object:
        seen.extend(datasets)
        return together(configs, datasets, *others, **settings)

    monkeypatch.setattr("ncharness.store.resume.train_together", recorded)
    Store(tmp_path).train_together([config, config.replace(seed=1, noise=0.3)])
    assert seen[0].train_x is seen[1].train_x
    assert not torch.equal(seen[0].train_y, seen[1].train_y)


def test_what_is_there_is_loaded_and_what_others_train_is_left_to_them(store: Store, config: RunConfig) -> None:
    elsewhere, mine = config.replace(seed=1), config.replace(seed=2)
    seen: list[str] = []
    lock = store.lock_file(elsewhere)
    with filelock.FileLock(lock):
        runs = store.train_together([config, elsewhere, mine], on_epoch=lambda each, _: seen.append(each.key()))
    assert set(seen) == {mine.key()}
    assert runs[1] is None
    assert runs[0] == loaded(store, config)
    assert runs[2] == loaded(store, mine)
    assert runs[2].provenance["together"] == 1
    with filelock.FileLock(lock, timeout=0):
        pass  # let go of


@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_stopped_together_they_resume_together_to_the_same_rows(config: RunConfig, tmp_path: Path, epoch: int) -> None:
    configs = [config.replace(arch="conv", width=4, seed=seed) for seed in range(3)]
    full = Store(tmp_path / "full").train_together(configs)
    store = Store(tmp_path / "stopped")
    stop_together(store, configs, epoch)
    assert [store.status(each).epoch for each in configs] == [epoch] * 3
    for found, expected in zip(store.train_together(configs), full, strict=True):
        assert found is not None
        assert expected is not None
        assert found.rows == expected.rows
        assert found.provenance["resumed_from_epoch"] == epoch


def test_runs_that_are_behind_catch_up_and_are_trained_together_then(config: RunConfig, tmp_path: Path) -> None:
    """Runs as a kill between two checkpoints of one program leaves them."""
    store, configs = Store(tmp_path), [config.replace(seed=seed) for seed in range(6)]
    stop_together(store, configs[1:3], 1)
    stop_together(store, configs[3:5], 2)
    train_until(store, configs[5], config.epochs)
    told: list[tuple[int, int]] = []
    runs = store.train_together(configs, on_epoch=lambda each, state: told.append((each.seed, state.epoch)))
    assert told == [
        *((0, epoch) for epoch in (0, 1)),
        *((seed, 2) for seed in (0, 1, 2)),
        *((seed, epoch) for epoch in (3, 4) for seed in (0, 1, 2, 3, 4)),
    ]
    facts = [(run.provenance["resumed_from_epoch"], run.provenance["together"]) for run in runs if run is not None]
    assert facts == [(None, 6), (1, 6), (1, 6), (2, 6), (2, 6), (4, 6)]
    for each, run in zip(configs, runs, strict=True):
        alone = Store(tmp_path / "alone").train(each)
        assert alone is not None
        assert_close(run, alone)
        assert [path.name for path in sorted(store.path(each).iterdir())] == ["model.pt", "result.json"]


def test_the_checkpoints_of_a_program_are_large_together(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = sys.modules["ncharness.store.resume"].write_checkpoint
    monkeypatch.setattr("ncharness.store.resume.write_checkpoint", lambda *arguments: min(10, write(*arguments)))
    monkeypatch.setattr("ncharness.store.resume.LARGE_CHECKPOINT", 25)
    store, configs = Store(tmp_path), [config.replace(seed=seed) for seed in range(5)]
    stop_together(store, configs[:2], 3)
    assert [store.status(each).epoch for each in configs[:2]] == [3, 3], "two are not"
    stop_together(store, configs[2:], 3)
    assert [store.status(each).epoch for each in configs[2:]] == [0] * 3, "three are, and the minute has not passed"


def test_a_corrupt_file_of_one_costs_the_others_nothing(config: RunConfig, tmp_path: Path) -> None:
    store, configs = Store(tmp_path), [config.replace(seed=seed) for seed in range(3)]
    stop_together(store, configs, 2)
    (store.path(configs[1]) / "checkpoint.pt").write_text("nothing")
    problems: list[tuple[str, str]] = []
    runs = store.train_together(configs, on_problem=lambda each, text: problems.append((each.key(), text)))
    assert [run.provenance["resumed_from_epoch"] for run in runs if run is not None] == [2, None, 2]
    ((key, text),) = problems
    assert key == configs[1].key()
    assert "training the run from the start" in text


def test_a_study_is_carried_out_whoever_asks(tmp_path: Path) -> None:
    study = Study(experiment="unconstrained.minimum", settings={"classes": 3, "dim": 4})
    (run,) = Store(tmp_path).train_together([study])
    assert run is not None
    assert run == Store(tmp_path).train(study)
    assert "together" not in run.provenance


def test_the_device_is_said_and_is_no_part_of_the_run(store: Store, config: RunConfig) -> None:
    run = store.train(config, device="cpu")
    assert run is not None
    assert run.provenance["device"].startswith("CPU (")
    assert "device" not in run.config.to_dict()


def test_a_write_that_is_cut_short_leaves_the_old_file_and_no_trace(
    store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, file = loaded(store, config), store.path(config) / "result.json"
    before = file.read_bytes()

    def killed(*_: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(StoppedError):
            write_result(file, dataclasses.replace(run, rows=run.rows[:3]))
    assert file.read_bytes() == before
    file.unlink()
    assert len(list(file.parent.glob(".*"))) == 1, "what was being written"
    store.train(config)
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.pt", "result.json"]


def test_two_trainings_in_one_process_leave_its_threads_as_they_were(config: RunConfig, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    configs = [config.replace(seed=seed) for seed in (1, 2, 3)]
    threads = [threading.Thread(target=Store(tmp_path).train, args=(each,)) for each in configs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == 2
    assert {loaded(Store(tmp_path), each).provenance["threads"] for each in configs} == {1}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "",
        lambda text: text.replace("0.", "1.", 1),
        lambda text: text.replace('"epochs": 4', '"epochs": 5'),
        lambda _: "[]",
        lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "sha256"}),
        lambda text: "\0" + text[1:],
    ],
    ids=["truncated", "empty", "a digit", "the configuration", "another type", "no checksum", "a null byte"],
)
def test_a_corrupt_result_is_reported_and_trained_again(store: Store, config: RunConfig, damage: object) -> None:
    file = store.path(config) / "result.json"
    good = loaded(store, config)
    file.write_text(damage(file.read_text()))  # type: ignore[operator]
    with pytest.raises(CorruptFileError, match=r"result\.json is corrupt"):
        store.load(config)
    assert store.status(config).state == "corrupt"
    problems: list[str] = []
    run = store.train(config, on_problem=problems.append)
    assert run is not None
    assert run.rows == good.rows
    assert len(problems) == 1
    assert "training the run again" in problems[0]
    assert store.status(config).state == "done"


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-100], lambda _: b"", lambda b: b[:500] + b"x" + b[501:], lambda _: b"{}\n"]
)
def test_a_corrupt_checkpoint_is_reported_and_not_used(
    store: Store, config: RunConfig, tmp_path: Path, damage: object
) -> None:
    other = Store(tmp_path / "other")
    train_until(other, config, 2)
    file = other.path(config) / "checkpoint.pt"
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    problems: list[str] = []
    seen: list[int] = []
    run = other.train(config, on_epoch=lambda state: seen.append(state.epoch), on_problem=problems.append)
    assert run is not None
    assert run.rows == loaded(store, config).rows
    assert seen[0] == 0
    assert len(problems) == 1
    assert "checkpoint.pt is corrupt" in problems[0]


def test_a_checkpoint_of_another_run_is_refused(config: RunConfig, tmp_path: Path) -> None:
    store, other = Store(tmp_path), config.replace(seed=9)
    train_until(store, config, 1)
    file = store.path(config) / "checkpoint.pt"
    assert read_checkpoint(file, config).epoch == 1
    with pytest.raises(CorruptFileError):
        read_checkpoint(file, other)


def test_a_result_under_another_runs_name_is_refused(store: Store, config: RunConfig) -> None:
    other = config.replace(seed=9)
    shutil.copytree(store.path(config), store.root / f"{other.name()}_{other.key()}")
    with pytest.raises(CorruptFileError, match="belongs to"):
        store.load(other)


def test_a_result_of_another_schema_is_stale(store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncharness.store.files.SCHEMA", SCHEMA + 1)
    with pytest.raises(CorruptFileError, match="stale"):
        read_result(store.path(config) / "result.json")


def test_one_process_trains_and_another_gets_none_or_waits(config: RunConfig, tmp_path: Path) -> None:
    store, release = Store(tmp_path), threading.Event()
    started = threading.Event()

    def hold(_: State) -> None:
        started.set()
        assert release.wait(60)

    trainer = threading.Thread(target=store.train, args=(config,), kwargs={"on_epoch": hold})
    trainer.start()
    assert started.wait(60)
    try:
        code = (
            f"from ncharness import *; c = RunConfig.from_dict({config.to_dict()!r}); "
            f"print(Store({str(tmp_path)!r}).train(c, wait=False))"
        )
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert printed.strip() == "None"
    finally:
        release.set()
        trainer.join()
    assert store.status(config).state == "done"


def test_the_store_lists_what_it_holds(store: Store, config: RunConfig) -> None:
    unfinished = config.replace(seed=7)
    train_until(store, unfinished, 1)
    (store.root / "empty_0000000000").mkdir()
    (store.root / "my_notes.txt").write_text("not a run")
    corrupt = store.root / "corrupt_1111111111"
    corrupt.mkdir()
    (corrupt / "result.json").write_text("{")
    found = {path.name.rpartition("_")[2]: (run is not None, detail) for path, run, detail in store.runs()}
    assert found[config.key()] == (True, "")
    assert found[unfinished.key()] == (False, "partial, epoch 1 of 4")
    assert found["0000000000"] == (False, "empty")
    assert "corrupt" in found["1111111111"][1]


def test_a_store_tells_itself_from_others_for_good(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    assert store.identity() == ""
    assert not store.root.exists()
    word = store.identity(create=True)
    assert len(word) == 16
    assert store.identity() == store.identity(create=True) == Store(store.root).identity() == word
    assert other.identity(create=True) != word


def test_the_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NCHARNESS_RUNS", raising=False)
    assert Store().root == Path("runs")
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path))
    assert Store().root == tmp_path
    with pytest.raises(NotADirectoryError, match="root: expected a directory"):
        Store(os.devnull)


def test_runs_are_found_by_key_and_a_foreign_one_is_not(tiny: RunConfig, tmp_path: Path) -> None:
    store, other = Store(tmp_path), tiny.replace(seed=1)
    run, foreign = store.train(tiny), store.train(other)
    assert run is not None
    assert foreign is not None
    assert store.find([other.key(), "0000000000", tiny.key()]) == [foreign, run]
    (store.path(tiny) / "result.json").write_bytes((store.path(other) / "result.json").read_bytes())
    (tmp_path / "file_1111111111").touch()
    assert store.find([tiny.key(), other.key(), "1111111111"]) == [foreign]


def test_a_result_is_read_again_only_if_it_is_replaced(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, reads = Store(tmp_path), list[Path]()
    store.train(tiny)
    read = sys.modules["ncharness.store.store"].read_result
    monkeypatch.setattr("ncharness.store.store.read_result", lambda file: (reads.append(file), read(file))[1])
    first = store.load(tiny)
    assert first is not None
    first.provenance["commit"] = "changed by the caller"
    second = store.load(tiny)
    assert second is not None
    assert second.provenance["commit"] != "changed by the caller"
    assert len(reads) == 1
    file = store.path(tiny) / "result.json"
    at = file.stat()
    body = file.read_bytes().replace(b'"epoch', b'"EPOCH').replace(b'"sha256": "', b'"sha256": "0', 1)
    file.write_bytes(body[: at.st_size].ljust(at.st_size))
    os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))  # of the same size and time as before
    assert store.status(tiny).state == "corrupt"
    assert pickle.loads(pickle.dumps(store)).root == store.root
