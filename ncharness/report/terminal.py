"""Table of verdicts for the terminal, and the formats of numbers that the HTML page shares.

Presentation only: verdicts are given as words and numbers, and nothing here decides or recomputes one. Numbers are
rounded here; the CSV file keeps all digits.
"""

import io
import itertools
import math
import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Literal, TextIO

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ncharness.verdicts.rows import VERDICTS, ClaimRow, number, ordered

STYLES = dict(zip(VERDICTS, ("green", "red", "yellow", "bright_black"), strict=True))
WIDTH = 100
"""Width in columns of a table that is not on a terminal."""
_RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)  # a rule below the header, nothing else


def p_value(value: float | None) -> str:
    """Format a p-value with three decimals; a dash for a missing one."""
    if value is None or math.isnan(value):
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def count(n: int | None) -> str:
    """Format an integer; a dash for a missing one."""
    return "-" if n is None else str(n)


def interval(row: ClaimRow) -> str:
    """Format the confidence interval of the effect; a dash if an end is missing."""
    ends = (number(row.low), number(row.high))
    return "-" if "-" in ends else f"[{', '.join(ends)}]"


def counts(rows: Iterable[ClaimRow]) -> str:
    """Count the claims by verdict and the controls that passed, in one line."""
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
    """Render the verdicts as a table of at most `width` columns (80 at least), and a line of counts.

    Plain text unless `colour`. The name of a claim is on its first row, its source below; nothing is truncated.
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
    """Print the table to a file (None: standard output); on a terminal in colour and in its width."""
    console = Console(file=file)
    if console.is_terminal:
        text = table(rows, width=console.width, colour=not console.no_color)
    else:
        text = table(rows)
    console.file.write(text)
