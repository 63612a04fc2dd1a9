"""What a suite of claims leaves behind: rows as CSV, as a table for the terminal, and as one HTML page.

Presentation only: verdicts arrive as words and numbers, and nothing here decides or re-computes one. Numbers are
rounded for the eye; the CSV keeps them whole.
"""

import csv
import dataclasses
import io
import itertools
import math
import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ncharness.record import Run
from ncharness.verdict import SUPPORTED, Outcome

VERDICTS = tuple(str(outcome) for outcome in Outcome)
STYLES = dict(zip(VERDICTS, ("green", "red", "yellow", "bright_black"), strict=True))
WIDTH = 100
"""Columns of a table that is not on a terminal."""
_RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)  # a rule below the header, nothing else
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
        """Of a control: whether its claim was not supported, as it must be."""
        return self.verdict != SUPPORTED

    @property
    def shown_verdict(self) -> str:
        """The verdict as a reader sees it; of a control, whether it did its work comes first."""
        return f"control {'ok' if self.control_ok else 'FAILED'}: {self.verdict}" if self.control else self.verdict


COLUMNS = tuple(field.name for field in dataclasses.fields(ClaimRow))


def ordered(rows: Iterable[ClaimRow]) -> list[ClaimRow]:
    """By claim (c2 before c10), the controls of a claim after its tests, then by setting."""

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
    _replace(path, text.getvalue())


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


def _replace(path: Path, text: str) -> None:
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


def p_value(value: float | None) -> str:
    """Three decimals; a dash for a missing p."""
    if value is None or math.isnan(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def count(n: int | None) -> str:
    """A whole number; a dash for a missing one."""
    return "-" if n is None else str(n)


def interval(row: ClaimRow) -> str:
    """The interval of the effect; a dash where an end is missing."""
    ends = (number(row.low), number(row.high))
    return "-" if "-" in ends else f"[{', '.join(ends)}]"


def counts(rows: Iterable[ClaimRow]) -> str:
    """How many claims came to which verdict, and how many controls worked, in one line."""
    rows = list(rows)
    claims = Counter(row.verdict for row in rows if not row.control)
    controls = Counter(row.control_ok for row in rows if row.control)
    total = sum(claims.values())
    tests = ", ".join(f"{claims[verdict]} {verdict}" for verdict in VERDICTS if claims[verdict])
    line = f"{total} verdict{'' if total == 1 else 's'}: {tests}" if total else "no verdicts"
    if controls:
        line += f"; controls: {controls[True]} ok, {controls[False]} FAILED"
    return line


# The terminal


def table(rows: Iterable[ClaimRow], *, width: int = WIDTH, colour: bool = False) -> str:
    """The verdicts as a table of at most `width` columns (but not below 80), and a line of counts.

    Plain text unless `colour`. A claim stands on the first of its rows, its source below it; nothing is cut off.
    """
    text, width = io.StringIO(), max(width, 80)
    console = Console(file=text, width=width, color_system="standard" if colour else None)
    lead, interval_width, verdict_width = (25, 17, 14) if width >= WIDTH else (17, 10, 12)
    widths = {"effect": 8, "interval": interval_width, "margin": 6, "n": 2, "verdict": verdict_width, "Holm p": 6}
    grid = Table(box=_RULE, show_edge=False, pad_edge=False, padding=0, header_style="bold")
    grid.add_column("claim, source", width=lead)
    grid.add_column("setting", overflow="fold")
    for heading, columns in widths.items():
        justify: Literal["left", "right"] = "left" if heading == "verdict" else "right"
        grid.add_column(heading, justify=justify, overflow="fold", width=columns)
    for (claim, source), group in itertools.groupby(ordered(rows), key=lambda row: (row.claim, row.source)):
        together = list(group)
        names = ["\n".join(textwrap.wrap(words, lead)) for words in (claim, source)]
        leads = ["\n".join(names)] if len(together) == 1 else [*names, *[""] * (len(together) - 2)]
        for row, name in zip(together, leads, strict=True):
            style = "dim" if row.control and row.control_ok else "bold red" if row.control else STYLES[row.verdict]
            cells = [row.setting, number(row.effect), interval(row), number(row.margin), count(row.n)]
            grid.add_row(*map(Text, [name, *cells]), Text(row.shown_verdict, style), Text(p_value(row.holm_p)))
        grid.add_section()
    if grid.row_count:
        console.print(grid)
        console.print()
    console.print(Text(counts(rows)), soft_wrap=True)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def print_table(rows: Iterable[ClaimRow], file: TextIO | None = None) -> None:
    """The table on a file (None: standard output): in colour and as wide as the terminal, if it is one."""
    console = Console(file=file)
    if console.is_terminal:
        text = table(rows, width=console.width, colour=not console.no_color)
    else:
        text = table(rows)
    console.file.write(text)


# The page


def write_report(rows: Iterable[ClaimRow], runs: Iterable[Run], path: Path) -> None:
    """One HTML file that needs nothing else: verdicts, claims, figures, and the runs. Replaced as a whole."""
    from ncharness.page import page  # only a page needs matplotlib

    _replace(path, page(ordered(rows), list(runs)))
