"""The command line: train, ls, show, report, bound, figure1, bench, info."""

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from rich.console import Console

from ncharness.cli.bench import add_bench
from ncharness.cli.tables import print_bounds, print_layers, print_rows, print_runs
from ncharness.kernels import ops
from ncharness.metrics import registry
from ncharness.report.figure1_readings import recipe
from ncharness.report.markdown import filled, selected, verdict_table
from ncharness.report.page import write_report
from ncharness.store.executors import NAMES as EXECUTORS
from ncharness.store.executors import opened
from ncharness.store.messages import Source, TrainingFailedError
from ncharness.store.processes import ensure, missing
from ncharness.store.progress import progress_line
from ncharness.store.store import Store
from ncharness.training import dataset_specs, devices, networks
from ncharness.training.config import RunConfig, grid
from ncharness.training.provenance import facts
from ncharness.verdicts.bound import sweep
from ncharness.verdicts.rows import read_csv, replace_file

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Commands of a parser, to which each is added."""

TABLES: dict[str, Callable[[], str]] = {
    "metrics": registry.markdown_table,
    "aliases": registry.markdown_aliases,
    "data-sets": dataset_specs.markdown_table,
    "architectures": networks.markdown_table,
}
"""Tables of the documentation that are made from specs, by the word of their mark."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 0 on success, 1 where what was asked for is not there, 2 for wrong use, 130 on Ctrl-C."""
    options = build_parser().parse_args(arguments)
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
        how = str(stopped) or "stopped; the same command goes on from the last checkpoint of every run"
        print(f"ncharness: {how}", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="ncharness", description="Effective depth and neural collapse.")
    parser.add_argument("--version", action="version", version=f"ncharness {facts()['version']}")
    verbs = parser.add_subparsers(required=True, metavar="command")
    _add_train(verbs)
    verbs.add_parser("ls", help="list the runs of the store").set_defaults(command=_ls)
    show = verbs.add_parser("show", help="one run: configuration, layers, provenance")
    show.add_argument("run", help="the key, or a part of the name")
    show.set_defaults(command=_show)
    _add_report(verbs)
    _add_bound(verbs)
    _add_figure1(verbs)
    add_bench(verbs)
    verbs.add_parser("info", help="versions, backend and why, store, device").set_defaults(command=_info)
    return parser


def _add_train(verbs: Verbs) -> None:
    train = verbs.add_parser(
        "train",
        help="train runs",
        usage="ncharness train [options]",
        description="Train runs. Any option takes several values, 4,6,8: every combination.",
    )
    for name, of in RunConfig.field_specs().items():
        value = getattr(RunConfig, name)
        default = "+".join(value) if isinstance(value, tuple) else str(value)
        train.add_argument(
            _option(name), default=default, metavar=of.kind.metavar, help=f"{of.help} ({default or 'none'})"
        )
    train.add_argument("--data-root", type=Path, metavar="DIR", help="torchvision data root ($NCHARNESS_DATA)")
    train.add_argument("--download", action="store_true", help="allow downloads into it")
    train.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="processes side by side (one per processor, on a GPU 1); of an executor, runs submitted at a time (all)",
    )
    train.add_argument(
        "--together",
        type=int,
        metavar="N",
        help="most networks of one shape that are trained as one program (1; on a GPU as many as fill it)",
    )
    train.add_argument("--executor", default="processes", metavar="NAME", help=f"who trains: {EXECUTORS} (%(default)s)")
    train.add_argument("--device", default="cpu", metavar="NAME", help=f"where: {devices.NAMES} (%(default)s)")
    train.set_defaults(command=_train)


def _add_report(verbs: Verbs) -> None:
    report = verbs.add_parser(
        "report",
        help="write report.html again, from claims.csv and the store; or tables in Markdown",
        description="Writes report.html again, from claims.csv and the runs of the store. With --markdown it writes "
        "Markdown tables instead: to the standard output, or into the places that the named documents mark with "
        "<!-- generated:claims c2 c3 --> or <!-- generated:WORD -->, and <!-- /generated -->. WORD is "
        f"{', '.join(TABLES)}.",
    )
    report.add_argument("--markdown", action="store_true", help="write Markdown tables instead of the page")
    report.add_argument("--csv", type=Path, help="rows to read with --markdown (claims.csv of the store)")
    report.add_argument("documents", nargs="*", type=Path, help="documents to fill with --markdown")
    report.set_defaults(command=_report)


def _add_bound(verbs: Verbs) -> None:
    bound = verbs.add_parser("bound", help="the comparative bound from the runs on halves, over p and alpha")
    bound.add_argument("--eps", type=float, default=0.05, help="threshold of every depth (%(default)s)")
    bound.add_argument("--alpha", default="0.05,0.1,0.5", help="alphas of the bound (%(default)s)")
    bound.add_argument("--delta1", default="0", help="a number, which is assumed, or estimate (%(default)s)")
    bound.add_argument("--classes", type=int, default=10, help="classes of the data (%(default)s)")
    bound.set_defaults(command=_bound)


def _add_figure1(verbs: Verbs) -> None:
    figure = verbs.add_parser(
        "figure1",
        help="Figure 1 of the paper from the runs of the store, beside the published numbers",
        description="Writes train NCC accuracy per layer over epochs, a panel for each published L, as PNG and SVG, "
        "and a table of layers by L with the published numbers and deviations, labelled with the scale of the runs.",
    )
    figure.add_argument("--data", default="cifar10", help="data set of the runs (%(default)s)")
    figure.add_argument("--width", type=int, help="H of the runs (all)")
    figure.add_argument("--out", type=Path, help="folder to write into (the store)")
    figure.set_defaults(command=_figure1)


