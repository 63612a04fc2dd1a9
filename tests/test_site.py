"""The README and the pages of docs/: links resolve, Python blocks run, commands parse, every public name is there."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import ncharness
from ncharness.cli.main import configs_from, main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parsers = _loaded(DOCS / "_ext" / "parsers.py")
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
OF_PYTEST = {"-k", "-m", "-n"}  # its own options that pages use
BLOCK = re.compile(r"^```([^`\n]*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


@cache
def prose(page: Path) -> str:
    """The text of a page without its blocks."""
    return BLOCK.sub("", page.read_text())


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    if "```{command-line}" in page.read_text():
        titles += [f"ncharness {verb}" for verb in parsers.commands()]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every command `ncharness ...` and `pytest ...`, in blocks and in sentences."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", "").splitlines()]
    lines += [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    lines += re.findall(r"`((?:ncharness|pytest) [^`]*)`", prose(page))
    for line in lines:
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words and words[0] in ("ncharness", "pytest"):
                yield words


def test_the_readme_is_short() -> None:
    """A person reads it to the end; what is longer has a page."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_no_page_is_left_out() -> None:
    index = (DOCS / "index.md").read_text()
    for page in PAGES[1:]:
        path = page.relative_to(DOCS).with_suffix("").as_posix()
        assert path == "index" or re.search(rf"^{re.escape(path)}$", index, flags=re.MULTILINE), path


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """All blocks of a page in one namespace, in a process and a folder of their own."""
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks(page, "python")))
    done = subprocess.run(
        [sys.executable, "-W", "error", program], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def environment() -> dict[str, str]:
    """One that finds the package that this process has imported, wherever it starts."""
    found = Path(ncharness.__file__).parent.parent
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(found), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=name)
def test_commands_parse(page: Path) -> None:
    of_claims = {option for found in parsers.claims_options() for option in re.findall(r"--[\w-]+", found.names)}
    for words in commands(page):
        if words[0] == "ncharness":
            parses(words[1:])
            continue
        given = {word.partition("=")[0] for word in words[1:] if word.startswith("-")}
        known = OF_PYTEST | of_claims if any(word.startswith("claims") for word in words) else OF_PYTEST
        assert given <= known, shlex.join(words)
        for word in words[1:]:
            if re.match(r"(claims|tests)\b", word):
                assert (ROOT / word.partition("::")[0]).exists(), word


def parses(words: list[str]) -> None:
    if len(words) == 1 and words[0] in parsers.commands():
        return  # the name of a command, in a sentence
    try:
        options = parsers.parser().parse_args(words)
    except SystemExit as stopped:
        if stopped.code:
            pytest.fail(shlex.join(["ncharness", *words]))
        return  # --help and the like
    if words[0] == "train":
        assert configs_from(options)


def test_every_public_name_is_in_the_reference_once() -> None:
    page = (DOCS / "reference" / "api.md").read_text()
    named = re.findall(r"^(?:   ~ncharness\.(\w+)$|- `ncharness\.(\w+)`: )", page, flags=re.MULTILINE)
    named = [one or other for one, other in named]
    assert Counter(named) == Counter(ncharness.__all__)


def test_public_names_are_documented() -> None:
    for public in ncharness.__all__:
        assert getattr(ncharness, public).__doc__, public


def test_the_options_that_the_reference_shows_are_those_of_the_parsers() -> None:
    page = (DOCS / "reference" / "command-line.md").read_text()
    assert "```{command-line}\n```" in page
    assert "```{pytest-options}\n```" in page
    assert {"train", "ls", "show", "report", "bench", "info"} <= set(parsers.commands())
    for verb, of in parsers.commands().items():
        shown = " ".join(option.names for option in parsers.options(of))
        for action in of._actions:
            for option in action.option_strings:
                assert option in shown or option in ("-h", "--help"), f"{verb} {option}"
    assert {"--suite", "--scale", "--plan"} <= {option.names.split()[0] for option in parsers.claims_options()}


def test_the_readme_names_every_command() -> None:
    assert set(re.findall(r"`ncharness (\w+)", (ROOT / "README.md").read_text())) == set(parsers.commands())


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_places_for_generated_tables_are_closed(page: Path) -> None:
    marks = re.findall(r"<!-- (generated:[\w -]+|/generated) -->", page.read_text())
    assert [mark.startswith("/") for mark in marks] == [False, True] * (len(marks) // 2)


def test_generated_tables_are_those_of_the_results_that_are_checked_in(tmp_path: Path) -> None:
    """`ncharness report --markdown --csv docs/results/claims.csv <page>` changes no page."""
    marked = [page for page in PAGES if "<!-- generated:" in page.read_text()]
    assert {name(page) for page in marked} >= {"README.md", "docs/results/paper.md", "docs/results/literature.md"}
    for page in marked:
        copy = tmp_path / page.name
        copy.write_text(page.read_text())
        assert main(["report", "--markdown", "--csv", str(DOCS / "results" / "claims.csv"), str(copy)]) == 0
        assert copy.read_text() == page.read_text(), f"{name(page)}: fill it again with ncharness report --markdown"


def test_the_tree_on_the_contributing_page_is_that_of_the_package() -> None:
    text = (DOCS / "contributing" / "index.md").read_text()
    tree = text[text.index("```\nncharness/\n") : text.index("```\n\nImports point one way")]
    for room in sorted(path for path in (ROOT / "ncharness").iterdir() if (path / "__init__.py").exists()):
        (line,) = re.findall(rf"^  {room.name}/ +(.*)$", tree, flags=re.MULTILINE)
        modules = {path.stem for path in room.glob("*.py")} - {"__init__"}
        named = set(re.findall(r"\w+", line))
        assert modules <= named if room.name != "studies" else {"study", "fitting"} <= modules, (room, modules - named)
        assert room.name == "studies" or named <= modules, (room, named - modules)
