"""The command `ncharness bench`: its output, its JSON file, Ctrl-C and wrong arguments."""

import json
from pathlib import Path

import pytest

from ncharness.bench import memory, sections, timing
from ncharness.bench.sections import SECTIONS
from ncharness.bench.tables import Table, TableRow
from ncharness.cli.main import main


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses, because no times are judged here."""
    monkeypatch.setattr(timing, "_SETTLE_SECONDS", 0.0)


@pytest.fixture
def quiet_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Avoid processes and large GEMMs in tests of the output."""
    monkeypatch.setattr(timing, "SIDE", 8)
    monkeypatch.setattr(timing, "_SAMPLE_SECONDS", 1e-6)
    monkeypatch.setattr(memory, "extra_bytes", lambda *_, **__: 1000)


@pytest.mark.usefixtures("quiet_child")
def test_bench_prints_machine_table_and_targets_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "numbers.json"
    arguments = ["bench", "--shape", "128x16x4,130x16x4", "--rounds", "1", "--threads", "1", "--json", str(path)]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    printed = captured.out
    assert printed.startswith("$ ncharness bench --shape 128x16x4,130x16x4")
    for part in ("torch", "kernels: n=128 d=16 C=4", "kernels: n=130 d=16 C=4", "torch shift + chunks", "targets met"):
        assert part in printed
    assert captured.err == ""
    assert "\x1b" not in printed
    content = json.loads(path.read_text())
    assert content["facts"]["threads"] == 1
    assert content["command"].endswith(str(path))
    first = content["tables"][0]
    assert first["rows"][0]["name"] == "ours"
    assert first["rows"][0]["errors"]["wrong"] == 0
    assert first["targets"][0]["bound"] == 1.0


@pytest.mark.usefixtures("quiet_child")
def test_ctrl_c_keeps_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Table("kernels", "the first", "caption", (TableRow(name="ours", seconds=1.0),))

    def interrupted(*_: object) -> object:
        yield done
        raise KeyboardInterrupt

    monkeypatch.setattr(sections, "run", interrupted)
    assert main(["bench", "--json", str(tmp_path / "numbers.json")]) == 130
    captured = capsys.readouterr()
    assert "the first" in captured.out
    assert captured.err == "ncharness: stopped; what was done so far is above\n"
    assert len(json.loads((tmp_path / "numbers.json").read_text())["tables"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["kernel"],
            "section: expected some of kernels, dtypes, gram, scaling, layers, stream, together, all, got 'kernel'",
        ),
        (["--shape", "200kx512"], "--shape: expected rows x features x classes such as 200kx512x10, got '200kx512'"),
        (["--shape", "10x2x-4"], "--shape: expected rows x features x classes such as 200kx512x10, got '10x2x-4'"),
        (["--shape", "10x2x6"], "--shape: expected a feature, two classes and two rows a class at least"),
        (["--rounds", "0"], "--rounds: expected at least 1, got 0"),
        (["--threads", "-1"], "--threads: expected at least 1, got -1"),
        (["--json", "no/such/place/x.json"], "--json: expected a path in a folder that exists"),
        (["layers", "--data-root", "no/such/place"], "no/such/place"),
    ],
)
def test_wrong_use_is_one_clear_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_the_help_fits_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    printed = capsys.readouterr().out
    assert all(section in printed for section in SECTIONS)
    assert len(printed.splitlines()) <= 30
