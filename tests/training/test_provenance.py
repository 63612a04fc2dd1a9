"""Provenance: the commit is that of the source tree, wherever in the package the module lies."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ncharness.training import provenance


def git(*arguments: str, folder: Path) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """The commit that is found where the package lies in `tmp_path`."""
    monkeypatch.setattr(provenance, "_package", lambda: tmp_path / "ncharness")

    def found() -> str:
        provenance._commit.cache_clear()
        return str(provenance.facts()["commit"])

    yield found
    provenance._commit.cache_clear()


def test_the_package_is_the_folder_of_the_rooms() -> None:
    assert provenance._package() == Path(__file__).parents[2] / "ncharness"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_tree_and_says_what_is_changed(tmp_path: Path, commit: Callable[[], str]) -> None:
    (tmp_path / "ncharness").mkdir()
    (tmp_path / "ncharness" / "file").touch()
    assert commit() == ""
    git("init", "-q", folder=tmp_path)
    git("add", "-A", folder=tmp_path)
    git("commit", "-qm", "x", folder=tmp_path)
    short = git("rev-parse", "--short", "HEAD", folder=tmp_path)
    assert commit() == short
    (tmp_path / "ncharness" / "file").write_text("changed")
    assert commit() == f"{short}+"


def test_facts_are_plain_values() -> None:
    assert all(isinstance(value, str | int) for value in provenance.facts().values())
    assert {"version", "commit", "python", "torch", "backend", "threads", "device"} <= set(provenance.facts())
