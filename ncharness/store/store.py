"""The run store: one directory a run, named by its key; locked, resumable, and checked before it is believed.

runs/<readable>_<key>/result.json    the rows, written last and atomically: its presence means done
                      checkpoint.pt  where an unfinished run stands, rewritten after every epoch; a large one once a
                                     minute
                      model.pt       the trained weights of a finished run
runs/.locks/<key>.lock               held by the process that trains the run
            identity                 tells this store from another directory, for workers on other machines
"""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import filelock
import torch

from ncharness.store.files import CorruptFileError, read_checkpoint, read_header, read_result, write, write_result
from ncharness.store.messages import Source
from ncharness.store.resume import Standing, Tell, finish, provenance_of
from ncharness.store.run import Configuration, Run
from ncharness.studies.study import Study, carry_out
from ncharness.training import devices
from ncharness.training.config import RunConfig
from ncharness.training.loop import State

_TRAINING = threading.Lock()
"""One training at a time in a process: the number of threads that it sets is the whole process's."""


class Status(NamedTuple):
    """missing, partial (epoch of epochs), done, or corrupt (result.json is there but cannot be believed)."""

    state: str
    epoch: int = 0
    detail: str = ""


class Store:
    """Runs below `root` (default: $NCHARNESS_RUNS, else `runs` in the working directory)."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root or os.environ.get("NCHARNESS_RUNS") or "runs")
        self._read: dict[Path, tuple[tuple[int, int, int], Run]] = {}  # finished runs, and the files they are from
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
            header = read_header(path / "checkpoint.pt")
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
        run = self._result(file)
        if run.config != config:
            raise CorruptFileError(file, f"corrupt (it belongs to {run.config.name()})")
        return run

    def find(self, keys: Iterable[str]) -> list[Run]:
        """The finished runs with these keys, in their order, without those that are missing or cannot be believed."""
        found = []
        for key in keys:
            for path in sorted(self.root.glob(f"*_{key}"))[:1]:
                try:
                    found.append(self._result(path / "result.json"))
                except (FileNotFoundError, CorruptFileError):
                    continue
        return found

    def _result(self, file: Path) -> Run:
        """The run of a file, which is read again only if it has been replaced."""
        at = file.stat()
        identity = at.st_ino, at.st_mtime_ns, at.st_size
        if file not in self._read or self._read[file][0] != identity:
            self._read[file] = identity, read_result(file)
        return self._read[file][1]

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
        tell = Tell(lambda _, state: on_epoch(state), lambda _, text: on_problem(text))
        try:
            with self._locked(config, wait=wait), _TRAINING, _one_thread():
                return self._finished([config], Source(data_root, download, device), tell)[config.key()]
        except filelock.Timeout:
            return None

    def train_together(
        self,
        configs: Sequence[Configuration],
        *,
        data_root: Path | None = None,
        download: bool = False,
        device: str = "cpu",
        on_epoch: Callable[[RunConfig, State], None] = lambda _, __: None,
        on_problem: Callable[[RunConfig, str], None] = lambda _, __: None,
    ) -> list[Run | None]:
        """As `train` with `wait=False`, for one run or several of one shape, trained as one program (batched.py).

        None for those that another process trains. How many runs were trained together is no part of their keys but of
        their provenance.
        """
        devices.check(device)
        with ExitStack() as locks:
            mine = [config for config in configs if _entered(locks, self._locked(config, wait=False))]
            with _TRAINING, _one_thread():
                runs = self._finished(mine, Source(data_root, download, device), Tell(on_epoch, on_problem))
        return [runs.get(config.key()) for config in configs]

    def _finished(self, configs: Sequence[Configuration], source: Source, tell: Tell) -> dict[str, Run]:
        """The runs by key; those that are to be trained are one program."""
        found: dict[str, Run] = {}
        standing: list[Standing] = []
        for config in configs:
            try:
                if (run := self.load(config)) is not None:
                    found[config.key()] = run
                    continue
            except CorruptFileError as error:
                tell.problem(config, f"{error}; training the run again")
            for leftover in self.path(config).glob(".*.tmp"):  # of a process that was killed while it wrote
                leftover.unlink()
            if isinstance(config, Study):
                found[config.key()] = self._carried_out(config)
            else:
                standing.append(Standing(config, self._checkpoint(config, tell)))
        if standing:
            for run in finish(standing, self.path, source, tell):
                found[run.config.key()] = self._written(run)
        return found

    def _checkpoint(self, config: RunConfig, tell: Tell) -> State | None:
        try:
            return read_checkpoint(self.path(config) / "checkpoint.pt", config)
        except FileNotFoundError:
            return None
        except CorruptFileError as error:
            tell.problem(config, f"{error}; training the run from the start")
            return None

    def _carried_out(self, study: Study) -> Run:
        started = time.monotonic()
        rows = carry_out(study)
        self.path(study).mkdir(parents=True, exist_ok=True)
        return self._written(Run(study, rows, provenance_of(started, "cpu") | {"resumed_from_epoch": None}))

    def _written(self, run: Run) -> Run:
        path = self.path(run.config)
        write_result(path / "result.json", run)
        (path / "checkpoint.pt").unlink(missing_ok=True)
        return run

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
                    write(file, secrets.token_hex(8).encode())
        return file.read_text() if file.is_file() else ""

    @contextmanager
    def _locked(self, config: Configuration, *, wait: bool) -> Iterator[None]:
        file = self.lock_file(config)
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file, timeout=-1 if wait else 0):
            yield


def _entered(locks: ExitStack, lock: AbstractContextManager[None]) -> bool:
    """Whether the lock was free; it is held as long as the stack."""
    try:
        locks.enter_context(lock)
    except filelock.Timeout:
        return False
    return True


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _unfinished(path: Path) -> str:
    try:
        header = read_header(path / "checkpoint.pt")
    except FileNotFoundError:
        return "empty"
    except CorruptFileError as error:
        return error.why
    return f"partial, epoch {header['epoch']} of {header['epochs']}"