def configs_from(options: argparse.Namespace) -> list[RunConfig]:
    """Return the configurations that the options of `train` name: a grid over the options with several values.

    Args:
        options: Parsed options.

    Returns:
        A configuration for every combination, the last option varying fastest.

    Raises:
        ValueError: A value that an option cannot take.
    """
    axes: dict[str, list[Any]] = {}
    for name, of in RunConfig.field_specs().items():
        try:
            axes[name] = [of.kind.parse(text) for text in str(getattr(options, name)).split(",")]
        except ValueError as error:
            raise ValueError(f"{_option(name)}: {error}") from None
    return grid(RunConfig(), **axes)


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _train(options: argparse.Namespace) -> int:
    store, configs = Store(), configs_from(options)
    for name in ("jobs", "together"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise ValueError(f"--{name}: expected at least 1, got {value}")
    devices.check(options.device, here=options.executor == "processes")
    source = Source(options.data_root, options.download, options.device)
    with (
        opened(options.executor, store.root / ".slurm") as executor,
        progress_line(missing(store, configs)) as on_event,
    ):
        runs = ensure(
            store,
            configs,
            jobs=options.jobs,
            source=source,
            on_event=on_event,
            executor=executor,
            together=options.together,
        )
    print_runs([(store.path(run.config), run, "") for run in runs.values()])
    return 0


def _ls(_: argparse.Namespace) -> int:
    store = Store()
    entries = list(store.runs())
    if not entries:
        print(f"no runs in {store.root}")
        return 0
    print_runs(entries)
    return 0


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
    print_layers(run, run.config.metrics) if isinstance(run.config, RunConfig) else print_rows(run)
    return 0


def _report(options: argparse.Namespace) -> int:
    store = Store()
    if options.markdown:
        return _markdown(options.csv or store.root / "claims.csv", options.documents)
    if options.csv or options.documents:
        raise ValueError("report: --csv and documents go with --markdown")
    if not (store.root / "claims.csv").exists():
        raise ValueError(f"there is no {store.root / 'claims.csv'}; `pytest claims` writes it")
    rows = read_csv(store.root / "claims.csv")
    keys = {key for row in rows for key in row.runs}
    runs = [run for _, run, _ in store.runs() if run is not None and run.config.key() in keys]
    write_report(rows, runs, store.root / "report.html")
    print(store.root / "report.html")
    return 0


def _markdown(table: Path, documents: Sequence[Path]) -> int:
    def claims(words: Sequence[str]) -> str:
        return verdict_table(selected(read_csv(table), words))

    if not documents:
        print(claims([]), end="")
        return 0
    tables: dict[str, Callable[[Sequence[str]], str]] = {"claims": claims}
    tables |= {what: partial(_of_specs, table) for what, table in TABLES.items()}
    for document in documents:
        before = document.read_text(encoding="utf-8")
        after = filled(before, tables)
        if after != before:
            replace_file(document, after)
        print(f"{document}: {'written' if after != before else 'unchanged'}")
    return 0


def _of_specs(table: Callable[[], str], _: Sequence[str]) -> str:
    return table()


def _figure1(options: argparse.Namespace) -> int:
    """Three files for every family of CONV runs of the data set: those of one width, length of training and so on."""
    from ncharness.report.figure1 import write  # only a figure needs matplotlib

    store = Store()
    written = write(
        [run for _, run, _ in store.runs() if run is not None],
        options.out or store.root,
        data=options.data,
        width=options.width,
    )
    for path in written:
        print(path)
    if not written:
        asked = f"CONV-L-{options.width or 'H'} on {options.data} with clean labels and a published L"
        how = f"the published ones are those of `{recipe()}`"
        print(f"ncharness figure1: there are no runs of {asked} in {store.root}; {how}", file=sys.stderr)
    return 0 if written else 1


def _bound(options: argparse.Namespace) -> int:
    """A line per data set, L, p and alpha: the four terms, their sum, and the test error beside it."""
    try:
        alphas = [float(text) for text in options.alpha.split(",")]
        delta1 = None if options.delta1 == "estimate" else float(options.delta1)
    except ValueError as error:
        raise ValueError(f"--alpha, --delta1: expected numbers, or estimate for --delta1: {error}") from None
    store = Store()
    runs = [run for _, run, _ in store.runs() if run is not None]
    bounds = sweep(runs, eps=options.eps, alphas=alphas, delta1=delta1, n_classes=options.classes)
    if not bounds:
        print(f"no runs with part first and both in {store.root}")
        return 0
    print_bounds(bounds)
    print(f"eps {options.eps:g}; every value is {bounds[0].direction}; -1 layer: the first term if d_min were one less")
    return 0


def _info(_: argparse.Namespace) -> int:
    backend, device = ops.backend(), "CUDA" if torch.cuda.is_available() else "no CUDA device"
    lines = {
        "ncharness": facts()["version"],
        "commit": facts()["commit"] or "not a source checkout",
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads, {device}",
        "kernels": f"{backend.name}: {backend.reason}",
        "CUDA tensors": ": ".join(ops.backend("cuda")),
        "store": Store().root.resolve(),
    }
    for name, value in lines.items():
        print(f"{name:13} {value}")
    return 0
