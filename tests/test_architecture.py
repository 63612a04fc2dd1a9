"""Imports point one way: from a room to itself or to a room below it, read off the source."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("kernels", "metrics", "training", "studies", "bench", "store", "verdicts", "report", "cli")
"""The rooms of `ncharness/`, each of which imports only itself and those before it."""
FRONT = ("ncharness", "ncharness.__main__")
"""The public names and the program: they import any room, and no room imports them."""
ONLY = {
    "ncharness.kernels._core": {"ncharness.kernels.cpu", "ncharness.kernels.cuda"},
    "ncharness.kernels.reference": {"ncharness.kernels.cuda", "ncharness.kernels.ops"},
    "ncharness.kernels.cpu": {"ncharness.kernels.cuda", "ncharness.kernels.ops"},
    "ncharness.kernels.cuda": {"ncharness.kernels.ops"},
}
"""Modules that few others may import: what chooses between kernels is `ops`, and nothing else names them."""
ALONE = {"ncharness.bench": {"bench", "cli"}}
"""Rooms that nothing builds on but the command line."""
LOADERS = {"ncharness.studies.study", "ncharness.store.executors", "ncharness.bench.timing"}
"""Modules that import by a computed name: experiments of their own room, and optional packages."""


def modules(root: Path) -> dict[str, Path]:
    """The modules of the package by dotted name; a package has the name of its folder."""
    found = {}
    for path in sorted((root / "ncharness").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: set[str]) -> Iterator[tuple[str, str]]:
    """Module and name of everything that a file imports from the project, wherever in it.

    `from a import b` is the module a.b without a name where there is one, and b of the module a otherwise.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import, which this test does not follow"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, "") if inner in known else (node.module, alias.name)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, or none."""
    done: set[str] = set()

    def search(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if found := search(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := search(module, []))), [])


def faults_of_package(root: Path) -> list[str]:
    """Whatever breaks the order of the rooms below `root`, a sentence each."""
    known, faults, graph = modules(root), [], dict[str, set[str]]()
    extension = {"ncharness.kernels._core"}
    for module, path in known.items():
        room = module.split(".")[1] if "." in module else ""
        if module not in FRONT and room not in ROOMS:
            faults.append(f"{module}: in no room that ROOMS names")
            continue
        if module not in FRONT and len(module.split(".")) > 3:
            faults.append(f"{module}: a room within a room")
        names = [
            (other, name) for other, name in imported(path, {*known, *extension}) if other.split(".")[0] == "ncharness"
        ]
        graph[module] = {other for other, _ in names}
        for other, name in names:
            if other not in known and other not in extension:
                faults.append(f"{module}: imports {other}, which there is not")
            if module in FRONT:
                continue
            there = other.split(".")[1] if "." in other else ""
            if there not in ROOMS:
                faults.append(f"{module}: imports the front door {other}")
            elif ROOMS.index(there) > ROOMS.index(room):
                faults.append(f"{module}: imports {other}, which is above it")
            if other in ONLY and module not in ONLY[other]:
                faults.append(f"{module}: imports {other}, which only {', '.join(sorted(ONLY[other]))} may")
            for alone, users in ALONE.items():
                if other.startswith(f"{alone}.") and room not in users:
                    faults.append(f"{module}: imports {other}, on which nothing builds")
            if name.startswith("_") and name != "_core":
                faults.append(f"{module}: imports the private name {name} of {other}")
        text = path.read_text(encoding="utf-8")
        if re.search(r"\bimport_module\(|\b__import__\(", text) and module not in LOADERS:
            faults.append(f"{module}: imports by a computed name")
        if "pytest" in {name.split(".")[0] for name, _ in imported(path, set(known))}:
            faults.append(f"{module}: imports pytest")
    if ring := circle({module: others - {module} for module, others in graph.items() if module not in FRONT}):
        faults.append(f"imports in a ring: {' -> '.join(ring)}")
    return faults


