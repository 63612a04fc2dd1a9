"""What the README says exists, and what exists the README says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ncharness
from ncharness.cli import _parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder, pattern in (("csrc", "*"), ("ncharness", "**/*.py"), ("claims", "*.py"))
    for path in sorted((ROOT / folder).glob(pattern))
    if path.name not in ("__init__.py", "__main__.py")
]


SUBJECTS = sorted({f"{path.parent.relative_to(ROOT).as_posix()}/" for path in ROOT.glob("claims/*/test_*.py")})


@pytest.mark.parametrize("path", [*SOURCES, *SUBJECTS])
def test_every_source_file_and_every_subject_of_claims_is_in_the_table_of_files(path: str) -> None:
    assert f"| `{path}` |" in README


def test_every_file_of_the_table_exists() -> None:
    rows = re.findall(r"^\| `([\w./]+)` \|", README, flags=re.MULTILINE)
    paths = [row for row in rows if "/" in row]
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_library_example_runs_as_printed() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    subprocess.run([sys.executable, "-W", "error", "-c", example], check=True, capture_output=True)


def test_every_command_of_the_table_is_a_command() -> None:
    verbs = set(re.findall(r"`ncharness (\w+)", README))
    known = re.search(r"\{(.*?)\}", _parser().format_usage())
    actions = [action for action in _parser()._actions if action.choices]
    assert known is None
    assert verbs == set(actions[0].choices or ())


def test_every_option_of_the_claims_exists() -> None:
    plumbing = (ROOT / "claims" / "conftest.py").read_text()
    for option in ("--plan", "--jobs", "--data-root", "--download", "--scale", "--suite", "--executor"):
        assert f'"{option}"' in plumbing
        assert option in README


def test_public_names_are_documented() -> None:
    for name in ncharness.__all__:
        assert getattr(ncharness, name).__doc__, name
