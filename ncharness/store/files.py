"""The files of a run: written all or nothing, and checked before they are believed."""

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
    """A file of the store that does not hold what was written to it."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} is {why}")
        self.why = why


def write_result(file: Path, run: Run) -> None:
    """Writes result.json: configuration, rows and provenance, with a checksum over all of it."""
    body = {
        "schema": SCHEMA,
        "key": run.config.key(),
        "config": run.config.to_dict(),
        "rows": [list(row) for row in run.rows],
        "provenance": run.provenance,
    }
    write(file, json.dumps({"sha256": _checksum(body), **body}).encode())


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
    write(file, json.dumps(header).encode() + b"\n" + payload)
    return len(payload)


def read_checkpoint(file: Path, config: Configuration) -> State:
    """The state of an unfinished run; FileNotFoundError, or CorruptFileError before anything is unpickled."""
    header = read_header(file)
    payload = file.read_bytes().partition(b"\n")[2]
    if header["key"] != config.key() or header["sha256"] != hashlib.sha256(payload).hexdigest():
        raise CorruptFileError(file, "corrupt (its checksum does not match)")
    values = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return State(**{**values, "rows": list(rows_from_lists(values["rows"]))})


def read_header(file: Path) -> dict[str, Any]:
    """Key, epoch, epochs and checksum of a checkpoint; FileNotFoundError or CorruptFileError."""
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
    """All or nothing: a reader sees the old file or the new one, whenever this process is killed."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(file)
