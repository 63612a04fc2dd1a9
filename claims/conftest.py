"""The plumbing of `pytest claims`: it translates between claims, runs and pytest, and computes nothing itself.

A claim file declares CLAIM and SETTINGS (by scale). Its test takes the fixture `supported`, its control the fixture
`control`; both are called with the claim's judge. A claim that needs more takes `setting`, `runs` and `verdict`. The
runs of all selected claims are known once the tests are collected. They are trained when the first test asks.
"""

import difflib
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ncharness import RunConfig, Store, Verdict
from ncharness.report.page import write_report
from ncharness.report.terminal import print_table
from ncharness.store.executors import NAMES, check, opened
from ncharness.store.messages import Source, TrainingFailedError
from ncharness.store.processes import available_cpus, ensure, missing
from ncharness.store.progress import progress_line
from ncharness.store.run import Configuration, Run
from ncharness.training import devices
from ncharness.training.dataset_specs import needs_root
from ncharness.training.datasets import load
from ncharness.verdicts.claim import SUITES, Check, Claim, Setting
from ncharness.verdicts.judge import judged, judgement, places, with_holm
from ncharness.verdicts.plan import plan
from ncharness.verdicts.rows import ClaimRow, write_csv
from ncharness.verdicts.verdict import INCONCLUSIVE, NOT_APPLICABLE, SUPPORTED

SCALES = ("small", "paper")
LEFT_OUT = pytest.StashKey[int]()
UNAVAILABLE = pytest.StashKey[dict[str, str]]()
STORE = pytest.StashKey[Store]()
ASKED = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("claims")
    group.addoption(
        "--scale", default="small", metavar="{" + ",".join(SCALES) + "}", help="settings to test the claims in"
    )
    group.addoption(
        "--suite",
        metavar="{" + ",".join(SUITES) + "}",
        help="which claims (default: headline; with --claim or -k, those that they select of all suites). A test, file "
        "or folder that is named on the command line always runs",
    )
    group.addoption(
        "--claim",
        metavar="ID,...",
        help="the claims with these ids, such as c2,u8 or c2-depth-constant, of any suite. -k takes a part of an id, a "
        "title or a source: -k papyan",
    )
    group.addoption("--plan", action="store_true", help="list the runs that are needed, train and judge nothing")
    group.addoption(
        "--jobs",
        type=int,
        help="training processes side by side (default: one per processor, one on a GPU); with --executor, runs "
        "submitted at a time (default: all)",
    )
    group.addoption(
        "--together",
        type=int,
        help="most networks of one shape that are trained as one program (default: 1; on a GPU as many as fill it)",
    )
    group.addoption("--executor", default="processes", help=f"who trains: {NAMES} (default: processes)")
    group.addoption(
        "--device", help=f"where to train: {devices.NAMES} (default: cuda at scale paper where there is one, else cpu)"
    )
    group.addoption("--data-root", type=Path, help="torchvision data root (default: $NCHARNESS_DATA)")
    group.addoption("--download", action="store_true", help="allow downloads into the data root")


def pytest_configure(config: pytest.Config) -> None:
    root = config.getoption("--data-root")
    config.stash[ASKED] = asked_for(config)
    for option, allowed in (("--scale", SCALES), ("--suite", (None, *SUITES))):
        if (value := config.getoption(option)) not in allowed:
            words = " or ".join(word for word in allowed if word)
            raise pytest.UsageError(f"{option}: expected {words}, got {value!r}")
    for option in ("--jobs", "--together"):
        if (value := config.getoption(option)) is not None and value < 1:
            raise pytest.UsageError(f"{option}: expected at least 1, got {value}")
    if root is not None and not root.is_dir() and not config.getoption("--download"):
        raise pytest.UsageError(f"--data-root: there is no directory {root}; name another, or add --download")
    try:
        config.stash[STORE] = Store()
        kind, _ = check(config.getoption("--executor"))
        devices.check(device(config), here=kind == "processes" and not config.getoption("--plan"))
    except (NotADirectoryError, ValueError, ModuleNotFoundError) as error:
        raise pytest.UsageError(str(error)) from None
    if config.getoption("--plan") and config.getoption("numprocesses", default=None):
        raise pytest.UsageError("--plan: works without -n")
    config.pluginmanager.register(Summary(config), "claims-summary")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for every setting; its id begins with that of the claim."""
    if "setting" in metafunc.fixturenames:
        scale, claim = metafunc.config.getoption("--scale"), metafunc.module.CLAIM
        settings = metafunc.module.SETTINGS.get(scale, f"the claim declares no setting at scale {scale}")
        if isinstance(settings, str):  # why there is none
            metafunc.parametrize(
                "setting", [pytest.param(None, id=f"{claim.id}-{scale}", marks=pytest.mark.skip(reason=settings))]
            )
            return
        cases = []
        for setting in settings:
            claim.check_seeds(setting)
            used = data_sets((*setting.runs, *setting.control_runs))
            reasons = [why for data in used if (why := unavailable(data, metafunc.config))]
            marks = [pytest.mark.skip(reason=reasons[0])] if reasons else []
            cases.append(pytest.param(setting, id=f"{claim.id}-{setting}", marks=marks))
        metafunc.parametrize("setting", cases)


def data_sets(configs: Sequence[Configuration]) -> list[str]:
    """The data sets among those of the runs that need a root."""
    return sorted({config.data for config in configs if isinstance(config, RunConfig) and needs_root(config.data)})


def unavailable(data: str, config: pytest.Config) -> str:
    """Why a data set that needs a root cannot be read with these options, or an empty string."""
    root, download = config.getoption("--data-root"), config.getoption("--download")
    if not (root or os.environ.get("NCHARNESS_DATA")):
        return f"{data} needs --data-root"
    known = config.stash.setdefault(UNAVAILABLE, {})
    if data not in known:
        try:
            load(data, n_train=1, root=root, download=download)
            known[data] = ""
        except (FileNotFoundError, ModuleNotFoundError) as error:
            known[data] = str(error)
    return known[data]


def paths(config: pytest.Config) -> list[Path]:
    """Files and folders that the command line asks for."""
    return [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]


def is_named(path: Path) -> bool:
    """Whether a path asks for some of the claims, of any suite, and not for the suite in all of them."""
    return path.is_file() or Path(__file__).parent in path.parents


def claim_of(item: pytest.Item) -> Claim | None:
    """The claim that a test belongs to, if it is one of a claim."""
    return getattr(getattr(item, "module", None), "CLAIM", None)


def pytest_itemcollected(item: pytest.Item) -> None:
    """-k selects by the words of a claim's id, title and source, besides the names of files and tests."""
    if (claim := claim_of(item)) is not None:
        item.extra_keyword_matches.update(re.findall(r"[\w.:-]+", f"{claim.id} {claim.title} {claim.source}"))


