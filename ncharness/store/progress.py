"""Progress display of a training: one line with the remaining time on a terminal, nothing in a pipe."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ncharness.store.estimates import estimated_seconds
from ncharness.store.messages import Event
from ncharness.store.run import Configuration


@contextmanager
def progress_line(
    configs: Sequence[Configuration], *, console: Console | None = None
) -> Iterator[Callable[[Event], None]]:
    """Yield a receiver for the events of `processes.ensure`, given the runs that are not finished.

    Problems, such as a corrupt file, are printed in any case.
    """
    console = console or Console(stderr=True)
    by_key = {config.key(): config for config in configs}
    done: set[str] = set()
    spent = dict.fromkeys(by_key, 0.0)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("starting", total=sum(estimated_seconds(config) for config in by_key.values()))

        def receive(event: Event) -> None:
            if event.kind == "problem":
                console.print(f"note: {escape(event.text)}", soft_wrap=True, highlight=False)
                return
            config = by_key[event.key]
            spent[event.key] = estimated_seconds(config) * event.epoch / config.epochs
            if event.kind == "done":
                done.add(event.key)
            loss = "" if event.loss is None else f" loss {event.loss:.3g}"
            description = (
                f"training {len(done)}/{len(by_key)} runs: {config.name()} epoch {event.epoch}/{config.epochs}{loss}"
            )
            progress.update(task, completed=sum(spent.values()), description=description)

        yield receive
