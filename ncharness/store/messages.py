"""Messages between the process that starts a training and its workers, which may be local or on a cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Event(NamedTuple):
    """Event of a run: kind is `epoch`, `done`, `problem` or `failed`; the loss is None if it is not known."""

    kind: str
    key: str
    epoch: int = 0
    loss: float | None = None
    text: str = ""


class TrainingFailedError(RuntimeError):
    """A run could not be trained; runs and epochs that were finished before are kept."""


@dataclass(frozen=True)
class Source:
    """Source of the data sets that are not embedded, and the device to train on (devices.NAMES)."""

    root: Path | None = None
    download: bool = False
    device: str = "cpu"
