"""What those who train runs are given and what they tell, whether they are processes here or workers of a cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Event(NamedTuple):
    """News of a run: kind is `epoch`, `done`, `problem` or `failed`; the loss is None where it is not known."""

    kind: str
    key: str
    epoch: int = 0
    loss: float | None = None
    text: str = ""


class TrainingFailedError(RuntimeError):
    """A run could not be trained; what was finished before is kept."""


@dataclass(frozen=True)
class Source:
    """Where data sets that are not embedded come from, and the device to train on (devices.NAMES)."""

    root: Path | None = None
    download: bool = False
    device: str = "cpu"
