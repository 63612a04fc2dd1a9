"""Settings of a benchmark, and its results: tables, their rows and targets."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ncharness.bench import timing
from ncharness.bench.contenders import CONTENDERS, Contender, Shape
from ncharness.bench.errors import Errors
from ncharness.bench.timing import Floor

OFFSET = 1e4
"""Number added to all features for the errors under a common offset."""
QUICK = 8
"""Divisor of the number of rows in a quick run, which judges no target."""


class Goal(NamedTuple):
    """Targets of our kernels at a shape: at most so many floors, so many times as fast as IDIOM and as any package."""

    floors: float | None
    torch: float
    package: float | None


GOALS = {
    Shape(200_000, 512, 10): Goal(1.20, 9, 15),
    Shape(200_000, 512, 100): Goal(1.25, 4, 10),
    Shape(50_000, 2048, 1000): Goal(1.25, 1.2, 2),
    Shape(4_000, 25_600, 10): Goal(1.25, 8, None),
    Shape(1_000_000, 64, 10): Goal(1.3, 11, None),
    Shape(128, 512, 10): Goal(None, 4, 10),
}


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """Results of one implementation. A field is None if it was not measured; `notes` give the reason."""

    name: str
    seconds: float | None = None
    over_floor: float | None = None
    over_ours: float | None = None  # ratio to the time of the first row
    extra_bytes: int | None = None
    errors: Errors | None = None
    offset_errors: Errors | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A measured number and its bound, an upper bound unless `at_least`. No value: it could not be measured."""

    quantity: str
    value: float | None
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the value keeps to the bound; None without a value."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True)
class Table:
    """One table of a section, with the targets that it is held against."""

    section: str
    title: str
    caption: str  # the floor, in words and numbers
    rows: tuple[TableRow, ...]
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a benchmark. `shapes` and `ways` apply to the section `kernels`; `ours` is always among the ways."""

    rounds: int = 7
    n_threads: int = 2
    quick: bool = False
    shapes: tuple[Shape, ...] = tuple(GOALS)
    ways: tuple[Contender, ...] = CONTENDERS
    data_root: Path | None = None
    on_step: Callable[[str], None] = lambda _: None

    def sized(self, shape: Shape) -> Shape:
        """Return the shape, with fewer rows in a quick run."""
        return shape._replace(n=min(shape.n, max(shape.n // QUICK, 2 * shape.C, 128))) if self.quick else shape

    def fewer(self, n: int) -> int:
        """Return how many of n samples to take: fewer in a quick run."""
        return max(2, n // QUICK) if self.quick else n

    def on_step_of(self, prefix: str) -> Callable[[str], None]:
        """Return `on_step` with a prefix for its texts."""
        return lambda text: self.on_step(f"{prefix}: {text}")


def with_times(
    row: TableRow, times: Sequence[float], floors: Sequence[Floor], our_times: Sequence[float] = ()
) -> TableRow:
    """Add times and ratios to a row, as medians over rounds. A ratio is taken within a round, then the median."""
    return replace(
        row,
        seconds=statistics.median(times),
        over_floor=timing.median_ratio(times, [floor.seconds for floor in floors]),
        over_ours=timing.median_ratio(times, our_times) if our_times else None,
    )


def rows_against(times: Mapping[str, Sequence[float]], floor: str) -> tuple[TableRow, ...]:
    """Return a row for every call that was timed; the call named `floor` is the floor of all of them."""
    return tuple(
        TableRow(name=name, seconds=statistics.median(mine), over_floor=timing.median_ratio(mine, times[floor]))
        for name, mine in times.items()
    )
