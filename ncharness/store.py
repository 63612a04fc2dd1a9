"""The run store: one directory a run, named by its key; locked, resumable, and checked before it is believed.

runs/<readable>_<key>/result.json    the rows, written last and atomically: its presence means done
                      checkpoint.pt  where an unfinished run stands, rewritten after every epoch; a large one once a
                                     minute
                      model.pt       the trained weights of a finished run
runs/.locks/<key>.lock               held by the process that trains the run
            identity                 tells this store from another directory, for workers on other machines
"""

import hashlib
import io
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import torch

from ncharness import data, devices, provenance
from ncharness.config import SCHEMA, RunConfig
from ncharness.record import Configuration, Row, Run, configuration_from, rows_from_lists
from ncharness.studies import carry_out
from ncharness.study import Study
from ncharness.train import State, train
from ncharness.work import Source

LARGE_CHECKPOINT, CHECKPOINT_SECONDS = 2**24, 60.0
"""A checkpoint of more bytes than this is not written again before so many seconds have passed: where epochs take
seconds, writing would take longer than training. So a killed run repeats at most an epoch, or a minute and an epoch."""

_TRAINING = threading.Lock()
"""One training at a time in a process: the number of threads that it sets is the whole process's."""


class CorruptFileError(Exception):
    """A file of the store that does not hold what was written to it."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} is {why}")
        self.why = why


class Status(NamedTuple):
    """missing, partial (epoch of epochs), done, or corrupt (result.json is there but cannot be believed)."""

    state: str
    epoch: int = 0
    detail: str = ""


class Store:
    """Runs below `root` (default: $NCHARNESS_RUNS, else `runs` in the working directory)."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root or os.environ.get("NCHARNESS_RUNS") or "runs")
        if self.root.exists() and not self.root.is_dir():
            raise NotADirectoryError(f"root: expected a directory for the runs ($NCHARNESS_RUNS), got {self.root}")

    def path(self, config: Configuration) -> Path:
        """The directory of a run. Only the key is matched, so a renamed readable part is still found."""
        found = sorted(self.root.glob(f"*_{config.key()}"))
        return found[0] if found else self.root / f"{config.name()}_{config.key()}"

    def status(self, config: Configuration) -> Status:
        """What the store holds of a run; reads the whole result, only the header of a checkpoint."""
        path = self.path(config)
        try:
            if self.load(config) is not None:
                return Status("done", config.epochs)
        except CorruptFileError as error:
            return Status("corrupt", detail=error.why)
        try:
            header = _read_header(path / "checkpoint.pt")
        except FileNotFoundError:
            return Status("missing")
        except CorruptFileError as error:
            return Status("missing", detail=f"its checkpoint is {error.why}")
        return Status("partial", int(header["epoch"]))

    def load(self, config: Configuration) -> Run | None:
        """A finished run, or None; raises CorruptFileError for a result that fails its own checksum."""
        file = self.path(config) / "result.json"
        if not file.is_file():
            return None
        run = read_result(file)
        if run.config != config:
            raise CorruptFileError(file, f"corrupt (it belongs to {run.config.name()})")
        return run

    def runs(self) -> Iterator[tuple[Path, Run | None, str]]:
        """Every directory of the store: (path, finished run or None, why there is none)."""
        for path in sorted(path for path in self.root.glob("*_*") if path.is_dir()):
            try:
                yield path, read_result(path / "result.json"), ""
            except FileNotFoundError:
                yield path, None, _unfinished(path)
            except CorruptFileError as error:
                yield path, None, error.why

    def train(
        self,
        config: Configuration,
        *,
        data_root: Path | None = None,
        download: bool = False,
        device: str = "cpu",
        on_epoch: Callable[[State], None] = lambda _: None,
        on_problem: Callable[[str], None] = lambda _: None,
        wait: bool = True,
    ) -> Run | None:
        """The finished run, trained now if need be, from its checkpoint if it has one.

        One process trains a run at a time; others wait, or with `wait=False` get None at once. A corrupt result or
        checkpoint is passed to `on_problem` and trained again. Training takes one thread, whatever the caller has,
        because the bits of a run would depend on their number. They depend on the device too, which is no part of the
        key but of the provenance.
        """
        devices.check(device)
        try:
            with self._locked(config, wait=wait), _TRAINING, _one_thread():
                return self._load_or_train(config, Source(data_root, download, device), on_epoch, on_problem)
        except filelock.Timeout:
            return None

    def _load_or_train(
        self,
        config: Configuration,
        source: Source,
        on_epoch: Callable[[State], None],
        on_problem: Callable[[str], None],
    ) -> Run:
        try:
            if (run := self.load(config)) is not None:
                return run
        except CorruptFileError as error:
            on_problem(f"{error}; training the run again")
        path, started = self.path(config), time.monotonic()
        for leftover in path.glob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink()
        if isinstance(config, Study):
            rows, resumed = carry_out(config), None
            path.mkdir(parents=True, exist_ok=True)
        else:
            rows, resumed = self._trained(config, source, on_epoch, on_problem)
        facts = {
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            "resumed_from_epoch": resumed,
            **provenance.facts("cpu" if isinstance(config, Study) else source.device),
        }
        run = Run(config, rows, facts)
        write_result(path / "result.json", run)
        (path / "checkpoint.pt").unlink(missing_ok=True)
        return run

    def _trained(
        self,
        config: RunConfig,
        source: Source,
        on_epoch: Callable[[State], None],
        on_problem: Callable[[str], None],
    ) -> tuple[tuple[Row, ...], int | None]:
        """The rows of a training, its checkpoints and weights written; and the epoch it was resumed from."""
        path, resume = self.path(config), None
        try:
            resume = read_checkpoint(path / "checkpoint.pt", config)
        except FileNotFoundError:
            pass
        except CorruptFileError as error:
            on_problem(f"{error}; training the run from the start")
        dataset = data.load(
            config.data,
            n_train=config.n_train,
            noise=config.noise,
            noise_kind=config.noise_kind,
            part=config.part,
            seed=config.data_seed(),
            root=source.root,
            download=source.download,
        )
        state, due = resume, 0.0
        path.mkdir(parents=True, exist_ok=True)
        for state in train(config, dataset, resume, device=source.device):
            if time.monotonic() >= due:
                size = write_checkpoint(path / "checkpoint.pt", config, state)
                due = time.monotonic() + CHECKPOINT_SECONDS if size > LARGE_CHECKPOINT else 0.0
            on_epoch(state)
        assert state is not None  # at least one epoch, by RunConfig
        weights = io.BytesIO()
        torch.save({name: value.cpu() for name, value in state.model.items()}, weights)
        _write(path / "model.pt", weights.getvalue())
        return tuple(state.rows), resume.epoch if resume else None

    def lock_file(self, config: Configuration) -> Path:
        """The file that is locked while the run is trained; the system lets go of it when the process ends."""
        return self.root / ".locks" / f"{config.key()}.lock"

    def identity(self, *, create: bool = False) -> str:
        """A word in the store by which a process elsewhere knows that it sees this directory; empty if it has none."""
        file = self.root / ".locks" / "identity"
        if create:
            file.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(file.with_suffix(".lock")):
                if not file.exists():
                    _write(file, secrets.token_hex(8).encode())
        return file.read_text() if file.is_file() else ""

    @contextmanager
    def _locked(self, config: Configuration, *, wait: bool) -> Iterator[None]:
        file = self.lock_file(config)
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file, timeout=-1 if wait else 0):
            yield


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def write_result(file: Path, run: Run) -> None:
    """Writes result.json: configuration, rows and provenance, with a checksum over all of it."""
    body = {
        "schema": SCHEMA,
        "key": run.config.key(),
        "config": run.config.to_dict(),
        "rows": [list(row) for row in run.rows],
        "provenance": run.provenance,
    }
    _write(file, json.dumps({"sha256": _checksum(body), **body}).encode())


