import csv
import dataclasses
import io
import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ncharness.report.page import write_report
from ncharness.report.terminal import counts, p_value, print_table, table
from ncharness.verdicts.rows import COLUMNS, VERDICTS, ClaimRow, number, ordered, read_csv, write_csv
from ncharness.verdicts.verdict import REFUTED

ROW = ClaimRow(
    claim="c2-depth-constant",
    title="Effective depth does not grow with L",
    statement="Any network of depth L >= L0 separates the training set in its first L0 layers.",
    source="arXiv:2202.09028 v9",
    setting="digits",
    scale="small",
    verdict="SUPPORTED",
    quantity="interpolated depth at L = 12 minus at L = 8",
    precondition="training error at most 0.01",
    power=0.987654321,
    test="equivalence",
    eps=0.05,
    effect=1 / 3,
    low=-0.1234567890123,
    high=0.75,
    margin=1.5,
    alpha=0.05,
    n=5,
    p=0.0004,
    holm_p=0.0123,
    reason="the interval lies inside the margin",
    sweep={0.01: "INCONCLUSIVE", 0.05: "SUPPORTED"},
    values=(0.1, 1 / 3, 0.5),
    runs=("0123456789", "abcdef0123"),
)
CONTROL = dataclasses.replace(ROW, control=True, verdict="REFUTED", setting="digits, learning rate 0")
EMPTY = ClaimRow(
    claim="c7-noise", title="", statement="", source="v9", setting="mnist1d", scale="small", verdict="NOT APPLICABLE"
)

words = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\r\t"))
numbers = st.none() | st.floats(allow_nan=False)
rows = st.builds(
    ClaimRow,
    **dict.fromkeys(
        ("claim", "title", "statement", "source", "setting", "scale", "quantity", "precondition", "test", "reason"),
        words,
    ),
    **dict.fromkeys(("eps", "effect", "low", "high", "margin", "alpha", "power", "p", "holm_p"), numbers),
    verdict=st.sampled_from(VERDICTS),
    control=st.booleans(),
    n=st.none() | st.integers(0, 1000),
    sweep=st.dictionaries(st.floats(0, 1), st.sampled_from(VERDICTS)),
    values=st.lists(st.floats(allow_nan=False)),
    runs=st.lists(st.from_regex(r"[0-9a-f]{10}", fullmatch=True)),
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


# Rows


def test_a_row_holds_plain_python_whatever_comes_in():
    row = dataclasses.replace(
        ROW, effect=np.float64(0.5), n=np.int64(7), values=np.arange(2.0), control=np.bool_(True), verdict=REFUTED
    )
    assert [type(value) for value in (row.effect, row.n, row.values[0], row.control, row.verdict)] == [
        float,
        int,
        float,
        bool,
        str,
    ]
    assert {type(value) for value in dataclasses.asdict(row).values()} <= {str, float, int, bool, tuple}


def test_a_mapping_of_eps_to_verdicts_becomes_pairs():
    assert ROW.sweep == ((0.01, "INCONCLUSIVE"), (0.05, "SUPPORTED"))
    assert hash(ROW) == hash(dataclasses.replace(ROW))


@pytest.mark.parametrize(
    ("field", "value"),
    [("verdict", "HELD"), ("sweep", {0.05: "held"}), ("runs", ("a;b",))],
    ids=["verdict", "sweep", "runs"],
)
def test_a_row_refuses_what_it_cannot_show(field, value):
    with pytest.raises(ValueError, match=r"^(verdict|runs): expected .* got"):
        dataclasses.replace(ROW, **{field: value})


def test_rows_are_ordered_by_number_of_the_claim_with_controls_last():
    shuffled = [
        dataclasses.replace(ROW, claim="c10-x"),
        CONTROL,
        dataclasses.replace(ROW, setting="mnist1d"),
        ROW,
        dataclasses.replace(ROW, claim="c2-a"),
    ]
    for some in itertools.permutations(shuffled):
        assert [(row.claim, row.setting) for row in ordered(some)] == [
            ("c2-a", "digits"),
            ("c2-depth-constant", "digits"),
            ("c2-depth-constant", "mnist1d"),
            ("c2-depth-constant", "digits, learning rate 0"),
            ("c10-x", "digits"),
        ]


# CSV


@settings(deadline=None)  # it writes files, and the disk may be busy
@given(written=st.lists(rows, max_size=3))
@example(written=[dataclasses.replace(EMPTY, reason='a lone \r, a \n, a " and a comma')])
def test_a_csv_file_reads_back_as_it_was_written(tmp_path_factory, written):
    path = tmp_path_factory.getbasetemp() / "claims.csv"
    write_csv(written, path)
    assert read_csv(path) == ordered(written)


def test_a_csv_file_has_one_line_a_row_and_every_digit(tmp_path):
    path = tmp_path / "deep" / "claims.csv"
    write_csv([CONTROL, ROW, EMPTY], path)
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert [line[COLUMNS.index("control")] for line in lines] == ["false", "true", "false"]
    first = dict(zip(COLUMNS, lines[0], strict=True))
    assert first["effect"] == "0.3333333333333333"
    assert first["sweep"] == "0.01=INCONCLUSIVE;0.05=SUPPORTED"
    assert first["values"] == "0.1;0.3333333333333333;0.5"
    assert first["runs"] == "0123456789;abcdef0123"
    assert lines[2][COLUMNS.index("effect")] == ""


def test_nan_and_infinite_numbers_survive_the_csv(tmp_path):
    write_csv([dataclasses.replace(ROW, low=-math.inf, effect=math.nan)], tmp_path / "claims.csv")
    (row,) = read_csv(tmp_path / "claims.csv")
    assert row.low == -math.inf
    assert math.isnan(row.effect)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"title"', '"titel"', "columns differ: titel, title"),
        ('"claim","title"', '"title","claim"', "columns differ: their order"),
        ("0.3333333333333333", "0.33x", "could not convert string to float: '0.33x' in .*row 1, column effect"),
        ("false", "no", "expected true or false, got 'no' in .*row 1, column control"),
        ('"5"', '"five"', "'five' in .*row 1, column n"),
        ("0.05=SUPPORTED", "=SUPPORTED", "row 1, column sweep"),
        ("0.05=SUPPORTED", "0.05", "expected one of SUPPORTED.* got '' in .*row 1"),
        ("0.1;", "0.1;;", "row 1, column values"),
        ('"SUPPORTED"', '"HELD"', "expected one of SUPPORTED.* got 'HELD' in .*row 1"),
        (',"0123456789;abcdef0123"', "", "expected 26 cells in .*row 1, got 25"),
    ],
)
def test_a_damaged_csv_file_is_an_error_that_says_where(tmp_path, before, after, message):
    path = tmp_path / "claims.csv"
    write_csv([ROW], path)
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(ValueError, match=rf"^path: .*{message}"):
        read_csv(path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"a,b\n1,2\n", b'"claim\n'], ids=["empty", "binary", "foreign", "open quote"]
)
def test_a_foreign_file_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "claims.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^path: expected a CSV file of claims, got .*claims\.csv"):
        read_csv(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "claims.csv")