def public(root: Path) -> set[str]:
    """Names that `ncharness.__all__` lists."""
    for node in ast.parse((root / "ncharness" / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return set(ast.literal_eval(node.value))
    raise AssertionError("ncharness/__init__.py has no __all__")


def faults_of_claims(root: Path) -> list[str]:
    """Claim files that import anything of the package but its public names, and plumbing that takes private ones."""
    names, known, faults = public(root), modules(root), []
    for path in sorted((root / "claims").rglob("*.py")):
        plumbing = path.name == "conftest.py"
        for module, name in imported(path, set(known)):
            if module.split(".")[0] != "ncharness":
                continue
            if plumbing and (name or module).rpartition(".")[2].startswith("_"):
                faults.append(f"{path.name}: imports the private name {name} of {module}")
            if not plumbing and (module != "ncharness" or name not in {"", *names}):
                faults.append(f"{path.name}: imports {name or module} of {module}, which is not public")
    return faults


def test_imports_point_down() -> None:
    assert faults_of_package(ROOT) == []


def test_claims_use_public_names() -> None:
    assert len(list((ROOT / "claims").rglob("test_*.py"))) > 100
    assert faults_of_claims(ROOT) == []


def test_studies_know_neither_store_nor_verdicts() -> None:
    assert ROOMS.index("studies") < ROOMS.index("store") < ROOMS.index("verdicts")


def test_tests_of_a_room_are_in_its_folder() -> None:
    """`pytest tests/<room>` runs what there is of a room; what concerns several rooms is at the top."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and list(path.glob("test_*.py"))}
    assert set(ROOMS) <= folders


# --- the guard itself -------------------------------------------------------------------------------------------------

BROKEN = {
    "an import against the order": ("metrics/nc2.py", "from ncharness.store.store import Store", "is above it"),
    "an import against the order, in a function": (
        "kernels/ops.py",
        "def f():\n    from ncharness.metrics import cdnv",
        "is above it",
    ),
    "an unknown room": ("helpers/things.py", "", "in no room"),
    "an unknown module at the top": ("helpers.py", "", "in no room"),
    "a module that there is not": ("metrics/nc2.py", "import ncharness.metrics.nothing", "which there is not"),
    "the front door": ("training/loop.py", "from ncharness import measure", "the front door"),
    "the reference in production": (
        "metrics/nc2.py",
        "from ncharness.kernels.reference import class_stats",
        "only ncharness.kernels.cuda, ncharness.kernels.ops may",
    ),
    "the extension elsewhere": ("metrics/nc2.py", "from ncharness.kernels import _core", "may"),
    "a private name": ("report/page.py", "from ncharness.verdicts.rows import _cell", "the private name _cell"),
    "a ring": (
        "report/terminal.py",
        "def f():\n    from ncharness.report import page\nfrom ncharness.report.page import page",
        "in a ring",
    ),
    "a hidden import": ("training/loop.py", "import importlib\nimportlib.import_module('x')", "by a computed name"),
    "pytest": ("verdicts/judge.py", "import pytest", "imports pytest"),
    "benchmarks as a foundation": ("store/store.py", "from ncharness.bench import timing", "nothing builds"),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("ncharness", "claims"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.so", "__pycache__", "runs"))
    return tmp_path


@pytest.mark.parametrize("fault", BROKEN)
def test_the_guard_finds(fault: str, copy: Path) -> None:
    place, line, complaint = BROKEN[fault]
    path = copy / "ncharness" / place
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    found = faults_of_package(copy)
    assert [sentence for sentence in found if complaint in sentence], found


@pytest.mark.parametrize(
    "line",
    [
        "from ncharness import _package",
        "from ncharness import holm_is_not_public",
        "from ncharness.verdicts.verdict import SUPPORTED",
        "import ncharness.store.store",
        "def f():\n    from ncharness.metrics import nc1",
    ],
)
def test_the_guard_finds_a_claim_that_uses_more_than_public_names(line: str, copy: Path) -> None:
    with (copy / "claims" / "unconstrained" / "test_origin.py").open("a") as file:
        file.write(f"\n{line}\n")
    assert any("test_origin.py" in fault for fault in faults_of_claims(copy))


def test_the_guard_finds_private_names_in_the_plumbing(copy: Path) -> None:
    with (copy / "claims" / "conftest.py").open("a") as file:
        file.write("\nfrom ncharness.verdicts.verdict import _decide\n")
    assert any("_decide" in fault for fault in faults_of_claims(copy))
