"""The arrows of the house point one way: who may import whom, read off the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Along a chain, no module reaches one that comes after it, itself or through others.
CHAINS = (
    "arrays reference ops stats centring variability metrics depth bound cli",
    "arrays reference ops stats centring variability metrics probe train store remote parallel progress cli",
    "stats centring geometry metrics probe",
    "stats centring classifier metrics probe",
    "stats centring spectrum metrics probe",
    "stats centring variability named config probe train store remote parallel progress cli",
    "config record data cost remote parallel progress report cli",
    "config record data train together programs remote parallel plan",
    "config record data train files checkpointed store remote parallel plan",
    "augment config train store",
    "devices train store cli",
    "config record models train store remote executors report cli",
    "study record train store remote parallel progress report cli",
    "work remote parallel progress report cli",
    "arrays addresses reference native native_cuda ops stats metrics contenders bench bench_tables bench_sections cli",
)
ABOVE_STORE = {
    "remote",
    "executors",
    "parallel",
    "plan",
    "progress",
    "report",
    "evidence",
    "page",
    "cli",
    "__init__",
    "__main__",
}


def imported(path):
    """The dotted names that a file imports, wherever in it: `from a import b` gives a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import, which this test does not follow"
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


SOURCES = {path.stem: path for path in (ROOT / "ncharness").glob("*.py")}
DIRECT = {
    module: {name.split(".")[1] for name in imported(path) if name.startswith("ncharness.")}
    for module, path in SOURCES.items()
}


def reached(module):
    found, ahead = set(), {module}
    while ahead:
        ahead = {further for name in ahead for further in DIRECT.get(name, ())} - found
        found |= ahead
    return found


@pytest.mark.parametrize("chain", CHAINS)
def test_no_module_reaches_one_that_comes_later(chain):
    order = [module for module in chain.split() if module in SOURCES]
    assert not [
        (module, later) for i, module in enumerate(order) for later in order[i + 1 :] if later in reached(module)
    ]


def test_only_what_is_above_the_store_reaches_it():
    below = SOURCES.keys() - ABOVE_STORE - {"store"}
    assert not [(module, name) for module in below for name in {"store", "report", "cli"} & reached(module)]


def test_studies_know_nothing_of_files_nor_of_verdicts():
    below = {*SOURCES, "studies"} - ABOVE_STORE - {"store", "verdict", "claim"}
    for path in (ROOT / "ncharness" / "studies").glob("*.py"):
        assert {name.split(".")[1] for name in imported(path) if name.startswith("ncharness.")} <= below, path.name


def test_only_native_knows_the_extension_and_the_verdict_knows_nobody():
    assert [module for module in DIRECT if "_core" in DIRECT[module]] == ["native"]
    assert DIRECT["verdict"] == set()


def test_modules_import_each_other_and_not_the_front_door():
    known = SOURCES.keys() | {"_core", "studies"}
    assert not [(module, name) for module, names in DIRECT.items() for name in names - known]


def test_only_claims_and_tests_know_pytest():
    assert not [module for module, path in SOURCES.items() if "pytest" in {n.split(".")[0] for n in imported(path)}]


def test_claims_use_public_names_only():
    claims = list((ROOT / "claims").glob("*.py"))
    assert claims
    assert not [name for path in claims for name in imported(path) if name.startswith("ncharness") and "._" in name]
