"""Tables that the command line prints: a line for every run, the layers of one run, and the comparative bound."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ncharness.metrics.effective_depth import EPS_SWEEP, effective_depth
from ncharness.store.run import Run
from ncharness.studies.study import Study
from ncharness.training.rows import Row
from ncharness.verdicts.bound import Bound


def print_runs(entries: Sequence[tuple[Path, Run | None, str]]) -> None:
    """Print a line for every run: errors of the network, and effective depth d at each eps."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("run", overflow="fold")
    table.add_column("key", no_wrap=True)
    for heading in ("train error", "test error", *(f"d {eps:g}" for eps in EPS_SWEEP)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for path, run, detail in entries:
        name, _, key = path.name.rpartition("_")
        if run is None:
            table.add_row(escape(name), key, *["-"] * (2 + len(EPS_SWEEP)), escape(detail))
            continue
        if isinstance(run.config, Study):
            table.add_row(escape(name), key, *["-"] * (2 + len(EPS_SWEEP)), "done")
            continue
        profile = run.profile()
        depths = ["none" if (depth := effective_depth(profile, eps=eps)) is None else str(depth) for eps in EPS_SWEEP]
        errors = [f"{run.scalar('error', split=split):.3f}" for split in ("train", "test")]
        table.add_row(escape(name), key, *errors, *depths, "done")
    _console().print(table)


def print_rows(run: Run) -> None:
    """Print all rows of a study, in the order in which it yields them."""
    table = Table(*Row._fields, box=None, pad_edge=False, header_style="bold")
    for row in run.rows:
        table.add_row(*map(str, row[:-1]), f"{row.value:.6g}")
    Console(highlight=False).print(table)


def print_layers(run: Run, metrics: Sequence[str]) -> None:
    """Print the layers of a training run after its last epoch, and the given metrics of the whole network."""
    console, table = Console(highlight=False), Table(box=None, pad_edge=False, header_style="bold")
    last = {(row.layer, row.split, row.metric): row.value for row in run.rows if row.epoch == run.epochs[-1]}
    measured = {(split, metric) for layer, split, metric in last if layer != "network"}
    columns = {("train", "ncc_error"): "NCC error, train", ("test", "ncc_error"): "NCC error, test"}
    columns |= {("train", "cdnv"): "CDNV, train"}
    wanted = [(split, metric) for metric in metrics for split in ("train", "test")]
    columns |= {(split, metric): f"{metric}, {split}" for split, metric in wanted if (split, metric) in measured}
    for heading in ("layer", *columns.values()):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for layer in dict.fromkeys(row.layer for row in run.rows if row.layer != "network"):
        table.add_row(layer, *(f"{last[layer, split, metric]:.4g}" for split, metric in columns))
    console.print(table)
    of_network = {metric: value for (layer, _, metric), value in last.items() if layer == "network"}
    if network := [f"{name}={of_network[name]:.4g}" for name in metrics if name in of_network]:
        console.print("network: " + ", ".join(network))


def print_bounds(bounds: Sequence[Bound]) -> None:
    """Print a line for every data set, L, p and alpha: the four terms, their sum, and the test error."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in (
        "data",
        "L",
        "p",
        "alpha",
        "first term",
        "-1 layer",
        "(1+a)p",
        "delta1",
        "delta2",
        "value",
        "test error",
    ):
        table.add_column(heading, overflow="fold")
    for bound in bounds:
        total = f"{bound.value:.2f} [{bound.low:.2f}, {bound.high:.2f}]"
        test = bound.test_error
        cells = [
            bound.first,
            f"{bound.first_if_one_less:.2f}",
            f"{bound.penalty.value:.2f}",
            bound.delta1,
            bound.delta2,
        ]
        table.add_row(
            escape(bound.data),
            *(f"{value:g}" for value in (bound.depth, bound.p, bound.alpha)),
            *(escape(str(cell)) for cell in cells),
            escape(total),
            escape(f"{test.value:.3f} [{test.low:.3f}, {test.high:.3f}]"),
        )
    _console().print(table)


def _console() -> Console:
    """Return a console as wide as the terminal, or of 160 columns in a file or a pipe, which has no edge to fold at."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    return console
