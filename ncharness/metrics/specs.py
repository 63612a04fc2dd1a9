"""Tables of specs: specs by their names, and as Markdown for the documentation."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar


class Named(Protocol):
    """An object with a name, such as a spec."""

    @property
    def name(self) -> str:
        """Name by which the object is asked for."""
        ...


NamedT = TypeVar("NamedT", bound=Named)


def by_name(specs: Iterable[NamedT]) -> dict[str, NamedT]:
    """Return specs by their names, in their order.

    Args:
        specs: Specs, each with a name of its own.

    Returns:
        The specs by name.

    Raises:
        ValueError: Two specs of one name.
    """
    found: dict[str, NamedT] = {}
    for spec in specs:
        if spec.name in found:
            raise ValueError(f"specs: expected a name for each, got {spec.name!r} twice")
        found[spec.name] = spec
    return found


def markdown_grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; bars inside cells are escaped."""
    body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in (head, *lines)]
    return "\n".join([body[0], f"|{'|'.join('---' for _ in head)}|", *body[1:]])
