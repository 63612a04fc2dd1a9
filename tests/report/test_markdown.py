"""Markdown tables, and the marked places of documents."""

import pytest

from ncharness.metrics.specs import markdown_grid
from ncharness.report.markdown import filled, selected, verdict_table
from ncharness.verdicts.rows import ClaimRow


def row(claim: str, setting: str = "digits", verdict: str = "SUPPORTED", **more: object) -> ClaimRow:
    given = {"effect": 1.25, "low": 1.0, "high": 1.5, "margin": 0.5, "alpha": 0.05, "n": 5, "eps": 0.01} | more
    return ClaimRow(
        claim=claim,
        title=f"title of {claim}",
        statement="s",
        source="Someone 2020",
        setting=setting,
        scale="small",
        verdict=verdict,
        **given,  # type: ignore[arg-type]
    )


ROWS = [
    row("c10-b"),
    row("c2-a", "mnist1d", "REFUTED", eps=None),
    row("c2-a"),
    row("c2-a", verdict="INCONCLUSIVE", control=True),
    row("u1-x", "C4|d3", "NOT APPLICABLE", effect=None, low=None, high=None),
]


def test_a_table_has_a_line_a_setting_and_counts_the_controls() -> None:
    lines = verdict_table(ROWS).splitlines()
    assert lines[0] == "| claim | source | setting | eps | effect, 90 % interval | margin | n | verdict |"
    assert lines[1] == "|---|---|---|---|---|---|---|---|"
    assert lines[2] == "| c2: title of c2-a | Someone 2020 | digits | 0.01 | 1.25 [1, 1.5] | 0.5 | 5 | SUPPORTED |"
    assert lines[3] == "|  |  | mnist1d |  | 1.25 [1, 1.5] | 0.5 | 5 | **REFUTED** |"
    assert lines[4].startswith("| c10: title of c10-b |")
    assert lines[5] == "| u1: title of u1-x | Someone 2020 | C4\\|d3 | 0.01 |  | 0.5 | 5 | **NOT APPLICABLE** |"
    assert lines[6:] == ["", "4 verdicts: 2 SUPPORTED, 1 REFUTED, 1 NOT APPLICABLE; controls: 1 ok, 0 FAILED."]


def test_the_heading_names_the_level_only_where_it_is_that_of_every_row() -> None:
    assert "| effect, interval |" in verdict_table([row("c2-a"), row("c3-a", alpha=0.01)])


@pytest.mark.parametrize(
    ("names", "claims"),
    [
        ([], ["c2-a", "c2-a", "c2-a", "c10-b", "u1-x"]),
        (["c2"], ["c2-a"] * 3),
        (["c"], ["c2-a", "c2-a", "c2-a", "c10-b"]),
        (["u1-x", "c10"], ["c10-b", "u1-x"]),
    ],
)
def test_claims_are_selected_by_id_short_form_or_letter(names: list[str], claims: list[str]) -> None:
    assert [row.claim for row in selected(ROWS, names)] == claims


def test_a_name_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"claims: there are no rows of c1, x$"):
        selected(ROWS, ["c1", "c2", "x"])


def test_marked_places_are_filled_and_nothing_else_changes() -> None:
    text = "a\n<!-- generated:claims c2 -->\nold\n<!-- /generated -->\nb\n"
    text += "<!-- generated:metrics -->\n<!-- /generated -->\n"
    tables = {"claims": lambda words: f"of {' '.join(words)}\n", "metrics": lambda _: "M"}
    once = filled(text, tables)
    assert once == (
        "a\n<!-- generated:claims c2 -->\n\nof c2\n\n<!-- /generated -->\nb\n"
        "<!-- generated:metrics -->\n\nM\n\n<!-- /generated -->\n"
    )
    assert filled(once, tables) == once


@pytest.mark.parametrize(
    "text",
    [
        "<!-- generated:claims -->\nno end\n",
        "<!-- /generated -->\n",
        "<!-- generated:claims -->\n<!-- generated:claims -->\n<!-- /generated -->\n",
    ],
)
def test_marks_without_a_partner_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="mark: "):
        filled(text, {"claims": lambda _: ""})


def test_unknown_marks_are_refused() -> None:
    with pytest.raises(ValueError, match="expected generated:claims or generated:metrics, got generated:verdicts"):
        filled("<!-- generated:verdicts -->\n<!-- /generated -->", {"claims": str, "metrics": str})


def test_bars_in_cells_are_escaped() -> None:
    assert markdown_grid(["a|b"], [["c"]]) == "| a\\|b |\n|---|\n| c |"
