"""The command `ncharness bench`: its options, and its tables, each printed as soon as it is done."""

import argparse
import dataclasses
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn

from ncharness.kernels import ops


def add_bench(verbs: Any) -> None:
    """Add the command to the subparsers `verbs`."""
    bench = verbs.add_parser(
        "bench",
        help="measure the kernels against a floor and other ways",
        description="Times the kernels against the time of reading the matrix, and against what people use today.",
    )
    bench.add_argument(
        "sections",
        nargs="*",
        metavar="section",
        help="kernels (the default), dtypes, gram, scaling, layers, stream, together; all: every one of them",
    )
    bench.add_argument("--shape", help="of kernels, rows x features x classes: 200kx512x10,128x512x10 (six shapes)")
    bench.add_argument("--ways", help="of kernels, to compare ours with: 'torch index_add,faiss' and so on (all ten)")
    bench.add_argument("--quick", action="store_true", help="an eighth of the rows; no target is judged")
    bench.add_argument("--rounds", type=int, default=7, help="times that every way is timed (%(default)s)")
    bench.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of every way (%(default)s)")
    bench.add_argument("--data-root", type=Path, help="Fashion-MNIST for layers ($NCHARNESS_DATA; without: random)")
    bench.add_argument("--json", type=Path, metavar="PATH", help="write every number, machine, versions and command")
    bench.add_argument(
        "--device",
        default="cpu",
        help="cuda: the kernels on that device, against its own reads and products; writes benchmarks/<card>.json "
        "unless --json names another file (%(default)s)",
    )
    bench.set_defaults(command=_bench)


def _bench(options: argparse.Namespace) -> int:
    from ncharness.bench import render, sections, tables  # not needed by the other commands

    if options.device != "cpu":
        return _bench_device(options)
    known, asked = sections.SECTIONS, options.sections or ["kernels"]
    if unknown := [name for name in asked if name not in (*known, "all")]:
        raise ValueError(f"section: expected some of {', '.join(known)}, all, got {unknown[0]!r}")
    chosen = [name for name in known if "all" in asked or name in asked]
    for name in ("rounds", "threads"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name}: expected at least 1, got {getattr(options, name)}")
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise ValueError(f"--json: expected a path in a folder that exists, got {options.json}")
    settings = tables.Settings(
        rounds=options.rounds, n_threads=options.threads, quick=options.quick, data_root=options.data_root
    )
    if options.shape is not None:
        shapes = tuple(map(sections.parse_shape, options.shape.split(",")))
        settings = dataclasses.replace(settings, shapes=shapes)
    if options.ways is not None:
        settings = dataclasses.replace(settings, ways=sections.parse_ways(options.ways))

    about = render.provenance("ncharness " + shlex.join(options.arguments), settings)
    return _show_tables(partial(sections.run, chosen), settings, about, options.json)


def _bench_device(options: argparse.Namespace) -> int:
    from ncharness.bench import cuda, render, tables

    try:
        device = torch.device(options.device)
    except RuntimeError:
        raise ValueError(f"--device: expected cpu or cuda, got {options.device!r}") from None
    for name in ("sections", "shape", "ways", "data_root"):
        if getattr(options, name):
            raise ValueError(f"--device: {name.replace('_root', '-root')} cannot be chosen on a device")
    if device.type != "cuda" or not torch.cuda.is_available():
        why = "torch finds no CUDA device" if device.type == "cuda" else f"got {options.device!r}"
        raise ValueError(f"--device: expected cpu or cuda, and {why}")
    if ops.backend(device).name != "cuda":
        raise ValueError(f"--device: {ops.backend(device).reason}")
    settings = tables.Settings(rounds=options.rounds, quick=options.quick)
    about = render.provenance("ncharness " + shlex.join(options.arguments), settings)
    about["machine"] |= cuda.card(device)
    path = options.json or Path("benchmarks") / f"{re.sub(r'[^a-z0-9]+', '-', about['machine']['card'].lower())}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    code = _show_tables(partial(cuda.run, device=device), settings, about, path)
    print(f"numbers: {path}")
    return code


def _show_tables(run: Callable[[Any], Iterator[Any]], settings: Any, about: dict[str, Any], path: Path | None) -> int:
    """Print each table as soon as it is done, then the targets. Write all of them to `path`, also after Ctrl-C."""
    from ncharness.bench import render

    console = Console()
    width = console.width if console.is_terminal else render.WIDTH
    colour = console.is_terminal and not console.no_color
    print(render.header(about))
    tables = []
    try:
        with _status_line() as on_step:
            for table in run(dataclasses.replace(settings, on_step=on_step)):
                tables.append(table)
                on_step("")
                print(render.text(table, width=width, colour=colour), flush=True)
        code = 0
    except KeyboardInterrupt:
        print("ncharness: stopped; what was done so far is above", file=sys.stderr)
        code = 130
    if any(table.section == "kernels" for table in tables):
        print(render.legend())
    if targets := [target for table in tables for target in table.targets]:
        print(render.targets_text(targets, width=width, colour=colour))
    if path is not None:
        render.write_json(tables, about, path)
    return code


@contextmanager
def _status_line() -> Iterator[Callable[[str], None]]:
    """Show the current step on a terminal, nothing in a pipe.

    No thread redraws the line, because that would disturb the timing.
    """
    console = Console(stderr=True)
    columns = TextColumn("{task.description}")
    silent = not console.is_terminal
    with Progress(
        columns, console=console, disable=silent, transient=True, auto_refresh=False, redirect_stdout=False
    ) as progress:
        task = progress.add_task("")
        yield lambda text: progress.update(task, description=escape(text), refresh=True)
