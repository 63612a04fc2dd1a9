"""The directives `command-line` and `pytest-options`: the reference of the commands, read from their parsers.

`command-line` lists every command of `ncharness` with its options; `pytest-options` what `pytest claims` adds to
pytest. Nothing of it is written by hand, so it cannot fall behind.
"""

import re

from docutils import nodes
from parsers import Option, claims_options, commands, options, sentence
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class _Listing(SphinxDirective):
    """Text in Markdown that is parsed where the directive stands."""

    def parsed(self, lines: list[str]) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


class CommandLine(_Listing):
    def run(self) -> list[nodes.Node]:
        lines = []
        for name, of in commands().items():
            usage = re.sub(r"\s+", " ", of.format_usage()).removeprefix("usage: ").strip()
            lines += [f"## ncharness {name}", "", _escaped(sentence(name)), "", "```text", usage, "```", ""]
            lines += _definitions(options(of))
        return self.parsed(lines)


class PytestOptions(_Listing):
    def run(self) -> list[nodes.Node]:
        return self.parsed(_definitions(claims_options()))


def _definitions(found: list[Option]) -> list[str]:
    lines = []
    for option in found:
        lines += [f"`{option.names}`", f": {_escaped(option.about)}", ""]
    return lines


def _escaped(text: str) -> str:
    return re.sub(r"([<>*_\[\]|$])", r"\\\1", text)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-line", CommandLine)
    app.add_directive("pytest-options", PytestOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
