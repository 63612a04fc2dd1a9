"""Files of a run, written atomically and verified by checksum when they are read."""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import torch

from ncharness.store.run import Configuration, Run, configuration_from
from ncharness.training.config import SCHEMA
from ncharness.training.loop import State
from ncharness.training.rows import rows_from_lists


class CorruptFileError(Exception):
    """A file of the store is corrupt, or was written by another version."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} is {why}")
        self.why = why


def write_result(file: Path, run: Run) -> None:
    """Write result.json: configuration, rows and provenance, with a checksum over all of it."""
    body = {
        "schema": SCHEMA,
        "key": run.config.key(),
        "config": run.config.to_dict(),
        "rows": [list(row) for row in run.rows],
        "provenance": run.provenance,
    }
    write(file, json.dumps({"sha256": _checksum(body), **body}).encode())


def read_result(file: Path) -> Run:
    """Read a run from its result.json. Raises FileNotFoundError, or CorruptFileError with the reason."""
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
    except (ValueError, KeyError) as error:  # intact, but written by another version
        raise CorruptFileError(file, f"stale ({error})") from None


def write_checkpoint(file: Path, config: Configuration, state: State) -> int:
    """Write a one-line JSON header (key, epoch, checksum) and the state after it, atomically.

    Returns the size of the state in bytes.
    """
    buffer = io.BytesIO()
    torch.save({**vars(state), "rows": [list(row) for row in state.rows]}, buffer)
    payload = buffer.getvalue()
    header = {
        "key": config.key(),
        "epoch": state.epoch,
        "epochs": config.epochs,
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    write(file, json.dumps(header).encode() + b"\n" + payload)
    return len(payload)


def read_checkpoint(file: Path, config: Configuration) -> State:
    """Read the state of a run that is not finished.

    Raises FileNotFoundError, or CorruptFileError before anything is unpickled.
    """
    header = read_header(file)
    payload = file.read_bytes().partition(b"\n")[2]
    if header["key"] != config.key() or header["sha256"] != hashlib.sha256(payload).hexdigest():
        raise CorruptFileError(file, "corrupt (its checksum does not match)")
    values = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return State(**{**values, "rows": list(rows_from_lists(values["rows"]))})


def read_header(file: Path) -> dict[str, Any]:
    """Read key, epoch, epochs and checksum of a checkpoint. Raises FileNotFoundError or CorruptFileError."""
    with file.open("rb") as opened:
        line = opened.readline(1000)
    try:
        header = json.loads(line)
        return {name: header[name] for name in ("key", "epoch", "epochs", "sha256")}
    except (ValueError, TypeError, KeyError):
        raise CorruptFileError(file, "corrupt (its header cannot be read)") from None


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def write(file: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old content or the new, whenever this process is killed."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(file)
