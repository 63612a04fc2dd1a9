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
from dataclasses import replace
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
    """State of a run in the store: missing, partial (epoch of epochs), done, or corrupt.

    A run is corrupt where result.json is there but cannot be believed; `detail` says why.
    """

    state: str
    epoch: int = 0
    detail: str = ""


class Store:
    """Directory of finished and unfinished runs.

    Runs lie below `root`. A run has a directory of its own, named by its key. It is locked while it is trained, resumed
    from
    its checkpoint, and checked before it is believed.

    Args:
        root: Directory; by default $NCHARNESS_RUNS, else `runs` in the working directory. It is created when a run is
            trained.

    Raises:
        NotADirectoryError: The path is a file.

    Examples:
        >>> import tempfile
        >>> import ncharness as nc
        >>> config = nc.RunConfig(depth=1, width=4, n_train=20, epochs=1, measurements=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = nc.Store(folder)
        ...     before = store.status(config).state
        ...     run = store.train(config)
        ...     after = store.status(config).state
        >>> before, after, run.epochs
        ('missing', 'done', [0, 1])
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root or os.environ.get("NCHARNESS_RUNS") or "runs")
        self._read: dict[Path, tuple[tuple[int, ...], Run]] = {}  # finished runs, and the files they are from
        if self.root.exists() and not self.root.is_dir():
            raise NotADirectoryError(f"root: expected a directory for the runs ($NCHARNESS_RUNS), got {self.root}")

    def path(self, config: Configuration) -> Path:
        """Return the directory of a run.

        Only the key is matched, so that a directory whose readable part was renamed is still found.

        Args:
            config: Configuration of a training, or a study.

        Returns:
            The directory, which need not exist.
        """
        found = sorted(self.root.glob(f"*_{config.key()}"))
        return found[0] if found else self.root / f"{config.name()}_{config.key()}"

    def status(self, config: Configuration) -> Status:
        """Return the state of a run.

        It reads the whole result, and only the header of a checkpoint.

        Args:
            config: Configuration of a training, or a study.

        Returns:
            State, epoch and detail.
        """
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
        """Return a finished run, or None.

        Args:
            config: Configuration of a training, or a study.

        Returns:
            The run; None where there is no result. A result is read once, and again only if its file is replaced.

        Raises:
            CorruptFileError: The result fails its own checksum, or belongs to another configuration.
        """
        file = self.path(config) / "result.json"
        if not file.is_file():
            return None
        run = self._result(file)
        if run.config != config:
            raise CorruptFileError(file, f"corrupt (it belongs to {run.config.name()})")
        return run

    def find(self, keys: Iterable[str]) -> list[Run]:
        """Return the finished runs with these keys, without those that are missing or cannot be believed.

        Args:
            keys: Keys of configurations.

        Returns:
            Runs in the order of the keys.
        """
        found = []
        for key in keys:
            for path in sorted(self.root.glob(f"*_{key}"))[:1]:
                try:
                    run = self._result(path / "result.json")
                except (FileNotFoundError, NotADirectoryError, CorruptFileError):
                    continue
                if run.config.key() == key:
                    found.append(run)
        return found

    def _result(self, file: Path) -> Run:
        """The run of a file, which is read again only if it has been replaced."""
        at = file.stat()
        identity = at.st_ino, at.st_mtime_ns, at.st_ctime_ns, at.st_size
        if file not in self._read or self._read[file][0] != identity:
            self._read[file] = identity, read_result(file)
        run = self._read[file][1]
        return replace(run, provenance=dict(run.provenance))  # which a caller may change

    def __getstate__(self) -> dict[str, object]:
        return {"root": self.root, "_read": {}}

    def runs(self) -> Iterator[tuple[Path, Run | None, str]]:
        """Iterate over every directory of the store.

        Yields:
            Directory, finished run or None, and the reason why there is none.
        """
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
        """Return the finished run, which is trained now if need be, from its checkpoint if it has one.

        One process trains a run at a time. Training takes one thread, whatever the caller has, because the bits of a
        run would
        depend on their number. They depend on the device too, which is no part of the key but of the provenance.

        Args:
            config: Configuration of a training, or a study.
            data_root: torchvision data root; by default $NCHARNESS_DATA.
            download: Whether data may be downloaded into it.
            device: Device to train on.
            on_epoch: Function that is called with the state after every epoch.
            on_problem: Function that is called with a sentence where a corrupt result or checkpoint is trained again.
            wait: Whether to wait while another process trains the run.

        Returns:
            The run; None where another process trains it and `wait` is False.

        Raises:
            ValueError: A device that there is not.
            FileNotFoundError: Data that are not there.
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
        source: Source | None = None,
        on_epoch: Callable[[RunConfig, State], None] = lambda _, __: None,
        on_problem: Callable[[RunConfig, str], None] = lambda _, __: None,
    ) -> list[Run | None]:
        """Train one run or several of one shape as one program, as `train` does with `wait=False`.

        The number of runs that were trained together is no part of their keys but of their provenance (batched.py).

        Args:
            configs: Configurations of one shape.
            source: Source of the data and device; by default $NCHARNESS_DATA and the CPU.
            on_epoch: Function that is called with configuration and state after every epoch.
            on_problem: Function that is called with configuration and a sentence where a file is corrupt.

        Returns:
            The runs in their order; None for those that another process trains.

        Raises:
            ValueError: A device that there is not, or configurations that differ in shape.
        """
        source = source or Source()
        devices.check(source.device)
        with ExitStack() as locks:
            mine = [config for config in configs if _entered(locks, self._locked(config, wait=False))]
            with _TRAINING, _one_thread():
                runs = self._finished(mine, source, Tell(on_epoch, on_problem))
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
        """Return the file that is locked while the run is trained; the system unlocks it when the process ends.

        Args:
            config: Configuration of a training, or a study.

        Returns:
            Path of the lock.
        """
        return self.root / ".locks" / f"{config.key()}.lock"

    def identity(self, *, create: bool = False) -> str:
        """Return a word in the store by which a process elsewhere knows that it sees this directory.

        Args:
            create: Whether to write one where there is none.

        Returns:
            The word; empty where there is none.
        """
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
