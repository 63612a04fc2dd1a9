"""The plumbing of `pytest claims`, with claims of its own on runs that train in a blink."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ncharness import RunConfig, Store
from ncharness.store import executors, files

ROOT = Path(__file__).parents[2]
CLAIM_FILE = """
from ncharness import SUPPORTED, Claim, RunConfig, Setting, grid, not_applicable, superiority

CLAIM = Claim(id="c0-numbers", title="Numbers", statement="A number is large.", source="a test", quantity="a number",
    test="superiority", margin=1.0, alpha=0.05, seeds=range(5), planned=1.0, precondition="none", suite="headline")
BASE = RunConfig(depth=2, width=8, n_train=100, epochs={epochs}, measurements=2)
SETTINGS = {{"small": [Setting(name="digits", eps=0.05, runs=grid(BASE, seed=range(5)))]}}

def judge(runs, eps, numbers=(5, 5, 6, 5, 5), *, shift=0):
    assert [run.config.seed for run in runs] == list(range(5))
    assert all(0 <= run.scalar("error") <= 1 for run in runs)
    assert 0 < eps < 1
    return CLAIM.judge([number + shift for number in numbers])

def test_supported(supported):
    supported(judge)

def test_control_in_order(control):
    control("Smaller numbers.", judge, (1, 1, 1, 1, 1), shift=-1)
"""
OUTCOMES = """
def test_refuted(setting, verdict):
    assert verdict(lambda eps: superiority([0.5, 0.25, 0.5, 0.25, 0.5], margin=1.0)) == SUPPORTED

def test_inconclusive(setting, verdict):
    assert verdict(lambda eps: superiority([0, 3, 0, 3, 2], margin=1.0)) == SUPPORTED

def test_not_applicable(supported):
    supported(judge, unless=lambda runs: "nothing was fitted: error 0.3" if len(runs) == 5 else "")

def test_control_that_is_supported(setting, verdict):
    assert verdict(lambda eps: superiority([5, 5, 5, 5, 5], margin=1.0), control="Broken.") != SUPPORTED
"""

OF_THE_PAPER = """
from ncharness import SUPPORTED, Claim, RunConfig, Setting, grid, superiority, weakest

CLAIM = Claim(id="c1-parts", title="Parts", statement="Two numbers are large.", source="Papyan & Co, NC1",
    quantity="two numbers", test="superiority", margin=1.0, alpha=0.05, seeds=range(5), planned=1.0,
    precondition="none", suite="paper", figure="cdnv-by-layer")
SETTINGS = {"small": [Setting(name="digits", eps=None, runs=()),
    Setting(name="mnist", eps=None, runs=grid(RunConfig(data="mnist", n_train=100), seed=range(5)))]}

def test_supported(setting, verdict):
    seen = []
    def judge(eps):
        seen.append(eps)
        parts = {"one": superiority([5, 5, 6, 5, 5], margin=2.0), "two": superiority([3, 3, 3, 3, 4], margin=1.0)}
        return weakest(parts)
    assert verdict(judge) == SUPPORTED
    assert seen == [None], "without eps, there is nothing to sweep over"

def test_control_refuted(setting, verdict):
    assert verdict(lambda eps: superiority([0, 0, 0, 0, 0], margin=1.0), control="Smaller.") != SUPPORTED
"""


@pytest.fixture(scope="module")
def first_table(trained_store: Path) -> list[dict[str, str]]:
    """The rows of the claims that trained the store."""
    return table_of(trained_store.parent)


@pytest.fixture(scope="module")
def trained_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the runs of CLAIM_FILE are finished."""
    root = tmp_path_factory.mktemp("claims") / "runs"
    folder = write_claims(root.parent, epochs=2)
    result = run_pytest(folder, root, "--jobs", "1")
    assert result.returncode == 0, result.stdout
    (root / "claims.csv").rename(root.parent / "claims.csv")
    return root


def write_claims(folder: Path, *, epochs: int, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "claims" / "conftest.py", folder)
    (folder / "test_numbers.py").write_text(CLAIM_FILE.format(epochs=epochs) + more)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    return folder


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", str(folder), *arguments]


def run_pytest(folder: Path, root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "NCHARNESS_RUNS": str(root), "COLUMNS": "100"}
    return subprocess.run(
        command(folder, *arguments), capture_output=True, text=True, env=environment, cwd=folder, timeout=120
    )


