"""Rows of the verdict table, and their CSV file."""

import csv
import dataclasses
import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncharness.verdicts.verdict import SUPPORTED, Outcome

VERDICTS = tuple(str(outcome) for outcome in Outcome)
_NUMBERS = ("power", "eps", "effect", "low", "high", "margin", "alpha", "p", "holm_p")


@dataclass(frozen=True, kw_only=True)
class ClaimRow:
    """One claim in one setting, tested once. Holds plain Python values whatever comes in; None for no number.

    ValueError for a verdict that is none of VERDICTS, and for a run key with a semicolon.
    """

    claim: str  # short id, such as c2-depth-constant; a control has the id of its claim
    title: str
    statement: str
    source: str  # where the claim is made, such as arXiv:2202.09028 v9
    setting: str  # such as digits
    scale: str  # small or paper
    verdict: str
    control: bool = False  # the same test on a case where the claim must not be supported
    quantity: str = ""
    precondition: str = ""
    power: float | None = None  # designed, at the effect and spread that the claim names
    figure: str = ""  # of figures.NAMED, drawn of these runs
    test: str = ""
    eps: float | None = None  # None: no threshold enters
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    alpha: float | None = None
    n: int | None = None  # seeds
    p: float | None = None
    holm_p: float | None = None
    reason: str = ""
    sweep: tuple[tuple[float, str], ...] = ()  # (eps, verdict); a mapping is taken too
    values: tuple[float, ...] = ()  # one per seed
    runs: tuple[str, ...] = ()  # keys

    def __post_init__(self) -> None:
        pairs = self.sweep.items() if isinstance(self.sweep, Mapping) else self.sweep
        plain: dict[str, Any] = {
            "verdict": str(self.verdict),
            "control": bool(self.control),
            "n": None if self.n is None else int(self.n),
            "sweep": tuple((float(eps), str(verdict)) for eps, verdict in pairs),
            "values": tuple(float(value) for value in self.values),
            "runs": tuple(str(key) for key in self.runs),
        }
        for name in _NUMBERS:
            value = getattr(self, name)
            plain[name] = None if value is None else float(value)
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        for verdict in (self.verdict, *(verdict for _, verdict in self.sweep)):
            if verdict not in VERDICTS:
                raise ValueError(f"verdict: expected one of {', '.join(VERDICTS)}, got {verdict!r}")
        if any(";" in key for key in self.runs):
            raise ValueError(f"runs: expected keys without a semicolon, got {self.runs!r}")

    @property
    def control_ok(self) -> bool:
        """Whether the claim of a control was not supported, as it must be."""
        return self.verdict != SUPPORTED

    @property
    def shown_verdict(self) -> str:
        """The verdict as a reader sees it; a control begins with whether it worked."""
        return f"control {'ok' if self.control_ok else 'FAILED'}: {self.verdict}" if self.control else self.verdict


COLUMNS = tuple(field.name for field in dataclasses.fields(ClaimRow))


def ordered(rows: Iterable[ClaimRow]) -> list[ClaimRow]:
    """Sort rows by claim (c2 before c10), the controls of a claim after its tests, then by setting."""

    def key(row: ClaimRow) -> tuple[list[tuple[int, str]], bool, str]:
        parts = re.findall(r"\d+|\D+", row.claim)
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], row.control, row.setting

    return sorted(rows, key=key)


# CSV


def write_csv(rows: Iterable[ClaimRow], path: Path) -> None:
    """One line a row, ordered; columns as COLUMNS, every digit of every number, sequences joined by semicolons.

    The file is replaced as a whole: a reader sees the old one or the new one.
    """
    text = io.StringIO()
    writer = csv.writer(text, dialect="unix")  # all cells in quotes: the others leave out a lone carriage return
    writer.writerow(COLUMNS)
    writer.writerows([_cell(getattr(row, name)) for name in COLUMNS] for row in ordered(rows))
    replace_file(path, text.getvalue())


def read_csv(path: Path) -> list[ClaimRow]:
    """The rows of a file that `write_csv` wrote, equal to those written.

    FileNotFoundError where there is none; ValueError, naming the line and the column, for anything else.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"path: expected a CSV file of claims, got {path} ({error})") from None
    header = tuple(lines[0]) if lines else ()
    if header != COLUMNS:
        odd = sorted(set(header) ^ set(COLUMNS)) or ["their order"]
        raise ValueError(f"path: expected a CSV file of claims, got {path} whose columns differ: {', '.join(odd)}")
    return [_row(cells, f"{path}, row {number}") for number, cells in enumerate(lines[1:], 1)]


def _row(cells: Sequence[str], where: str) -> ClaimRow:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"path: expected {len(COLUMNS)} cells in {where}, got {len(cells)}")
    values: dict[str, Any] = {}
    for name, text in zip(COLUMNS, cells, strict=True):
        try:
            values[name] = _value(name, text)
        except ValueError as error:
            raise ValueError(f"path: {error} in {where}, column {name}") from None
    try:
        return ClaimRow(**values)
    except ValueError as error:
        raise ValueError(f"path: {error} in {where}") from None


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return ";".join(f"{item[0]!r}={item[1]}" if isinstance(item, tuple) else _cell(item) for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _value(name: str, text: str) -> Any:
    items = text.split(";") if text else []
    if name == "control":
        if text not in ("true", "false"):
            raise ValueError(f"expected true or false, got {text!r}")
        return text == "true"
    if name == "n":
        return int(text) if text else None
    if name in _NUMBERS:
        return float(text) if text else None
    if name == "sweep":
        return tuple((float(eps), verdict) for eps, _, verdict in (item.partition("=") for item in items))
    if name == "values":
        return tuple(float(item) for item in items)
    return tuple(items) if name == "runs" else text


def replace_file(path: Path, text: str) -> None:
    """Write a text file as a whole: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# Words and numbers for the eye


def number(value: float | None) -> str:
    """Three significant digits; a dash for a missing number."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value + 0.0:.1e}" if 0.0 < abs(value) < 1e-3 else f"{value + 0.0:.3g}"
