"""Benchmark machinery: agreement of the implementations, the floor, times, memory, tables and the command."""

import gc
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ncharness.bench import comparison, memory, render, sections, tables, timing
from ncharness.bench.contenders import CONTENDERS, Answer, Contender, Shape, ours
from ncharness.bench.errors import Errors, errors_of, truth
from ncharness.bench.sections import SECTIONS, parse_shape
from ncharness.bench.tables import GOALS, Settings, Table, TableRow, Target
from ncharness.bench.timing import Floor
from ncharness.cli.main import main
from ncharness.kernels import ops

TINY = Shape(240, 16, 6)
MANY_CLASSES = Shape(130, 40, 30)  # more classes than the 25 up to which torch.cdist takes exact differences
OURS = CONTENDERS[0]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses, because no times are judged here."""
    monkeypatch.setattr(timing, "_SETTLE_SECONDS", 0.0)


linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")


# --- the ways ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [TINY, MANY_CLASSES], ids=str)
@pytest.mark.parametrize("way", CONTENDERS, ids=lambda way: way.name)
def test_every_way_agrees_with_float64(way: Contender, shape: Shape) -> None:
    if reason := way.refusal(shape):
        pytest.skip(reason)
    x, y = timing.sample(shape)
    true, answer = truth(x, y, shape.C), way.run(x, y, shape.C)
    assert errors_of(answer, true).wrong == 0
    assert answer.cdnv == pytest.approx(true.cdnv, rel=1e-5)
    torch.testing.assert_close(answer.means.double(), true.means, rtol=1e-5, atol=1e-5)
    if answer.variance is None:
        assert "class variances stay inside" in way.note
    else:
        torch.testing.assert_close(answer.variance.double(), true.variance, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ours", "torch shift + chunks"])
def test_the_shifted_ways_hold_at_an_offset_and_the_expanded_ones_do_not(name: str) -> None:
    x, y = timing.sample(TINY, offset=tables.OFFSET)
    true = truth(x, y, TINY.C)
    ways = {way.name: way for way in CONTENDERS}
    assert errors_of(ways[name].run(x, y, TINY.C), true).wrong == 0
    assert errors_of(ways["torch index_add"].run(x, y, TINY.C), true).wrong > 0.1


def test_the_float64_oracle_is_the_definition() -> None:
    x, y = timing.sample(TINY)
    true = truth(x, y, TINY.C)
    by_class = [x[y == c].double() for c in range(TINY.C)]
    means = [rows.mean(0) for rows in by_class]
    variances = [float(((rows - mean) ** 2).sum() / len(rows)) for rows, mean in zip(by_class, means, strict=True)]
    pairs = [
        (variances[i] + variances[j]) / (2 * float(((means[i] - means[j]) ** 2).sum()))
        for i in range(TINY.C)
        for j in range(i)
    ]
    assert true.cdnv == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)
    distances = torch.stack([((x.double() - mean) ** 2).sum(1) for mean in means], dim=1)
    assert torch.equal(true.nearest, distances.argmin(1))
    assert true.clear.all()


def test_a_tie_is_no_error() -> None:
    x = torch.tensor([[-1.0], [1.0], [3.0], [5.0], [1.5]])
    y = torch.tensor([0, 0, 1, 1, 1])
    true = truth(x, y, 2)  # means 0 and 9.5 / 3
    middle = true._replace(clear=torch.tensor([True, True, True, True, False]))
    answer = Answer(true.means, None, true.cdnv, true.nearest.clone())
    answer.nearest[4] = 1 - answer.nearest[4]
    assert errors_of(answer, true).wrong == pytest.approx(0.2)
    assert errors_of(answer, middle) == Errors(0.0, 0.0)
    assert errors_of(answer._replace(cdnv=float("nan")), true).cdnv == float("inf")


def test_the_labels_of_the_data_are_neither_trivial_nor_hopeless() -> None:
    x, y = timing.sample(Shape(4000, 64, 10))
    assert 0.9 < float(ours(x, y, 10).nearest.eq(y).double().mean()) < 1
    again, _ = timing.sample(Shape(4000, 64, 10))
    assert torch.equal(x, again)


def test_the_labels_of_a_sample_are_of_the_kind_asked_for() -> None:
    counts = {
        kind: torch.bincount(timing.sample(Shape(1000, 2, 10), labels=kind)[1], minlength=10)
        for kind in ("uniform", "zipf", "one")
    }
    assert counts["uniform"].tolist() == [100] * 10
    assert counts["zipf"][0] > 3 * counts["zipf"][9] > 0
    assert counts["one"].tolist() == [1000] + [0] * 9


# --- what is not tried ------------------------------------------------------------------------------------------------


def test_too_much_memory_or_time_is_refused_with_the_estimate() -> None:
    ways = {way.name: way for way in CONTENDERS}
    assert all(not way.refusal(TINY) for way in CONTENDERS if not way.package)
    one_hot = ways["torch one-hot"].refusal(Shape(1_000_000, 64, 1000))
    assert one_hot == "not tried: about 11.7 GiB of temporaries, limit 4 GiB"
    assert ways["ours"].refusal(Shape(10**6, 10**4, 100)) == "not tried: about 200 s a call, limit 60 s"
    assert replace(OURS, package="no_such_package").refusal(TINY) == "no_such_package is not installed"


def test_every_way_is_tried_at_every_shape_that_has_a_goal() -> None:
    assert not [(way.name, shape) for way in CONTENDERS for shape in GOALS if "not tried" in way.refusal(shape)]


def test_a_refused_way_stands_in_the_table_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(OURS, name="absent", package="no_such_package")
    monkeypatch.setattr(memory, "extra_bytes", lambda *_, **__: 1_500_000)
    settings = Settings(rounds=1, n_threads=1, shapes=(TINY,), ways=(OURS, absent))
    (table,) = sections.run(["kernels"], settings)
    printed = render.text(table)
    assert re.search(r"^absent \[1\]( +—){8}$", printed, flags=re.MULTILINE)
    assert "[1] no_such_package is not installed" in printed
    assert re.search(r"^ours .* 1\.00 +1\.5 ", printed, flags=re.MULTILINE)


def test_a_child_that_dies_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise ChildProcessError("ended with exit code -9")

    monkeypatch.setattr(memory, "extra_bytes", die)
    row = comparison.accuracy_and_memory(OURS, TINY, n_threads=1)
    assert row.extra_bytes is None
    assert row.notes == ("ended with exit code -9",)


# --- the floor and the times ------------------------------------------------------------------------------------------


def test_the_floor_is_two_reads_or_a_read_and_the_product() -> None:
    assert Floor(read=0.5, flops=1e9, rate=1e10).seconds == 1.0
    arithmetic = Floor(read=0.5, flops=2e10, rate=1e10)
    assert arithmetic.product == 2.0
    assert arithmetic.seconds == 2.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_probe_counts_the_product_of_rows_and_means_in_the_dtype_it_is_scored_in(dtype: torch.dtype) -> None:
    x, _ = timing.sample(TINY, dtype=dtype)
    probe = timing.FloorProbe(x, TINY.C)
    first, second = probe.floors([0.5, 0.25], [2.0, 1.0])
    assert first.read == 0.5
    assert first.flops == 2 * 240 * 16 * 6
    assert second.rate == 2 * timing.SIDE**3
    assert probe.read() == ops.read(x)
    assert probe.product().dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_calls_take_turns_and_slow_ones_sit_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order, steps = [0.0], [], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def taking(name: str, seconds: float) -> None:
        order.append(name)
        clock[0] += seconds

    calls = {"fast": lambda: taking("fast", 1.0), "slow": lambda: taking("slow", 10.0)}
    times = timing.interleaved(calls, rounds=5, on_step=steps.append)
    assert times == {"fast": [1.0] * 5, "slow": [10.0] * 3}
    turns = ["fast", "fast", "slow", "slow"]  # each called before it is timed
    assert order == ["fast", "slow"] + turns * 3 + ["fast", "fast"] * 2  # the first pair is the warm-up
    assert steps[:3] == ["fast, warm-up", "slow, warm-up", "fast, round 1 of 5"]


def test_short_calls_are_timed_in_bulk_without_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, collecting = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def call() -> None:
        clock[0] += 2.0**-10
        collecting.append(gc.isenabled())

    assert timing.interleaved({"call": call}, rounds=1) == {"call": [2.0**-10]}
    assert collecting == [True] * 4 + [False] * 22  # one, and the 21 that take the 20 ms of a sample
    assert gc.isenabled()


def test_ratios_are_taken_within_a_round() -> None:
    assert timing.median_ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0, 99.0]) == 3.0


def test_threads_are_set_and_put_back() -> None:
    before = torch.get_num_threads()
    with timing.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


# --- memory -----------------------------------------------------------------------------------------------------------


@linux
def test_the_probe_sees_what_is_allocated_and_not_much_more() -> None:
    size, slack = 64 << 20, 1 << 20  # of the counters, see `peak_above`
    peak = memory.peak_above(lambda: torch.ones(size // 4))
    assert peak is not None
    assert size - slack < peak < size + 2 * slack
    nothing = memory.peak_above(lambda: None)
    assert nothing is not None
    assert nothing < slack


@linux
def test_a_way_is_measured_in_a_process_of_its_own() -> None:
    shape = Shape(40_000, 100, 4)  # 16 MB
    extra = memory.extra_bytes(residuals, shape, n_threads=1)
    assert extra is not None
    assert 15_000_000 < extra < 18_000_000


def residuals(x: torch.Tensor, _y: torch.Tensor, _n_classes: int) -> torch.Tensor:
    return x - 1


def test_a_process_that_ends_early_is_named() -> None:
    with pytest.raises(ChildProcessError, match="exit code 3"):
        memory.in_fresh_process(sys.exit, 3)


# --- sections, targets and text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape"), [("200kx512x10", Shape(200_000, 512, 10)), ("1Mx64x2", Shape(1_000_000, 64, 2))]
)
def test_a_shape_is_read_and_written(text: str, shape: Shape) -> None:
    assert parse_shape(text) == shape
    assert str(Shape(200_000, 512, 10)) == "n=200k d=512 C=10"
    assert str(Shape(2500, 25_600, 1000)) == "n=2.5k d=25600 C=1k"
    assert str(Shape(128, 1234, 1001)) == "n=128 d=1234 C=1001"


def test_ways_are_those_asked_for_and_ours() -> None:
    assert [way.name for way in sections.parse_ways("faiss, torch cdist")] == ["ours", "torch cdist", "faiss"]
    with pytest.raises(ValueError, match=r"--ways: expected some of ours, .*, got 'jax'"):
        sections.parse_ways("faiss,jax")
    mine = TableRow(name="ours", over_floor=1.1, over_ours=1.0, extra_bytes=1)
    targets = comparison.kernel_targets(Shape(200_000, 512, 10), [mine], 2)
    assert [target.met for target in targets] == [True, None, None, True]


def test_targets_take_the_named_idiom_the_fastest_package_and_the_bound_of_memory() -> None:
    shape = Shape(200_000, 512, 10)
    ratios = {"torch cdist": 3.0, "torch index_add": 8.0, "numpy by class": 1.0, "faiss": 15.5, "kowalski": 40.0}
    others = [TableRow(name=way.name, over_ours=ratios.get(way.name)) for way in CONTENDERS[1:]]
    mine = TableRow(name="ours", over_floor=1.1, over_ours=1.0, extra_bytes=comparison.memory_bound(shape, 2) // 2)
    floors, idiom, package, memory = comparison.kernel_targets(shape, [mine, *others], 2)
    assert (floors.value, floors.bound, floors.met) == (1.1, 1.2, True)
    assert (idiom.value, idiom.bound, idiom.met) == (8.0, 9, False)
    assert (package.value, package.bound, package.met) == (15.5, 15, True)
    assert memory.value == pytest.approx(0.5)
    assert memory.met
    (memory,) = comparison.kernel_targets(TINY, [replace(mine, extra_bytes=None), *others], 2)
    assert memory.met is None


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


@pytest.mark.parametrize("section", [name for name in SECTIONS if name != "kernels"])
def test_a_section_gives_tables_with_times_and_ratios(
    section: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Settings, "sized", lambda _, shape: Shape(2 * min(shape.C, 100), 8, min(shape.C, 100)))
    monkeypatch.setattr(tables, "QUICK", 1000)
    monkeypatch.setattr(timing, "SIDE", 8)
    monkeypatch.setattr(timing, "_SAMPLE_SECONDS", 1e-6)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # of all that the tests hold, for every table
    monkeypatch.setattr(memory, "extra_bytes", lambda *_, **__: None)
    monkeypatch.delenv("NCHARNESS_DATA", raising=False)
    made = list(sections.run([section], Settings(rounds=1, n_threads=torch.get_num_threads(), quick=True)))
    assert made
    for table in made:
        assert table.section == section
        assert all(row.seconds and row.over_floor for row in table.rows)
        assert not table.targets
        assert render.text(table)
    assert capsys.readouterr().out == ""


# --- the command ------------------------------------------------------------------------------------------------------


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


def test_json_knows_no_infinity() -> None:
    row = render.plain(TableRow(name="a", offset_errors=Errors(0.5, float("inf"))))
    assert row["offset_errors"] == {"wrong": 0.5, "cdnv": "inf"}
    assert row["errors"] is None


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
