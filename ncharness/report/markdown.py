"""Markdown tables of verdicts and of metrics, and the marked places in documents that they fill.

A document marks a place with two comments, each on a line of its own:

    <!-- generated:claims c2 c3 u -->
    <!-- /generated -->

The first names claims by the short form of their ids (`c2`), or all claims of a letter (`u`); without names it means
every claim. `<!-- generated:metrics -->` and `<!-- generated:aliases -->` are the tables of the named metrics.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from ncharness.metrics.specs import markdown_grid
from ncharness.report.terminal import count, counts, interval
from ncharness.verdicts.rows import ClaimRow, number, ordered

_PLACE = re.compile(
    r"(?P<head>^<!-- generated:(?P<what>[^\n]*?) -->\n)(?P<body>.*?)(?P<end>^<!-- /generated -->$)", re.M | re.S
)
_MARK = re.compile(r"^<!-- (generated:|/generated)", re.M)
_HEAD = ("claim", "source", "setting", "eps", "effect, 90 % interval", "margin", "n", "verdict")


def short_id(claim: str) -> str:
    """The short form of a claim's id: `c2` of `c2-depth-constant`."""
    return claim.partition("-")[0]


def selected(rows: Iterable[ClaimRow], names: Sequence[str]) -> list[ClaimRow]:
    """The rows, controls among them, of the claims that are named: by id, by its short form, or by its letter.

    Args:
        rows: Rows of the verdict table.
        names: Names of claims; none means every claim.

    Returns:
        The rows in the order of the table.

    Raises:
        ValueError: A name that no row has.
    """
    kept = ordered(rows)
    if not names:
        return kept
    known = {form for row in kept for form in _forms(row)}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"claims: there are no rows of {', '.join(unknown)}")
    return [row for row in kept if not _forms(row).isdisjoint(names)]


def _forms(row: ClaimRow) -> set[str]:
    short = short_id(row.claim)
    return {row.claim, short, short.rstrip("0123456789")}


def verdict_table(rows: Iterable[ClaimRow]) -> str:
    """A Markdown table of the claims, a line a setting, and below it a line that counts verdicts and controls.

    The title stands on the first line of a claim. The interval is the 1 - 2 alpha interval of the effect; where alphas
    other than .05 occur, the heading says no level.
    """
    rows = ordered(rows)
    tests = [row for row in rows if not row.control]
    head = [name if {row.alpha for row in tests} <= {0.05, None} else name.replace(" 90 %", "") for name in _HEAD]
    lines = []
    for _, group in itertools.groupby(tests, key=lambda row: row.claim):
        for i, row in enumerate(group):
            title = f"{short_id(row.claim)}: {row.title}" if i == 0 else ""
            source = row.source if i == 0 else ""
            effect = "" if row.effect is None else f"{number(row.effect)} {interval(row)}"
            verdict = row.verdict if row.verdict == "SUPPORTED" else f"**{row.verdict}**"
            eps = "" if row.eps is None else f"{row.eps:g}"
            lines.append((title, source, row.setting, eps, effect, number(row.margin), count(row.n), verdict))
    return f"{markdown_grid(head, lines)}\n\n{counts(rows)}.\n"


def filled(text: str, tables: Mapping[str, Callable[[Sequence[str]], str]]) -> str:
    """A document with every marked place filled anew.

    Args:
        text: The document.
        tables: For the first word of a mark (`claims`, `metrics`), a function from its other words to the table.

    Returns:
        The document; equal to `text` where nothing has changed.

    Raises:
        ValueError: A mark without its end, or one that no function is for.
    """

    def fill(place: re.Match[str]) -> str:
        what, *words = place["what"].split()
        if what not in tables:
            raise ValueError(f"mark: expected generated:{' or generated:'.join(tables)}, got generated:{what}")
        return f"{place['head']}\n{tables[what](words).strip()}\n\n{place['end']}"

    places = list(_PLACE.finditer(text))
    if len(_MARK.findall(text)) != 2 * len(places):
        raise ValueError("mark: a <!-- generated:... --> without its <!-- /generated -->, or the other way round")
    return _PLACE.sub(fill, text)
