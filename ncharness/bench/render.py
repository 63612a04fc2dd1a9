"""Rendering of a benchmark as text and as JSON, with the machine, the versions and the command.

Nothing is computed here.
"""

import dataclasses
import io
import json
import math
import platform
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.box import Box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from ncharness.bench.contenders import CONTENDERS
from ncharness.bench.errors import CLEAR
from ncharness.bench.tables import Settings, Table, TableRow, Target
from ncharness.training.provenance import facts

WIDTH = 100
"""Width in columns where the output is not a terminal."""
_RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)  # a rule below the header, nothing else
_MISSING = "—"


def _digits(value: float) -> str:
    """Format with three significant digits and no exponent."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _share(value: float) -> str:
    return f"{100 * value:.2g} %" if 0 < value < 0.1 else f"{100 * value:.0f} %" if value else "0"


def _error(value: float) -> str:
    return f"{value:.2g}" if value == 0 or value > 0.01 else f"{value:.0e}"


_COLUMNS: tuple[tuple[str, Callable[[TableRow], float | None], Callable[[float], str]], ...] = (
    ("time\nms", lambda row: None if row.seconds is None else 1e3 * row.seconds, _digits),
    ("x floor", lambda row: row.over_floor, _ratio),
    ("x first\nrow", lambda row: row.over_ours, _ratio),
    ("extra\nMB", lambda row: None if row.extra_bytes is None else row.extra_bytes / 1e6, lambda value: f"{value:.1f}"),
    ("wrong\nlabels", lambda row: row.errors and row.errors.wrong, _share),
    ("wrong\nat 1e4", lambda row: row.offset_errors and row.offset_errors.wrong, _share),
    ("CDNV\nerror", lambda row: row.errors and row.errors.cdnv, _error),
    ("error\nat 1e4", lambda row: row.offset_errors and row.offset_errors.cdnv, _error),
)


def text(table: Table, *, width: int = WIDTH, colour: bool = False) -> str:
    """Render a table with its title, floor and footnotes. Columns in which no row has a value are left out."""
    grid = _grid("")
    shown = [column for column in _COLUMNS if any(column[1](row) is not None for row in table.rows)]
    for heading, _, _ in shown:
        grid.add_column(heading, justify="right", no_wrap=True)
    notes: list[str] = []
    for row in table.rows:
        marks = ""
        for note in filter(None, row.notes):
            notes = notes if note in notes else [*notes, note]
            marks += f" [{notes.index(note) + 1}]"
        values = [(value(row), form) for _, value, form in shown]
        grid.add_row(Text(row.name + marks), *(_MISSING if cell is None else form(cell) for cell, form in values))
    lines = [f"[{i}] {note}" for i, note in enumerate(notes, 1)]
    return _rendered(
        [Text(f"{table.section}: {table.title}", "bold"), Text(table.caption), grid, *lines], width, colour
    )


def targets_text(targets: Sequence[Target], *, width: int = WIDTH, colour: bool = False) -> str:
    """Render the targets: the bound, the measured value, and whether it keeps to the bound."""
    grid = _grid("target")
    for heading in ("asked", "measured"):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("met")
    for target in targets:
        word, style = {True: ("yes", "green"), False: ("NO", "bold red"), None: ("not measured", "yellow")}[target.met]
        asked = f"{'>=' if target.at_least else '<='} {target.bound:g}"
        measured = _MISSING if target.value is None else f"{target.value:.2f}"
        grid.add_row(Text(target.quantity), asked, measured, Text(word, style))
    met = sum(target.met is True for target in targets)
    return _rendered([grid, "", f"{met} of {len(targets)} targets met"], width, colour)


TAKING_TURNS = "Times are medians over rounds in which all ways take turns."


def legend(times: str = TAKING_TURNS) -> str:
    """Explain the tables of `kernels`: how times were taken, the columns, and each implementation."""
    columns = (
        f"{times} A ratio is taken within a round, then the median. Extra memory is the peak above the inputs, "
        "in a process of its own, with the 8 bytes a row of the "
        "labels found. Errors are against float64 on fewer rows of the same d and C, as they are and with 1e4 added to "
        f"every feature; a label counts where the two nearest distances differ by more than {CLEAR:g} of them."
    )
    ways = [f"{way.name}: {way.note}." for way in CONTENDERS]
    return _rendered([columns, *ways], WIDTH, False)


def provenance(command: str, settings: Settings) -> dict[str, Any]:
    """Return machine, versions, commit, command and settings as plain JSON values."""
    versions = {}
    for package in ("faiss-cpu", "kowalski", "scipy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "command": command,
        "machine": {"processor": _processor(), "system": platform.system()},
        "facts": {**facts(), **versions, "threads": settings.n_threads},
        "settings": {"rounds": settings.rounds, "threads": settings.n_threads, "quick": settings.quick},
    }


def header(about: dict[str, Any]) -> str:
    """Render the provenance in three lines, with one more for the card if there is one."""
    known, machine = about["facts"], about["machine"]
    names = ("torch", "numpy", "scikit-learn", "faiss-cpu", "kowalski")
    card = [f"{machine['card']}, driver {machine['driver']}"] if "card" in machine else []
    lines = (
        f"$ {about['command']}",
        f"{machine['processor']}, {known['threads']} threads; {known['backend']}",
        *card,
        f"ncharness {known['version']} {known['commit']}; python {known['python']}, "
        + ", ".join(f"{name} {known[name]}" for name in names),
    )
    return _rendered(lines, WIDTH, False)


def write_json(tables: Iterable[Table], about: dict[str, Any], path: Path) -> None:
    """Write the provenance and every number of the tables, unrounded."""
    content = {**about, "tables": [plain(table) for table in tables]}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """Convert tables and rows to JSON values; a number that is not finite becomes a string."""
    if dataclasses.is_dataclass(value):
        return {part.name: plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: plain(part) for name, part in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _grid(lead: str) -> Grid:
    grid = Grid(box=_RULE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    grid.add_column(lead, overflow="fold", min_width=12)
    return grid


def _rendered(parts: Iterable[Any], width: int, colour: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, width=max(width, 80), color_system="standard" if colour else None, highlight=False)
    for part in parts:
        console.print(Text(part) if isinstance(part, str) else part)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"