def suite(config: pytest.Config) -> str:
    """The suite that is asked for; all claims where some are selected by their words and no suite is named.

    An expression of -k that only leaves out, such as `not digits`, selects none.
    """
    keyword = config.getoption("keyword")
    selected = config.getoption("--claim") or (keyword and not keyword.strip().startswith("not "))
    return str(config.getoption("--suite") or ("all" if selected else "headline"))


def asked_for(config: pytest.Config) -> set[str]:
    """The ids of the claims that --claim names, read off the claim files; UsageError for a name without a claim."""
    if not config.getoption("--claim"):
        return set()
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py")]
    ids = {found for text in texts for found in re.findall(r"""\bid=["']([\w.-]+)["']""", text)}
    found: set[str] = set()
    for name in config.getoption("--claim").lower().split(","):
        matches = {one for one in ids if name in (one, one.partition("-")[0])}
        if not matches:
            known = sorted({*ids, *(one.partition("-")[0] for one in ids)})
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise pytest.UsageError(f"--claim: there is no claim {name!r}{hint}")
        found |= matches
    return found


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the claims of other suites, but none whose test, file or folder was named on the command line."""
    wanted, ids = SUITES[suite(config)], config.stash[ASKED]
    named = {path for path in paths(config) if is_named(path)}

    def stays(item: pytest.Item) -> bool:
        claim = claim_of(item)
        if claim is None:
            return True
        if ids:
            return claim.id in ids
        return claim.suite in wanted or not named.isdisjoint((item.path, *item.path.parents))

    if left_out := [item for item in items if not stays(item)]:
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] = len(left_out)
        items[:] = [item for item in items if stays(item)]


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    if not config.stash.get(LEFT_OUT, 0):
        return None
    which = f"claims {config.getoption('--claim')}" if config.getoption("--claim") else f"suite {suite(config)}"
    return f"{which}: {config.stash[LEFT_OUT]} tests of other claims left out"


def planned(session: pytest.Session) -> list[Configuration]:
    """The runs that the collected tests need, each once; none for those that are skipped for want of data."""
    return needed([item for item in session.items if item.get_closest_marker("skip") is None])


def needed(items: Sequence[pytest.Item]) -> list[Configuration]:
    """The runs of these tests, each once."""
    settings = [item.callspec.params.get("setting") for item in items if hasattr(item, "callspec")]
    used = [setting for setting in settings if isinstance(setting, Setting)]
    configs = [config for setting in used for config in (*setting.runs, *setting.control_runs)]
    return list({config.key(): config for config in configs}.values())


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    if not session.config.getoption("--plan"):
        return None
    config, waiting = session.config, dict[str, list[Configuration]]()
    for item in session.items:
        if (mark := item.get_closest_marker("skip")) is not None:
            waiting.setdefault(mark.kwargs["reason"], []).extend(needed([item]))
    kind, at_once = devices.check(device(config), here=False).type, jobs(config) or 1
    there, store = planned(session), config.stash[STORE]
    elsewhere = {why: missing(store, configs) for why, configs in waiting.items()}
    lines = plan(
        store,
        there,
        tests=len(session.items),
        device=kind,
        at_once=at_once,
        together=config.getoption("--together"),
        waiting=elsewhere,
    )
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line)
    return True


def jobs(config: pytest.Config) -> int | None:
    """How many runs are trained at a time; None: as many as the executor likes."""
    if config.getoption("--jobs") or config.getoption("--executor") != "processes":
        return config.getoption("--jobs")
    if device(config) != "cpu":
        return 1  # which fills it
    return max(1, available_cpus() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def device(config: pytest.Config) -> str:
    """Where runs are trained."""
    return config.getoption("--device") or devices.automatic(config.getoption("--scale"))


@pytest.fixture(scope="session")
def trained(request: pytest.FixtureRequest) -> dict[str, Run]:
    """Every planned run, by key; trained now, side by side, unless the store has it."""
    config, configs = request.config, planned(request.session)
    source = Source(config.getoption("--data-root"), config.getoption("--download"), device(config))
    store, capture = config.stash[STORE], config.pluginmanager.getplugin("capturemanager")
    try:
        with (
            capture.global_and_fixture_disabled() if capture else nullcontext(),
            opened(config.getoption("--executor"), store.root / ".slurm") as executor,
            progress_line(missing(store, configs)) as on_event,
        ):
            return ensure(
                store,
                configs,
                jobs=jobs(config),
                source=source,
                on_event=on_event,
                executor=executor,
                together=config.getoption("--together"),
            )
    except (TrainingFailedError, OSError) as error:
        why = str(error)
    except KeyboardInterrupt as stopped:
        how = str(stopped) or "training stopped; the same command goes on from the last checkpoint of every run"
        raise KeyboardInterrupt(how) from None
    if hasattr(config, "workerinput"):  # from an xdist worker, only a failure carries its words to the controller
        pytest.fail(why, pytrace=False)
    pytest.exit(why, returncode=2)


@pytest.fixture
def runs(trained: dict[str, Run]) -> Callable[[Sequence[Configuration]], list[Run]]:
    """The finished runs of these configurations, in their order."""
    return lambda configs: [trained[config.key()] for config in configs]


@pytest.fixture
def verdict(request: pytest.FixtureRequest, setting: Setting) -> Callable[..., Verdict]:
    """Judges a claim at its own eps and over the sweep, records that for the table, and returns it to be asserted on.

    Where no eps enters, there is nothing to sweep over, and `judge` is called with None.

    A claim that is INCONCLUSIVE or NOT APPLICABLE skips its test with the reason. A control is given a sentence that
    says what it is, and leaves everything to its assertion.
    """
    claim = request.module.CLAIM

    def record(judge: Callable[[float | None], Verdict], *, control: str = "") -> Verdict:
        result, row = judged(claim, setting, judge, scale=request.config.getoption("--scale"), control=control)
        # One JSON string: plain enough for every transport, and it shows in JUnit files as it is.
        request.node.user_properties.append(("ncharness", json.dumps(asdict(row))))
        if not control and result.outcome in (INCONCLUSIVE, NOT_APPLICABLE):
            pytest.skip(str(result))
        return result

    return record


@pytest.fixture
def supported(setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]) -> Check:
    """Judges the claim on the runs of the setting and asserts that it is SUPPORTED.

    Called with the claim's judge, which takes the runs, eps where the setting has one, and further arguments that are
    passed on. `unless` gives a reason for which the runs cannot speak for the claim, or an empty string.
    """

    def check(judge: Callable[..., Verdict], *arguments: Any, **named: Any) -> None:
        __tracebackhide__ = True
        result = verdict(judgement(judge, runs(setting.runs), setting, *arguments, **named))
        assert result == SUPPORTED

    return check


@pytest.fixture
def control(setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]) -> Check:
    """Judges the claim's control and asserts that it is not SUPPORTED.

    Called as `supported`, after a sentence that says what the control is. It takes the control's runs where the setting
    has such, else those of the claim.
    """

    def check(about: str, judge: Callable[..., Verdict], *arguments: Any, **named: Any) -> None:
        __tracebackhide__ = True
        used = runs(setting.control_runs or setting.runs)
        result = verdict(judgement(judge, used, setting, *arguments, **named), control=about)
        assert result != SUPPORTED

    return check


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    if not isinstance(left, Verdict):
        return None
    values = ", ".join(f"{value:.3g}" for value in left.values)
    return [f"{left.outcome} {op} {right}", left.reason, f"per seed: {values}"]


class Summary:
    """Collects the evidence on the controller, whichever process ran the test, and shows it at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.evidence: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.evidence += [str(value) for name, value in report.user_properties if name == "ncharness"]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.evidence:
            return
        store, rows = self.config.stash[STORE], with_holm(ClaimRow(**json.loads(text)) for text in self.evidence)
        finished = store.find(sorted({key for row in rows for key in row.runs}))
        table, page = places(store.root, rows)
        write_csv(rows, table)
        write_report(rows, finished, page)
        named = [is_named(path) for path in paths(self.config)]
        parts = [] if all(named) else [f"suite {suite(self.config)}"]
        which = " and ".join([*parts, "what was named"] if any(named) else parts)
        terminalreporter.section(f"claims at scale {self.config.getoption('--scale')}, {which}")
        print_table(rows, terminalreporter._tw._file)
        terminalreporter.line(f"rows: {table}   page: {page}")
