"""Public docstrings: every public name has one, in one form, and every example in the package runs."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ncharness

FORBIDDEN = ("what", "that", "those", "of", "as")
"""Words that no docstring begins with: a docstring names its subject."""
CONSTANTS = {name for name in ncharness.__all__ if name.isupper()}
"""Values and outcomes, which have no docstring of their own; a string below the assignment documents them."""
NO_EXAMPLE = {
    "Check": "a type, used in claim files",
    "comparative_bound": "its runs take minutes; docs/results/bound.md shows what it gives",
}
MODULES = sorted(module.name for module in pkgutil.walk_packages(ncharness.__path__, "ncharness."))


def documented() -> Iterator[tuple[str, Any]]:
    """Public names, and public methods and properties of public classes, by dotted name."""
    for name in ncharness.__all__:
        if name in CONSTANTS:
            continue
        found = getattr(ncharness, name)
        yield name, found
        if inspect.isclass(found):
            for member, value in vars(found).items():
                if not member.startswith("_") and (
                    inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
                ):
                    yield f"{name}.{member}", value


NAMES = dict(documented())


def text_of(name: str) -> str:
    found = NAMES[name]
    return inspect.cleandoc((found.__func__ if isinstance(found, classmethod | staticmethod) else found).__doc__ or "")


def sections(text: str) -> dict[str, str]:
    """The parts of a docstring by their headings."""
    parts = re.split(r"^(Args|Attributes|Returns|Yields|Raises|Warns|References|Examples):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_is_a_sentence_or_a_term(name: str) -> None:
    first = text_of(name).split("\n")[0]
    assert first, "no docstring"
    assert first.endswith((".", ":")) or ";" in first, first
    assert first.split()[0].lower() not in FORBIDDEN, first
    assert len(first) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_results_are_described(name: str) -> None:
    found, parts = NAMES[name], sections(text_of(name))
    if isinstance(found, property):
        return
    if inspect.isclass(found):
        of_dataclass = dataclasses.fields(found) if dataclasses.is_dataclass(found) else ()
        fields = [field.name for field in of_dataclass] or getattr(found, "_fields", ())
        described = parts.get("Attributes", "") + parts.get("Args", "")
        assert not [field for field in fields if not re.search(rf"^    {field}: ", described, re.MULTILINE)]
        return
    function = found.__func__ if isinstance(found, classmethod | staticmethod) else found
    signature = inspect.signature(function)
    wanted = [parameter for parameter in signature.parameters if parameter not in ("self", "cls")]
    args = parts.get("Args", "")
    assert not [one for one in wanted if not re.search(rf"^    \*{{0,2}}{one}: ", args, re.MULTILINE)], args
    if signature.return_annotation not in (None, "None", inspect.Signature.empty):
        assert "Returns" in parts or "Yields" in parts or "Raises" in parts


@pytest.mark.parametrize("name", [name for name in NAMES if "." not in name and name not in NO_EXAMPLE])
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>> " in sections(text_of(name)).get("Examples", "")


def examples() -> list[Any]:
    """Every example of the package, a test each."""
    finder, found = doctest.DocTestFinder(exclude_empty=True), []
    for name in MODULES:
        if name.endswith("._core") or name == "ncharness.__main__":
            continue
        module: ModuleType = importlib.import_module(name)
        found += [pytest.param(one, id=one.name) for one in finder.find(module) if one.examples]
    return found


@pytest.mark.parametrize("example", examples())
def test_examples_run(example: doctest.DocTest) -> None:
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, clear_globs=False)
    assert results.failed == 0
    assert results.attempted > 0


def test_no_docstring_of_the_project_begins_without_its_subject() -> None:
    root, found = Path(__file__).parents[1], []
    for folder in ("ncharness", "claims", "tests", "docs"):
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Expr)
                    and isinstance(node.value, ast.Constant)
                    and isinstance(text := node.value.value, str)
                    and [*text.split(), ""][0].lower() in FORBIDDEN
                ):
                    found.append(f"{path.relative_to(root)}:{node.lineno}: {text.split(chr(10))[0]}")
    assert found == []
