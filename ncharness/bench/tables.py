"""What a benchmark is asked for and what it answers with: settings, tables, their rows and targets."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ncharness.bench import timing
from ncharness.bench.contenders import CONTENDERS, Contender, Shape
from ncharness.bench.timing import Errors, Floor

OFFSET = 1e4
"""Added to all features, for the errors under a common offset."""
QUICK = 8
"""A quick run takes one row in so many, and judges no target."""


class Goal(NamedTuple):
    """What is asked of ours at a shape: at most so many floors, so many times as fast as IDIOM and as any package."""

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
class Row:
    """One way of doing it. None for what was not measured; `notes` say why."""

    name: str
    seconds: float | None = None
    over_floor: float | None = None
    over_ours: float | None = None  # how many times as long as the first row takes
    extra_bytes: int | None = None
    errors: Errors | None = None
    offset_errors: Errors | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A number and what it should be: at most `bound`, or at least. No value: it could not be measured."""

    quantity: str
    value: float | None
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True)
class Table:
    section: str
    title: str
    caption: str  # what the floor is, in words and numbers
    rows: tuple[Row, ...]
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a benchmark is run. `shapes` and `ways` are those of the section `kernels`, `ours` always among them."""

    rounds: int = 7
    n_threads: int = 2
    quick: bool = False
    shapes: tuple[Shape, ...] = tuple(GOALS)
    ways: tuple[Contender, ...] = CONTENDERS
    data_root: Path | None = None
    on_step: Callable[[str], None] = lambda _: None

    def sized(self, shape: Shape) -> Shape:
        return shape._replace(n=min(shape.n, max(shape.n // QUICK, 2 * shape.C, 128))) if self.quick else shape

    def fewer(self, n: int) -> int:
        """Of n samples, how many a quick run takes."""
        return max(2, n // QUICK) if self.quick else n


def with_times(row: Row, times: Sequence[float], floors: Sequence[Floor], our_times: Sequence[float] = ()) -> Row:
    """Medians over rounds; ratios are taken within rounds first."""
    return replace(
        row,
        seconds=statistics.median(times),
        over_floor=timing.median_ratio(times, [floor.seconds for floor in floors]),
        over_ours=timing.median_ratio(times, our_times) if our_times else None,
    )