@pytest.mark.parametrize(
    "write",
    [lambda path: write_csv([ROW], path), lambda path: write_report([ROW], [], path)],
    ids=["csv", "report"],
)
def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch, write):
    target = tmp_path / "out"
    target.write_text("old")
    write(target)
    written = target.read_text()
    assert written != "old"

    def fail(*_):
        raise OSError("the disk is gone")

    target.write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        write(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


# Words and numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (math.nan, "-"), (1 / 3, "0.333"), (-0.0, "0"), (12.0, "12"), (4e-5, "4.0e-05"), (-math.inf, "-inf")],
)
def test_numbers_are_rounded_for_the_eye(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (math.nan, "-"), (0.0009, "<0.001"), (0.05, "0.050"), (1.0, "1.000")]
)
def test_p_values_have_three_decimals(value, shown):
    assert p_value(value) == shown


def test_counts_name_every_verdict_and_keep_controls_apart():
    failed = dataclasses.replace(CONTROL, verdict="SUPPORTED")
    assert counts([ROW, ROW, CONTROL, failed, EMPTY, CONTROL]) == (
        "3 verdicts: 2 SUPPORTED, 1 NOT APPLICABLE; controls: 2 ok, 1 FAILED"
    )
    assert counts([ROW]) == "1 verdict: 1 SUPPORTED"
    assert counts([]) == "no verdicts"


# The terminal


LONG = dataclasses.replace(
    ROW,
    claim="c9-a-very-long-identifier-of-a-claim-that-no-column-holds",
    source="arXiv:2202.09028 v9, section 3.1, and its appendix arXiv:2301.04605",
    setting="mnist1d, random labels, learning rate 0",
    low=-0.000123,
    high=-0.000111,
)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_table_fits_its_width_and_cuts_nothing_off(width):
    text = table([ROW, CONTROL, EMPTY, LONG], width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "\x1b" not in text
    for shown in (
        "c2-depth-constant",
        "digits",
        "arXiv:2202.09028",
        "section",
        "0.333",
        "1.5",
        "0.012",
        "ok:",
        "-1.1e-04]",
    ):
        assert shown in text


def test_the_table_reads_as_it_should():
    assert table([CONTROL, EMPTY, ROW]).splitlines() == [
        "claim, source             setting           effect          interval margin  n verdict        Holm p",
        "-" * 100,
        "c2-depth-constant         digits             0.333    [-0.123, 0.75]    1.5  5 SUPPORTED       0.012",
        "arXiv:2202.09028 v9       digits,            0.333    [-0.123, 0.75]    1.5  5 control ok:     0.012",
        "                          learning rate 0                                      REFUTED",
        "",
        "c7-noise                  mnist1d                -                 -      -  - NOT APPLICABLE      -",
        "v9",
        "",
        "2 verdicts: 1 SUPPORTED, 1 NOT APPLICABLE; controls: 1 ok, 0 FAILED",
    ]


def test_a_control_that_was_supported_has_failed():
    text = table([dataclasses.replace(CONTROL, verdict="SUPPORTED")])
    assert "control" in text
    assert "FAILED:" in text
    assert "controls: 0 ok, 1 FAILED" in text


def test_a_table_of_nothing_is_its_counts():
    assert table([]) == "no verdicts\n"


def test_colour_changes_no_word_of_the_table():
    coloured = table([ROW, CONTROL], colour=True)
    assert "\x1b[32mSUPPORTED" in coloured
    plain = "".join(part.partition("m")[2] if i else part for i, part in enumerate(coloured.split("\x1b[")))
    assert plain.split() == table([ROW, CONTROL]).split()


def test_printing_is_coloured_on_a_terminal_and_plain_in_a_pipe(monkeypatch):
    pipe, terminal = io.StringIO(), Terminal()
    monkeypatch.setenv("COLUMNS", "130")
    print_table([ROW, CONTROL], pipe)
    print_table([ROW, CONTROL], terminal)
    assert pipe.getvalue() == table([ROW, CONTROL], width=100)
    assert terminal.getvalue() == table([ROW, CONTROL], width=130, colour=True)


def test_printing_honours_no_color(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    print_table([ROW], terminal)
    assert "\x1b" not in terminal.getvalue()


def test_markup_in_a_row_is_text():
    assert "[bold]digits" in table([dataclasses.replace(ROW, setting="[bold]digits")])