def run_inside(pytester: pytest.Pytester, folder: Path, root: Path, *arguments: str) -> pytest.RunResult:
    """The same in this process, for claims whose runs are finished: a process spends seconds on imports alone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NCHARNESS_RUNS", str(root))
        patched.setenv("COLUMNS", "100")
        return pytester.runpytest_inprocess(
            str(folder), f"--rootdir={folder}", f"-c{folder / 'pytest.ini'}", *arguments
        )


def table_of(root: Path) -> list[dict[str, str]]:
    with (root / "claims.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_table_csv_and_page_at_the_end(trained_store: Path, tmp_path: Path) -> None:
    folder = write_claims(tmp_path / "claims", epochs=2)
    before = {file: file.stat().st_mtime_ns for file in trained_store.rglob("result.json")}
    assert len(before) == 5
    result = run_pytest(folder, trained_store)
    assert result.returncode == 0, result.stdout
    for part in ("claims at scale small", "c0-numbers", "SUPPORTED", "control ok", "claims.csv", "report.html"):
        assert part in result.stdout
    assert "\x1b" not in result.stdout + result.stderr, "no colours and no progress bars in a pipe"
    assert "training" not in result.stdout + result.stderr
    assert all(len(line) <= 100 for line in result.stdout.splitlines() if "c0-numbers" in line)
    supported, control = sorted(table_of(trained_store), key=lambda row: row["control"])
    assert (supported["verdict"], control["verdict"]) == ("SUPPORTED", "REFUTED")
    assert (supported["control"], control["control"]) == ("false", "true")
    assert float(supported["holm_p"]) == float(supported["p"]) == pytest.approx(0.03125)
    assert control["holm_p"] == ""
    assert len(supported["runs"].split(";")) == 5
    assert (supported["power"], supported["precondition"]) == ("1.0", "none")
    assert "c0-numbers" in (trained_store / "report.html").read_text()
    assert before == {file: file.stat().st_mtime_ns for file in trained_store.rglob("result.json")}, "cached runs stay"


def test_outcomes_of_tests_follow_the_verdicts(trained_store: Path, tmp_path: Path, pytester: pytest.Pytester) -> None:
    folder = write_claims(tmp_path / "claims", epochs=2, more=OUTCOMES)
    result = run_inside(pytester, folder, trained_store, "-rA")
    printed = result.stdout.str()
    assert result.ret == 1
    for outcome, test in (
        ("PASSED", "test_supported"),
        ("PASSED", "test_control_in_order"),
        ("FAILED", "test_refuted"),
        ("FAILED", "test_control_that_is_supported"),
    ):
        lines = [line for line in printed.splitlines() if f"test_numbers.py::{test}[c0-numbers-digits]" in line]
        assert any(line.startswith(outcome) for line in lines), test
    assert printed.count("SKIPPED [1]") == 2
    assert "nothing was fitted: error 0.3" in printed
    assert "per seed: 0.5, 0.25, 0.5, 0.25, 0.5" in printed
    assert "1 FAILED" in printed  # in the line of counts below the table
    rows = table_of(trained_store)
    assert sorted(row["verdict"] for row in rows if row["control"] == "false") == [
        "INCONCLUSIVE",
        "NOT APPLICABLE",
        "REFUTED",
        "SUPPORTED",
    ]


@pytest.mark.slow
def test_workers_of_xdist_end_in_the_same_rows(first_table: list[dict[str, str]], tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    result = run_pytest(write_claims(tmp_path / "claims", epochs=2), fresh, "-n", "2")
    assert result.returncode == 0, result.stdout
    assert table_of(fresh) == first_table
    assert result.stdout.count("claims at scale small") == 1


def test_runs_of_the_claims_go_through_an_executor(
    trained_store: Path,
    first_table: list[dict[str, str]],
    tmp_path: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("submitit")
    root, asked = tmp_path / "runs", list[tuple[str, Path]]()

    class Copying:
        """Has every run at hand, as pytest inside pytest had better train nothing."""

        def submit(self, _: object, *arguments: Any) -> "Future[Any]":
            finished = Store(trained_store).path(RunConfig.from_dict(*arguments[2]))
            shutil.copytree(finished, root / finished.name)
            future: Future[Any] = Future()
            future.set_result(("done",))
            return future

    @contextmanager
    def opened(name: str, folder: Path) -> Iterator[Copying]:
        asked.append((name, folder))
        yield Copying()

    monkeypatch.setattr(executors, "opened", opened)
    monkeypatch.setattr("multiprocessing.get_context", lambda _: pytest.fail("a process was about to be started"))
    result = run_inside(pytester, write_claims(tmp_path / "claims", epochs=2), root, "--executor", "slurm:time=5")
    assert result.ret == 0, result.stdout.str()
    assert asked == [("slurm:time=5", root / ".slurm")]
    assert table_of(root) == first_table


def test_a_part_of_the_claims_does_not_overwrite_the_whole(
    trained_store: Path, tmp_path: Path, pytester: pytest.Pytester
) -> None:
    folder, root = write_claims(tmp_path / "claims", epochs=2), tmp_path / "runs"
    shutil.copytree(trained_store, root)
    shutil.copy(trained_store.parent / "claims.csv", root)
    before = (root / "claims.csv").read_bytes()
    result = run_inside(pytester, folder, root, "-k", "control")
    printed = result.stdout.str()
    assert result.ret == 0, printed
    assert (root / "claims.csv").read_bytes() == before
    assert "claims-part.csv" in printed
    assert len((root / "claims-part.csv").read_text().splitlines()) == 2


def test_plan_lists_the_runs_and_trains_nothing(trained_store: Path, tmp_path: Path, pytester: pytest.Pytester) -> None:
    folder = write_claims(tmp_path / "claims", epochs=2)
    root = tmp_path / "runs"
    shutil.copytree(trained_store, root)
    shutil.rmtree(next(path.parent for path in root.rglob("result.json")))
    before = sorted(root.rglob("*"))
    result = run_inside(pytester, folder, root, "--plan")
    printed = result.stdout.str()
    assert result.ret == 0, printed
    assert "5 runs for 2 tests, 4 cached" in printed
    assert "FLOPs of training" in printed
    assert "minutes to train the rest with " in printed
    assert (printed.count(" missing"), printed.count(" done")) == (1, 4)
    assert "trained together" not in printed
    assert sorted(root.rglob("*")) == before


def test_the_plan_says_what_is_trained_together(tmp_path: Path, pytester: pytest.Pytester) -> None:
    folder = write_claims(tmp_path / "claims", epochs=2)
    for options, count, most in ((["--together", "3"], 2, 3), (["--device", "cuda"], 1, 5)):
        printed = run_inside(pytester, folder, tmp_path / "runs", "--plan", *options).stdout.str()
        assert f"in {count} programs: 5 runs are trained together, up to {most} of one shape" in printed


def test_the_plan_says_why_tests_need_no_runs(tmp_path: Path) -> None:
    printed = run_the_claims(tmp_path / "runs", "-k", "bound_flat or bound_nontrivial", "--plan", "--suite", "paper")
    assert "no runs for tests that are skipped: no published setting: p, alpha, eps, m and the numbers" in printed


@pytest.mark.slow
def test_trained_together_they_end_in_the_same_table(first_table: list[dict[str, str]], tmp_path: Path) -> None:
    folder, root = write_claims(tmp_path / "claims", epochs=2), tmp_path / "runs"
    result = run_pytest(folder, root, "--jobs", "1", "--together", "5")
    assert result.returncode == 0, result.stdout
    together = [json.loads(file.read_text())["provenance"]["together"] for file in root.rglob("result.json")]
    assert together == [5] * 5
    assert table_of(root) == first_table


def with_paper(folder: Path) -> Path:
    write_claims(folder, epochs=2)
    (folder / "test_parts.py").write_text(OF_THE_PAPER)
    return folder


NUMBERS = [
    "test_numbers.py::test_control_in_order[c0-numbers-digits]",
    "test_numbers.py::test_supported[c0-numbers-digits]",
]
PARTS = ["test_parts.py::test_control_refuted[c1-parts-digits]", "test_parts.py::test_supported[c1-parts-digits]"]


def test_a_claim_that_there_is_not_is_refused(trained_store: Path, tmp_path: Path, pytester: pytest.Pytester) -> None:
    result = run_inside(pytester, with_paper(tmp_path / "claims"), trained_store, "--claim", "c0,c11")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--claim: there is no claim 'c11'; did you mean c1" in result.stderr.str()


def test_runs_of_other_seeds_than_declared_are_refused(tmp_path: Path, pytester: pytest.Pytester) -> None:
    folder = write_claims(tmp_path / "claims", epochs=2)
    file = folder / "test_numbers.py"
    file.write_text(file.read_text().replace("seed=range(5)", "seed=range(1, 6)"))
    result = run_inside(pytester, folder, tmp_path / "runs")
    assert result.ret != 0
    assert "runs: expected the seeds that c0-numbers declares, got others in 'digits': 0, 5" in result.stdout.str()


def test_a_finished_run_is_read_once_and_no_other(
    trained_store: Path, tmp_path: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, seen = tmp_path / "runs", list[str]()
    shutil.copytree(trained_store, root)
    other = RunConfig(depth=2, width=8, n_train=100, epochs=1, measurements=2)
    Store(root).train(other)
    read = files.read_result
    for module in ("store", "files"):
        monkeypatch.setattr(
            f"ncharness.store.{module}.read_result", lambda file: (seen.append(file.parent.name), read(file))[1]
        )
    result = run_inside(pytester, write_claims(tmp_path / "claims", epochs=2), root)
    assert result.ret == 0, result.stdout.str()
    assert len(seen) == len(set(seen)) == 5
    assert not [name for name in seen if name.endswith(other.key())]


@pytest.mark.parametrize(
    ("arguments", "passed", "left_out"),
    [
        ([], NUMBERS, "suite headline: 4 tests of other claims left out"),
        (["--suite", "headline"], NUMBERS, "suite headline: 4 tests"),
        (["--suite", "paper"], NUMBERS + PARTS, ""),
        (["--suite", "all"], NUMBERS + PARTS, ""),
        (["test_parts.py"], PARTS, ""),
        (["test_parts.py::test_supported[c1-parts-digits]"], PARTS[1:], ""),
        ([".", "test_parts.py"], NUMBERS + PARTS, ""),
        ([".", "-k", "supported"], [*NUMBERS[1:], *PARTS[1:]], ""),
        ([".", "-k", "c1"], PARTS, ""),
        ([".", "-k", "not control"], NUMBERS[1:], "suite headline: 2 tests"),
        ([".", "-k", "papyan"], PARTS, ""),
        ([".", "-k", "papyan", "--suite", "headline"], [], "suite headline: 4 tests"),
        ([".", "--claim", "c0"], NUMBERS, "claims c0: 4 tests"),
        ([".", "--claim", "C1-parts,c0", "-k", "supported"], [*NUMBERS[1:], *PARTS[1:]], ""),
    ],
    ids=[
        "default",
        "headline",
        "paper",
        "all",
        "a file",
        "a test",
        "a folder and a file",
        "a test's name",
        "an id",
        "not a word",
        "an author",
        "an author in a suite",
        "a claim",
        "claims",
    ],
)
def test_a_suite_is_run_and_whatever_is_named(
    arguments: list[str],
    passed: list[str],
    left_out: str,
    trained_store: Path,
    tmp_path: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = with_paper(tmp_path / "claims")
    for name, value in (("NCHARNESS_RUNS", str(trained_store)), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NCHARNESS_DATA", raising=False)
    monkeypatch.chdir(folder)
    named = [a for a in arguments if a == "." or a.startswith("test_")] or ["."]
    options = [a for a in arguments if a not in named]
    result = pytester.runpytest_inprocess(f"--rootdir={folder}", f"-c{folder / 'pytest.ini'}", *named, *options, "-rA")
    printed = result.stdout.str()
    assert result.ret == (0 if passed else pytest.ExitCode.NO_TESTS_COLLECTED), printed
    assert sorted(line.split(" ", 1)[1] for line in printed.splitlines() if line.startswith("PASSED")) == passed
    assert ("left out" in printed) == bool(left_out)
    assert left_out in printed
    if not passed:
        return
    named_suite = arguments[arguments.index("--suite") + 1] if "--suite" in arguments else None
    suite = named_suite or (
        "all" if {"-k", "--claim"} & set(arguments) and "not control" not in arguments else "headline"
    )
    named = [argument for argument in arguments if argument.startswith("test_")]
    which = "what was named" if named and "." not in arguments else f"suite {suite}"
    assert f"claims at scale small, {which}{' and what was named' if named and '.' in arguments else ''} ==" in printed
    one_test = any("::" in argument for argument in arguments)
    assert ("mnist needs --data-root" in printed) == (not one_test and not set(PARTS).isdisjoint(passed))


@pytest.mark.slow
def test_a_suite_is_the_same_through_xdist(trained_store: Path, tmp_path: Path) -> None:
    folder = with_paper(tmp_path / "claims")
    result = run_pytest(folder, trained_store, "-n", "1")
    assert result.returncode == 0, result.stdout
    assert "2 passed" in result.stdout
    result = run_pytest(folder, trained_store, str(folder / "test_parts.py"), "-n", "1")
    assert "4 passed, 2 skipped" in result.stdout, "the folder, and the file that was named besides"


def test_a_row_of_several_parts_and_no_eps(trained_store: Path, tmp_path: Path, pytester: pytest.Pytester) -> None:
    folder, root = with_paper(tmp_path / "claims"), tmp_path / "runs"
    shutil.copytree(trained_store, root)
    result = run_inside(pytester, folder, root, "--suite", "paper")
    assert result.ret == 0, result.stdout.str()
    assert "suite paper" in result.stdout.str()
    (row,) = [row for row in table_of(root) if (row["claim"], row["control"]) == ("c1-parts", "false")]
    assert (row["eps"], row["sweep"], row["figure"]) == ("", "", "cdnv-by-layer")
    assert (row["margin"], row["test"]) == ("2.0", "superiority")
    assert row["reason"].startswith("one: mean difference 5.2 ")
    assert row["reason"].endswith("; two: SUPPORTED")


@pytest.mark.slow
def test_data_that_is_not_there_is_skipped_with_the_reason_and_not_planned(trained_store: Path, tmp_path: Path) -> None:
    """In processes of their own: torchvision, which looks for the files, cannot be imported twice in one."""
    folder = with_paper(tmp_path / "claims")
    empty = tmp_path / "data"
    empty.mkdir()
    arguments = ["--suite", "paper", "--data-root", str(empty)]
    printed = run_pytest(folder, trained_store, *arguments, "-rs").stdout
    assert "SKIPPED [2]" in printed
    assert "MNIST/raw" in printed
    printed = run_pytest(folder, trained_store, *arguments, "--plan").stdout
    assert "5 runs for 6 tests, 5 cached" in printed
    assert "5 runs more wait for data" in printed


def run_the_claims(root: Path, *arguments: str) -> str:
    """Output of `pytest claims` of this checkout without a data root; nothing may be written."""
    environment = {name: value for name, value in os.environ.items() if name != "NCHARNESS_DATA"}
    result = subprocess.run(
        command(ROOT / "claims", "-p", "no:cacheprovider", "--scale", "paper", *arguments),
        capture_output=True,
        text=True,
        env={**environment, "NCHARNESS_RUNS": str(root)},
        cwd=ROOT,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout
    assert not root.exists()
    return result.stdout


def test_the_plan_of_scale_paper_counts_runs_flops_and_hours(tmp_path: Path) -> None:
    """Six depths, five seeds, two schedules, counted here by hand; there are no data and no GPU, and none is needed."""
    printed = run_the_claims(tmp_path / "runs", "-k", "depth_constant", "--plan", "--device", "cuda")
    pixels, H, n, epochs, seeds = 64, 400, 50_000, 500, 2 * 5
    stem = 256 * H * (3 * 4) + pixels * H * (H * 4)
    forward = [2 * (stem + L * pixels * H * (H * 9) + pixels * H * 10) for L in (3, 5, 8, 12, 16, 20)]
    training = 3 * n * epochs * seeds * sum(forward)
    measuring = (2 * n + 10_000) * 14 * seeds * sum(forward)
    hours = (training / 2e14 + measuring / 2.5e13) / 3600
    assert (
        f"60 runs more wait for data, {training:.2e} FLOPs of training and {measuring:.2e} of measuring, "
        f"about {hours:.1f} hours on a GPU, one program after the other: cifar10 needs --data-root"
    ) in printed
    rates = "2.5e+13 FLOP/s in float32, 2.0e+14 FLOP/s in bf16, 1 ms for every step at the least"
    assert f"ASSUMED rates, not measured ones: {rates}" in printed
    assert "trained together" not in printed, "each of them fills it alone"
    assert printed.count("waits for data") == 60
    (line, *_) = [line for line in printed.splitlines() if "conv-L20" in line and "-s1000" in line]
    assert "bf16 2.9e+17 FLOP  waits for data" in line


@pytest.mark.slow
def test_scale_paper_without_its_data_or_a_published_setting_is_skipped_with_the_reason(tmp_path: Path) -> None:
    printed = run_the_claims(tmp_path / "runs", "--suite", "all", "-rs")
    assert " passed" not in printed
    assert " failed" not in printed
    lines = [line for line in printed.splitlines() if line.startswith("SKIPPED [4]")]
    assert len(lines) == 11, "each claim in two schedules, with its control"
    assert all(line.endswith("cifar10 needs --data-root") for line in lines)
    lines = [line for line in printed.splitlines() if "no published setting: p, alpha, eps, m and the numbers" in line]
    assert len(lines) == 2, "C10 and C11"
    assert "the claim declares no setting at scale paper" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "nonsense"], "ERROR: --suite: expected headline or paper or literature or all, got 'nonsense'"),
        (["--scale", "nonsense"], "ERROR: --scale: expected small or paper, got 'nonsense'"),
        (["--device", "gpu"], "ERROR: --device: expected cpu, cuda or cuda:<number>, got 'gpu'"),
        (["--data-root", "no/such/place"], "ERROR: --data-root: there is no directory no/such/place"),
        (["--jobs", "0"], "ERROR: --jobs: expected at least 1, got 0"),
        (["--together", "0"], "ERROR: --together: expected at least 1, got 0"),
        (["--plan", "-n", "2"], "ERROR: --plan: works without -n"),
        (["--executor", "threads"], "ERROR: --executor: expected processes, dask:<host>:<port> or slurm"),
    ],
)
def test_wrong_options_are_one_clear_line(pytester: pytest.Pytester, arguments: list[str], message: str) -> None:
    pytester.makeconftest((ROOT / "claims" / "conftest.py").read_text())
    result = pytester.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    assert line.startswith(message)


@pytest.mark.slow
def test_a_data_set_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    folder = write_claims(tmp_path / "claims", epochs=2)
    file = folder / "test_numbers.py"
    file.write_text(file.read_text().replace("BASE = RunConfig(", "BASE = RunConfig(data='digitss', "))
    result = run_pytest(folder, tmp_path / "runs", "--jobs", "1")
    assert result.returncode == 2
    (line,) = [line for line in result.stdout.splitlines() if "digitss" in line and "Exit" in line]
    assert "did you mean" in line
    assert "Traceback" not in result.stdout


@pytest.mark.slow
def test_killed_interrupted_and_corrupted_it_ends_in_the_same_table(tmp_path: Path) -> None:
    folder, root = write_claims(tmp_path / "claims", epochs=24), tmp_path / "runs"
    environment = {**os.environ, "NCHARNESS_RUNS": str(root)}
    for how in (signal.SIGKILL, signal.SIGINT):
        finished = len(list(root.rglob("result.json")))
        process = subprocess.Popen(
            command(folder, "--jobs", "1"),
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 180
        while len(list(root.rglob("result.json"))) <= finished and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(how)
        output, _ = process.communicate(timeout=180)
        if how == signal.SIGINT:
            assert process.returncode == 2, output
            assert "the same command goes on" in output
    broken = {run.config.key(): run for _, run, _ in Store(root).runs() if run}
    assert len(broken) >= 2
    victim = min(root.rglob("result.json"))
    victim.write_text(victim.read_text()[:-50])
    result = run_pytest(folder, root, "--jobs", "1")
    assert result.returncode == 0, result.stdout
    assert f"{victim} is corrupt" in result.stderr
    assert "training the run again" in result.stderr
    assert [row["verdict"] for row in table_of(root)] == ["SUPPORTED", "REFUTED"]
    runs = [run for _, run, _ in Store(root).runs() if run]
    assert len(runs) == 5
    for run in runs:  # to the last bit, the rows of a training that nothing stopped
        assert run.rows == broken.get(run.config.key(), run).rows
        untouched = Store(tmp_path / "untouched").train(run.config)
        assert untouched is not None
        assert run.rows == untouched.rows