def read_result(file: Path) -> Run:
    """A run from its result.json; FileNotFoundError or CorruptFileError, which says what is wrong."""
    try:
        body = json.loads(file.read_bytes())
    except ValueError as error:  # not UTF-8, or not JSON
        raise CorruptFileError(file, f"corrupt ({error})") from None
    if not isinstance(body, dict) or body.pop("sha256", None) != _checksum(body):
        raise CorruptFileError(file, "corrupt (its checksum does not match)")
    if body["schema"] != SCHEMA:
        raise CorruptFileError(file, f"stale (schema {body['schema']}, this version writes {SCHEMA})")
    try:
        return Run(configuration_from(body["config"]), rows_from_lists(body["rows"]), body["provenance"])
    except (ValueError, KeyError) as error:  # intact, but not what this version writes
        raise CorruptFileError(file, f"stale ({error})") from None


def write_checkpoint(file: Path, config: Configuration, state: State) -> int:
    """Writes a one-line JSON header (key, epoch, checksum) and the state behind it, atomically; the state's bytes."""
    buffer = io.BytesIO()
    torch.save({**vars(state), "rows": [list(row) for row in state.rows]}, buffer)
    payload = buffer.getvalue()
    header = {
        "key": config.key(),
        "epoch": state.epoch,
        "epochs": config.epochs,
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    _write(file, json.dumps(header).encode() + b"\n" + payload)
    return len(payload)


def read_checkpoint(file: Path, config: Configuration) -> State:
    """The state of an unfinished run; FileNotFoundError, or CorruptFileError before anything is unpickled."""
    header = _read_header(file)
    payload = file.read_bytes().partition(b"\n")[2]
    if header["key"] != config.key() or header["sha256"] != hashlib.sha256(payload).hexdigest():
        raise CorruptFileError(file, "corrupt (its checksum does not match)")
    values = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return State(**{**values, "rows": list(rows_from_lists(values["rows"]))})


def _unfinished(path: Path) -> str:
    try:
        header = _read_header(path / "checkpoint.pt")
    except FileNotFoundError:
        return "empty"
    except CorruptFileError as error:
        return error.why
    return f"partial, epoch {header['epoch']} of {header['epochs']}"


def _read_header(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        line = opened.readline(1000)
    try:
        header = json.loads(line)
        return {name: header[name] for name in ("key", "epoch", "epochs", "sha256")}
    except (ValueError, TypeError, KeyError):
        raise CorruptFileError(file, "corrupt (its header cannot be read)") from None


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _write(file: Path, content: bytes) -> None:
    """All or nothing: a reader sees the old file or the new one, whenever this process is killed."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(file)
