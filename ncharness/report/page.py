"""HTML page of a suite of claims: one file without scripts or external resources.

The same rows and runs give the same bytes.
"""

import html
import io
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from ncharness.report.depth_figures import figures, named
from ncharness.report.style import Drawn
from ncharness.report.terminal import count, counts, interval, p_value
from ncharness.store.run import Run
from ncharness.verdicts.claim import FITTED
from ncharness.verdicts.rows import ClaimRow, number, ordered, replace_file

SCALES = {
    "small": "small networks on small or generated data, not the published settings",
    "paper": "the published settings",
}
ABOUT = (
    "Claims of the literature on effective depth and neural collapse, each tested on networks trained for it, with "
    "margin, error rate and number of seeds fixed before any run. A claim that does not hold here stands as plainly as "
    "one that does, and every claim has a control: the same test on a case where it must not be supported."
)
STRIPS = (
    "In the strips: shaded, where the claim holds (beyond its margin, or between two); dots, the seeds; line and "
    "diamond, the interval and the effect."
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Html(str):
    """Text that is already markup; all other text is escaped when it is put into the page."""


Content = str | Iterable[str]


def _tag(name: str, content: Content = "", **attributes: str) -> Html:
    """Build an element; `class_` becomes class, and underscores in attribute names become hyphens."""
    names = {key: key.rstrip("_").replace("_", "-") for key in attributes}
    opening = "".join(f' {names[key]}="{html.escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{opening}>{_join(content)}</{name}>")


def _join(content: Content) -> Html:
    parts = [content] if isinstance(content, str) else content
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def render_page(rows: Sequence[ClaimRow], runs: Sequence[Run]) -> str:
    """Render the whole page, with the rows in the given order."""
    drawn = _drawn(rows, runs)
    shown = {(one.title, one.caption) for ones in drawn.values() for one in ones}
    others = [one for one in figures(runs) if (one.title, one.caption) not in shown]
    scales = [
        f"scale {scale}: {SCALES.get(scale, 'as configured')}" for scale in dict.fromkeys(row.scale for row in rows)
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    head = [
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        _tag("title", "ncharness: verdicts on effective depth and neural collapse"),
        _tag("style", Html(style)),
    ]
    main = [
        _section("verdicts", "Verdicts", [_tag("p", counts(rows), class_="counts"), _verdicts(rows)]),
        _section("claims", "Claims", _claims(rows, {run.config.key(): run for run in runs}, drawn)),
        _section("figures", "Figures", _figures(others, any(drawn.values()))),
        _section("runs", "Runs", _runs(runs)),
    ]
    header = [
        _tag("h1", "Effective depth and neural collapse, claim by claim"),
        _tag("p", ABOUT),
        *(_tag("p", scale, class_="scale") for scale in scales),
        _tag("nav", [_tag("a", name, href=f"#{name.lower()}") for name in ("Verdicts", "Claims", "Figures", "Runs")]),
    ]
    body = _tag("body", [_tag("header", header), _tag("main", main)])
    return f'<!doctype html>\n<html lang="en">{_tag("head", head)}{body}</html>\n'


def _section(anchor: str, title: str, content: Iterable[str]) -> Html:
    return _tag("section", [_tag("h2", title), *content], id=anchor)


def _anchor(claim: str) -> str:
    return "claim-" + re.sub(r"[^\w.-]", "-", claim)


def _source(source: str) -> Html:
    """Render a source with its arXiv numbers as links, the only external addresses on the page."""
    parts = re.split(r"(arXiv:\d{4}\.\d{4,5})", source)
    return _join(_tag("a", p, href=f"https://arxiv.org/abs/{p[6:]}") if p.startswith("arXiv:") else p for p in parts)


def _badge(row: ClaimRow) -> Html:
    kind = row.verdict if not row.control else "control-ok" if row.control_ok else "control-failed"
    return _tag("span", row.shown_verdict, class_=f"badge {kind.lower().replace(' ', '-')}")


def _cards(head: Sequence[str], lines: Iterable[tuple[Mapping[str, str], Sequence[str]]], kind: str) -> Html:
    """Build a table whose rows become cards on a narrow screen; the roles keep it a table for screen readers."""
    body = [
        _tag(
            "tr",
            [_tag("td", cell, role="cell", data_label=name) for name, cell in zip(head, cells, strict=True)],
            **more,
        )
        for more, cells in lines
    ]
    top = _tag("tr", [_tag("th", name, scope="col", role="columnheader") for name in head], role="row")
    return _tag(
        "table", [_tag("thead", top, role="rowgroup"), _tag("tbody", body, role="rowgroup")], role="table", class_=kind
    )


def _verdicts(rows: Iterable[ClaimRow]) -> Html:
    lines = []
    for row in rows:
        claim = _tag("a", row.claim, href=f"#{_anchor(row.claim)}")
        cells = [claim, _source(row.source), row.setting, number(row.effect), interval(row), number(row.margin)]
        cells += [count(row.n), _badge(row), p_value(row.holm_p)]
        lines.append(({"role": "row", "class_": "control" if row.control else "test"}, cells))
    head = ("claim", "source", "setting", "effect", "interval", "margin", "n", "verdict", "Holm p")
    return _cards(head, lines, "verdicts")


def _drawn(rows: Iterable[ClaimRow], runs: Iterable[Run]) -> dict[str, list[Drawn]]:
    """Draw the figure that each claim names, from the runs of its tests and controls, by claim."""
    drawn = {}
    for claim, group in itertools.groupby(rows, key=lambda row: row.claim):
        tests = list(group)
        keys, figure = {key for row in tests for key in row.runs}, next((row.figure for row in tests if row.figure), "")
        drawn[claim] = named(figure, [run for run in runs if run.config.key() in keys]) if figure else []
    return drawn


def _claims(rows: Iterable[ClaimRow], runs: Mapping[str, Run], drawn: Mapping[str, Sequence[Drawn]]) -> Iterable[Html]:
    yield _tag("p", STRIPS, class_="counts")
    for claim, group in itertools.groupby(rows, key=lambda row: row.claim):
        tests = list(group)
        first = tests[0]
        about = [
            _tag("h3", first.title),
            _tag("p", claim, class_="id"),
            _tag("blockquote", first.statement),
            _tag("p", _source(first.source), class_="source"),
        ]
        seen = _cards_of(drawn[claim], _anchor(claim))
        yield _tag("article", [*about, *seen, *(_test(row, runs) for row in tests)], id=_anchor(claim), class_="claim")


def _test(row: ClaimRow, runs: Mapping[str, Run]) -> Html:
    title = f"Control: {row.setting}" if row.control else row.setting
    facts: dict[str, Content] = {
        "quantity": row.quantity,
        "test": row.test,
        "precondition": row.precondition or "-",
        "power": "-" if row.power is None else f"{number(row.power)} by design",
        "effect": number(row.effect),
        "interval": interval(row),
        "margin": number(row.margin),
        "alpha": number(row.alpha),
        "eps": "does not enter" if row.eps is None else number(row.eps),
        "n": f"{count(row.n)} seeds",
        "p": f"{p_value(row.p)}, Holm-adjusted {p_value(row.holm_p)}",
        "seeds": ", ".join(map(number, row.values)) or "-",
        "over eps": [_tag("span", f"{number(eps)}: {verdict.lower()}", class_="eps") for eps, verdict in row.sweep]
        or "-",
        "runs": _tag("details", [_tag("summary", f"{len(row.runs)} runs"), *_links(row.runs, runs)])
        if row.runs
        else "-",
    }
    listed = [_tag("div", [_tag("dt", name), _tag("dd", content)]) for name, content in facts.items()]
    about = [_tag("p", row.statement)] if row.control else []  # of the control; that of a test is its claim's
    content = [_tag("h4", [title, " ", _badge(row)]), *about, _tag("p", row.reason), _strip(row), _tag("dl", listed)]
    return _tag("section", content, class_="control" if row.control else "test")


def _strip(row: ClaimRow) -> Html:
    """Draw seeds, confidence interval and effect of a row on one axis, shaded where the claim holds."""
    if row.effect is None or row.low is None or row.high is None or row.margin is None:
        return Html()
    bounds = [-row.margin, row.margin] if row.test == "equivalence" else [row.margin]
    known = [v for v in (*row.values, row.effect, row.low, row.high, *bounds, 0.0) if math.isfinite(v)]
    left, span = min(known), (max(known) - min(known)) or 1.0

    def x(value: float) -> str:
        return f"{15 + 270 * min(max((value - left) / span, -0.05), 1.05):.1f}"

    shade = (x(bounds[0]), x(bounds[-1] if len(bounds) > 1 else math.inf))
    holds = f'<rect class="holds" x="{shade[0]}" y="2" width="{float(shade[1]) - float(shade[0]):.1f}" height="26"/>'
    axis = "".join(f'<path class="axis" d="M{x(at)} 2V32"/>' for at in (0.0, *bounds))
    seeds = "".join(f'<circle class="seed" cx="{x(v)}" cy="10" r="2.5"/>' for v in row.values if math.isfinite(v))
    effect = f'<path d="M{x(row.effect)} 17l4 4l-4 4l-4 -4z" fill="currentColor"/>'
    line = f'<path class="interval" d="M{x(row.low)} 21H{x(row.high)}"/>'
    far = [at for at in bounds if abs(at) > 0.08 * span]  # their labels do not overlap that of zero
    words = "".join(f'<text x="{x(at)}" y="42">{number(at)}</text>' for at in (0.0, *far))
    label = f"effect {number(row.effect)}, interval {interval(row)}, margin {number(row.margin)}"
    opening = f'<svg class="strip" viewBox="0 0 300 46" role="img" aria-label="{label}">'
    return Html(f"{opening}{holds}{axis}{seeds}{line}{effect}{words}</svg>")


def _links(keys: Iterable[str], runs: Mapping[str, Run]) -> Iterable[Html]:
    """Link the runs by name and key, with a summary of their provenance; the table of runs has each in full."""
    found = [runs[key] for key in keys if key in runs]
    for name in ("version", "commit", "torch", "device"):
        values = sorted({str(run.provenance.get(name) or "-") for run in found})
        if found:
            yield _tag("span", f"{name}: {', '.join(values)}")
            yield Html(" ")
    for key in keys:
        if key in runs:
            yield _tag("a", runs[key].config.name(), href=f"#run-{key}")
            yield Html(" ")
        yield _tag("code", key)
        yield Html(" ")


def _figures(drawn: Sequence[Drawn], elsewhere: bool) -> Iterable[Html]:
    if elsewhere:
        yield _tag("p", "Those of the claims are beside them; here is what else the runs show.", class_="counts")
    elif not drawn:
        yield _tag("p", "No figure: there are no runs.")
    yield from _cards_of(drawn, "figure")


def _cards_of(drawn: Sequence[Drawn], prefix: str) -> Iterable[Html]:
    cards = []
    for i, (title, caption, figure) in enumerate(drawn):
        words = [_tag("strong", f"{title}:"), f" {caption}"]
        cards.append(_tag("figure", [_svg(figure, f"{prefix}{i}", f"{title}: {caption}"), _tag("figcaption", words)]))
    return [_tag("div", cards, class_="figures")] if cards else []


def _svg(figure: Figure, prefix: str, words: str) -> Html:
    """Render the figure as an inline element with real text, as wide as its container, with unique ids."""
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ncharness"}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="[^"]*"', svg)
    label = html.escape(words)
    opening = f'<svg role="img" aria-label="{label}" {view.group() if view else ""}>'
    svg = re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)  # in a template string, backslashes would be escapes
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)  # it would style the whole page
    return Html(re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg))


def _runs(runs: Sequence[Run]) -> Iterable[Html]:
    if not runs:
        return [_tag("p", "No runs.")]
    head = ("run", "key", "train error", "finished", "version", "torch", "device")
    lines = []
    for run in sorted(runs, key=lambda run: (run.config.name(), run.config.key())):
        facts = {
            name: str(run.provenance.get(name) or "-") for name in ("finished", "version", "commit", "torch", "device")
        }
        version = f"{facts['version']} ({facts['commit']})"
        key = run.config.key()
        cells = [run.config.name(), key, _fit(run), facts["finished"], version, facts["torch"], facts["device"]]
        lines.append(({"role": "row", "id": f"run-{key}"}, cells))
    summary = _tag("summary", f"{len(runs)} run{'' if len(runs) == 1 else 's'}; fitted: train error at most {FITTED:g}")
    return [_tag("details", [summary, _cards(head, lines, "runs")])]


def _fit(run: Run) -> str:
    try:
        error = run.scalar("error")
    except (KeyError, IndexError):
        return "-"
    return f"{number(error)}, {'fitted' if error <= FITTED else 'not fitted'}"


def write_report(rows: Iterable[ClaimRow], runs: Iterable[Run], path: Path) -> None:
    """Write one self-contained HTML file with verdicts, claims, figures and runs. It is replaced atomically."""
    by_name = sorted(runs, key=lambda run: (run.config.name(), run.config.key()))  # the same page whoever read them
    replace_file(path, render_page(ordered(rows), by_name))
