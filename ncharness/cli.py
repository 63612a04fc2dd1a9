"""The command line: train, ls, show, report, bench, info."""

import argparse
import dataclasses
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn
from rich.table import Table

from ncharness import ops
from ncharness.config import RunConfig, grid
from ncharness.depth import EPS_SWEEP, effective_depth
from ncharness.executors import NAMES, opened
from ncharness.parallel import available_cpus, ensure, missing
from ncharness.progress import progress_line
from ncharness.provenance import facts
from ncharness.record import Run
from ncharness.report import read_csv, write_report
from ncharness.store import Store
from ncharness.work import Source, TrainingFailedError

_HELP = {
    "arch": "mlp, conv or convres",
    "depth": "L, the counted hidden layers",
    "width": "H, units or channels of each",
    "data": "digits, mnist1d, mnist, fashion_mnist, cifar10, cifar100, svhn, folder:<path>",
    "n_train": "training samples (default: all)",
    "noise": "fraction of corrupted training labels",
    "noise_kind": "exact (that many, all wrong) or reference (the reference code's draw)",
    "schedule": "learning-rate schedule: code, readme or constant",
    "points": "capture points joined by +: paper, pre_bn, out",
    "measurements": "about how many epochs are measured, log-spaced",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 0 on success, 1 where what was asked for is not there, 2 for wrong use, 130 on Ctrl-C."""
    options = _parser().parse_args(arguments)
    options.arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(options.command(options))
    except TrainingFailedError as error:
        print(f"ncharness: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"ncharness: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        how = str(stopped) or "stopped; the same command goes on from the last epoch of every run"
        print(f"ncharness: {how}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ncharness", description="Effective depth and neural collapse.")
    parser.add_argument("--version", action="version", version=f"ncharness {facts()['version']}")
    verbs = parser.add_subparsers(required=True, metavar="command")
    train = verbs.add_parser(
        "train", help="train runs", description="Train runs. Any option takes several values, 4,6,8: every combination."
    )
    for field in dataclasses.fields(RunConfig):
        default = "+".join(RunConfig().points) if field.name == "points" else field.default
        train.add_argument(
            f"--{field.name.replace('_', '-')}", default=str(default), help=f"{_HELP.get(field.name, '')} ({default})"
        )
    train.add_argument("--data-root", type=Path, help="torchvision data root ($NCHARNESS_DATA)")
    train.add_argument("--download", action="store_true", help="allow downloads into it")
    train.add_argument(
        "--jobs",
        type=int,
        help=f"processes side by side ({available_cpus()}); of an executor, runs submitted at a time (all)",
    )
    train.add_argument("--executor", default="processes", help=f"who trains: {NAMES} (%(default)s)")
    train.set_defaults(command=_train)
    verbs.add_parser("ls", help="list the runs of the store").set_defaults(command=_ls)
    show = verbs.add_parser("show", help="one run: configuration, layers, provenance")
    show.add_argument("run", help="the key, or a part of the name")
    show.set_defaults(command=_show)
    report = verbs.add_parser("report", help="write report.html again, from claims.csv and the store")
    report.set_defaults(command=_report)
    _add_bench(verbs)
    verbs.add_parser("info", help="versions, backend and why, store, device").set_defaults(command=_info)
    return parser


def _add_bench(verbs: Any) -> None:
    bench = verbs.add_parser(
        "bench",
        help="measure the kernels against a floor and other ways",
        description="Times the kernels against the time of reading the matrix, and against what people use today.",
    )
    bench.add_argument(
        "sections",
        nargs="*",
        metavar="section",
        help="kernels (the default), dtypes, gram, scaling, layers, stream; all: every one of them",
    )
    bench.add_argument("--shape", help="of kernels, rows x features x classes: 200kx512x10,128x512x10 (six shapes)")
    bench.add_argument("--ways", help="of kernels, to compare ours with: 'torch index_add,faiss' and so on (all ten)")
    bench.add_argument("--quick", action="store_true", help="an eighth of the rows; no target is judged")
    bench.add_argument("--rounds", type=int, default=7, help="times that every way is timed (%(default)s)")
    bench.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of every way (%(default)s)")
    bench.add_argument("--data-root", type=Path, help="Fashion-MNIST for layers ($NCHARNESS_DATA; without: random)")
    bench.add_argument("--json", type=Path, metavar="PATH", help="write every number, machine, versions and command")
    bench.set_defaults(command=_bench)


def configs_from(options: argparse.Namespace) -> list[RunConfig]:
    """The configurations that the options of `train` name: a grid over the options with several values."""
    axes: dict[str, list[Any]] = {}
    for field in dataclasses.fields(RunConfig):
        texts = str(getattr(options, field.name)).split(",")
        axes[field.name] = [_parsed(field.name, field.default, text) for text in texts]
    return grid(RunConfig(), **axes)


def _parsed(name: str, default: Any, text: str) -> Any:
    if name == "points":
        return tuple(text.split("+"))
    if name == "n_train" and text == "None":
        return None
    kind = int if default is None else type(default)
    try:
        return kind(text)
    except ValueError:
        word = "an integer" if kind is int else "a number"
        raise ValueError(f"--{name.replace('_', '-')}: expected {word}, got {text!r}") from None


def _train(options: argparse.Namespace) -> int:
    store, configs = Store(), configs_from(options)
    if options.jobs is not None and options.jobs < 1:
        raise ValueError(f"--jobs: expected at least 1, got {options.jobs}")
    source = Source(options.data_root, options.download)
    with (
        opened(options.executor, store.root / ".slurm") as executor,
        progress_line(missing(store, configs)) as on_event,
    ):
        runs = ensure(store, configs, jobs=options.jobs, source=source, on_event=on_event, executor=executor)
    _print_runs([(store.path(run.config), run, "") for run in runs.values()])
    return 0


def _ls(_: argparse.Namespace) -> int:
    store = Store()
    entries = list(store.runs())
    if not entries:
        print(f"no runs in {store.root}")
        return 0
    _print_runs(entries)
    return 0


def _print_runs(entries: Sequence[tuple[Path, Run | None, str]]) -> None:
    """A line per run: errors of the network, and effective depth d at each eps."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("run", overflow="fold")
    table.add_column("key", no_wrap=True)
    for heading in ("train", "test", *(f"d {eps:g}" for eps in EPS_SWEEP)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for path, run, detail in entries:
        name, _, key = path.name.rpartition("_")
        if run is None:
            table.add_row(escape(name), key, *["-"] * (2 + len(EPS_SWEEP)), escape(detail))
            continue
        profile = run.profile()
        depths = ["none" if (depth := effective_depth(profile, eps=eps)) is None else str(depth) for eps in EPS_SWEEP]
        errors = [f"{run.scalar('error', split=split):.3f}" for split in ("train", "test")]
        table.add_row(escape(name), key, *errors, *depths, "done")
    console = Console()
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no edge to fold at
    console.print(table)


def _show(options: argparse.Namespace) -> int:
    store, console = Store(), Console(highlight=False)
    found = [(path, run, detail) for path, run, detail in store.runs() if options.run in path.name]
    if len(found) != 1:
        names = ", ".join(path.name for path, _, _ in found[:5]) or f"there are {len(list(store.runs()))} runs"
        print(f"ncharness show: {len(found)} runs in {store.root} match {options.run!r} ({names})", file=sys.stderr)
        return 1
    path, run, detail = found[0]
    if run is None:
        print(f"{path}: {detail}")
        return 0
    console.print(str(path))
    for title, values in (("configuration", run.config.to_dict()), ("provenance", run.provenance)):
        console.print(f"{title}: " + ", ".join(f"{name}={value}" for name, value in values.items()), soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("layer", "NCC error, train", "NCC error, test", "CDNV, train"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    last = {(row.layer, row.split, row.metric): row.value for row in run.rows if row.epoch == run.epochs[-1]}
    for layer in dict.fromkeys(row.layer for row in run.rows if row.layer != "network"):
        columns = (("train", "ncc_error"), ("test", "ncc_error"), ("train", "cdnv"))
        table.add_row(layer, *(f"{last[layer, split, metric]:.4g}" for split, metric in columns))
    console.print(table)
    return 0


def _report(_: argparse.Namespace) -> int:
    store = Store()
    if not (store.root / "claims.csv").exists():
        raise ValueError(f"there is no {store.root / 'claims.csv'}; `pytest claims` writes it")
    rows = read_csv(store.root / "claims.csv")
    keys = {key for row in rows for key in row.runs}
    runs = [run for _, run, _ in store.runs() if run is not None and run.config.key() in keys]
    write_report(rows, runs, store.root / "report.html")
    print(store.root / "report.html")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from ncharness import bench_report, bench_sections  # of no use to the other commands

    known, asked = bench_sections.SECTIONS, options.sections or ["kernels"]
    if unknown := [name for name in asked if name not in (*known, "all")]:
        raise ValueError(f"section: expected some of {', '.join(known)}, all, got {unknown[0]!r}")
    sections = [name for name in known if "all" in asked or name in asked]
    for name in ("rounds", "threads"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name}: expected at least 1, got {getattr(options, name)}")
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise ValueError(f"--json: expected a path in a folder that exists, got {options.json}")
    settings = bench_sections.Settings(
        rounds=options.rounds, n_threads=options.threads, quick=options.quick, data_root=options.data_root
    )
    if options.shape is not None:
        shapes = tuple(map(bench_sections.parse_shape, options.shape.split(",")))
        settings = dataclasses.replace(settings, shapes=shapes)
    if options.ways is not None:
        settings = dataclasses.replace(settings, ways=bench_sections.parse_ways(options.ways))

    console = Console()
    width = console.width if console.is_terminal else bench_report.WIDTH
    colour = console.is_terminal and not console.no_color
    about = bench_report.provenance("ncharness " + shlex.join(options.arguments), settings)
    print(bench_report.header(about))
    tables = []
    try:
        with _status_line() as on_step:
            for table in bench_sections.run(sections, dataclasses.replace(settings, on_step=on_step)):
                tables.append(table)
                on_step("")
                print(bench_report.text(table, width=width, colour=colour), flush=True)
        code = 0
    except KeyboardInterrupt:
        print("ncharness: stopped; what was done so far is above", file=sys.stderr)
        code = 130
    if any(table.section == "kernels" for table in tables):
        print(bench_report.legend())
    if targets := [target for table in tables for target in table.targets]:
        print(bench_report.targets_text(targets, width=width, colour=colour))
    if options.json is not None:
        bench_report.write_json(tables, about, options.json)
    return code


@contextmanager
def _status_line() -> Iterator[Callable[[str], None]]:
    """What is being done, on a terminal; nothing in a pipe. No thread redraws it, which would disturb what is timed."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}")
    silent = not console.is_terminal
    with Progress(
        columns, console=console, disable=silent, transient=True, auto_refresh=False, redirect_stdout=False
    ) as progress:
        task = progress.add_task("")
        yield lambda text: progress.update(task, description=escape(text), refresh=True)


def _info(_: argparse.Namespace) -> int:
    backend, device = ops.backend(), "CUDA" if torch.cuda.is_available() else "no CUDA device"
    lines = {
        "ncharness": facts()["version"],
        "commit": facts()["commit"] or "not a source checkout",
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, {device}",
        "kernels": f"{backend.name}: {backend.reason}",
        "CUDA tensors": "served by the torch reference on the device; there are no CUDA kernels yet",
        "store": Store().root.resolve(),
    }
    for name, value in lines.items():
        print(f"{name:13} {value}")
    return 0
