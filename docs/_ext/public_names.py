"""Links to the public names, wherever in the package a name is defined.

A signature says `ncharness.<room>.ClassStats` and the page documents `ncharness.ClassStats`. A reference that Sphinx
cannot resolve is tried again by its last part, if that is a public name. Docstrings are plain text about norms, so
their bars are bars and no substitutions of reStructuredText, and a colon in a property's first sentence ends no type.
"""

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import ncharness


def public(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.reference | None:
    """The reference to the public name that `node` means, if it means one."""
    if node.get("refdomain") != "py":
        return None
    name = str(node["reftarget"]).rpartition(".")[2]
    if name not in ncharness.__all__:
        return None
    domain = env.domains["py"]
    found: nodes.reference | None = domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"ncharness.{name}", node, content
    )
    return found


def plain_bars(_app: Sphinx, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Escapes the bars of a docstring outside of literals."""
    for i, line in enumerate(lines):
        parts = line.split("``")
        lines[i] = "``".join(part.replace("|", r"\|") if at % 2 == 0 else part for at, part in enumerate(parts))


def plain_properties(_app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Comes before napoleon, which takes what stands before a colon in the first line for the type."""
    if what == "property":
        lines.insert(0, "\\ ")  # which reStructuredText leaves out


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("missing-reference", public)
    app.connect("autodoc-process-docstring", plain_bars)
    app.connect("autodoc-process-docstring", plain_properties, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
