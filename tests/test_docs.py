"""What the README says exists, and what exists the README says."""

import re
import subprocess
import sys
from pathlib import Path

import ncharness
from ncharness.cli.main import _parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


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
