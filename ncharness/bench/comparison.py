"""The section `kernels`: every contender at every shape, with time, memory and error."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from ncharness.bench import memory, timing
from ncharness.bench.contenders import CONTENDERS, Contender, Shape
from ncharness.bench.errors import error_shape, errors_of, truth
from ncharness.bench.tables import GOALS, OFFSET, Settings, Table, TableRow, Target, with_times

IDIOM = "torch index_add"
"""The torch idiom that the targets were set against; the table shows faster ones, which are less exact or more work."""


def compare_contenders(settings: Settings) -> Iterator[Table]:
    """Yield a table for every shape of the settings, with a row for every contender."""
    for asked in settings.shapes:
        shape = settings.sized(asked)
        on_step = settings.on_step_of(f"kernels {shape}")
        rows = {way.name: refused(way, way.refusal(shape)) for way in settings.ways}
        tried = [way for way in settings.ways if not way.refusal(shape)]
        for way in tried:
            on_step(f"{way.name}, error and memory")
            rows[way.name] = accuracy_and_memory(way, shape, n_threads=settings.n_threads)
        x, y = timing.sample(shape)
        calls = {way.name: partial(way.run, x, y, shape.C) for way in tried}
        times, floors = timing.interleaved_with_floor(x, shape.C, calls, rounds=settings.rounds, on_step=on_step)
        for way in tried:
            rows[way.name] = with_times(rows[way.name], times[way.name], floors, times["ours"])
        done = tuple(rows.values())
        targets = () if settings.quick else kernel_targets(shape, done, settings.n_threads)
        yield Table("kernels", f"{shape}, float32", timing.floor_caption(x, floors), done, targets)


def refused(way: Contender, reason: str) -> TableRow:
    """Return the row of a contender that is not run, with the reason as its note."""
    return TableRow(name=way.name, notes=(reason,))


def accuracy_and_memory(way: Contender, shape: Shape, *, n_threads: int) -> TableRow:
    """Measure error and extra memory of a contender. Errors are taken on fewer rows, see `errors.error_shape`."""
    small, found = error_shape(shape), []
    for offset in (0.0, OFFSET):
        x, y = timing.sample(small, offset=offset)
        found.append(errors_of(way.run(x, y, small.C), truth(x, y, small.C)))
    row = TableRow(name=way.name, errors=found[0], offset_errors=found[1])
    try:
        return replace(row, extra_bytes=memory.extra_bytes(way.run, shape, n_threads=n_threads))
    except ChildProcessError as error:  # for example killed by the system when it was out of memory
        return replace(row, notes=(str(error),))


def memory_bound(shape: Shape, n_threads: int) -> int:
    """Return the bound on extra memory in bytes: the labels, 8 MiB, and four tables of doubles.

    The tables have C d entries for every thread, and C^2 entries.
    """
    return 8 * shape.n + 32 * (n_threads * shape.C * shape.d + shape.C**2) + (8 << 20)


def kernel_targets(shape: Shape, rows: Sequence[TableRow], n_threads: int) -> tuple[Target, ...]:
    """Return the targets of a shape: those of its goal, if it has one, and the bound on extra memory."""
    by_name = {row.name: row for row in rows}
    mine = by_name["ours"]
    goal = GOALS.get(shape)
    targets = []
    if goal is not None:
        if goal.floors is not None:
            targets.append(Target(f"{shape}: time / floor", mine.over_floor, goal.floors))
        targets.append(
            Target(
                f"{shape}: {IDIOM} / ours",
                by_name[IDIOM].over_ours if IDIOM in by_name else None,
                goal.torch,
                at_least=True,
            )
        )
        packages = [by_name[way.name].over_ours for way in CONTENDERS if way.kind == "package" and way.name in by_name]
        best = min((ratio for ratio in packages if ratio is not None), default=None)
        if goal.package is not None:
            targets.append(Target(f"{shape}: fastest package / ours", best, goal.package, at_least=True))
    bound = memory_bound(shape, n_threads)
    extra = None if mine.extra_bytes is None else mine.extra_bytes / bound
    targets.append(Target(f"{shape}: extra memory / (8n + 32(TCd + CC) + 8 MiB)", extra, 1.0))
    return tuple(targets)
