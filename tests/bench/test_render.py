"""Tables and targets as text and as JSON."""

from ncharness.bench import render
from ncharness.bench.errors import Errors
from ncharness.bench.tables import Table, TableRow, Target


def test_misses_are_as_plain_as_hits() -> None:
    found = [Target("a", 1.1, 1.2), Target("b", 3.0, 9, at_least=True), Target("c", None, 1.0)]
    lines = render.targets_text(found).splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["a", "<=", "1.2", "1.10", "yes"],
        ["b", ">=", "9", "3.00", "NO"],
        ["c", "<=", "1", "—", "not", "measured"],
    ]
    assert lines[-1] == "1 of 3 targets met"


def test_a_table_has_the_columns_that_rows_have_and_fits() -> None:
    full = TableRow(
        name="torch moments",
        seconds=1.2345,
        over_floor=1234.5,
        over_ours=12.345,
        extra_bytes=1_234_567_890,
        errors=Errors(0.0, 1.2e-8),
        offset_errors=Errors(0.931, float("inf")),
    )
    printed = render.text(Table("kernels", "title", "caption", (full, TableRow(name="empty"))))
    assert max(map(len, printed.splitlines())) <= 100
    row = next(line for line in printed.splitlines() if line.startswith("torch"))
    assert row.split()[2:] == ["1234", "1234", "12.35", "1234.6", "0", "93", "%", "1e-08", "inf"]
    slim = render.text(Table("stream", "title", "caption", (TableRow(name="one read", seconds=0.00012345),)))
    assert slim.splitlines()[-1].split() == ["one", "read", "0.123"]
    assert "extra" not in slim
    assert "\x1b" not in slim


def test_json_knows_no_infinity() -> None:
    row = render.plain(TableRow(name="a", offset_errors=Errors(0.5, float("inf"))))
    assert row["offset_errors"] == {"wrong": 0.5, "cdnv": "inf"}
    assert row["errors"] is None
