"""Rows: the tidy numbers that a run or a study yields."""

from collections.abc import Iterable
from typing import Any, NamedTuple, SupportsFloat


class Row(NamedTuple):
    """One measured number. `layer` is `block03.out` or `layer1.0.out`, or `network` for the whole of it."""

    epoch: int
    layer: str
    split: str  # train (with its training labels), test, or second (S2, where S1 was trained on)
    metric: str  # ncc_error, cdnv, error, clean_error, mistake <index>, and the metrics that the configuration names
    value: float


def network_rows(epoch: int = 0, split: str = "train", **values: SupportsFloat) -> list[Row]:
    """A row of the whole network for every number, by name."""
    return [Row(epoch, "network", split, metric, float(value)) for metric, value in values.items()]


def rows_from_lists(values: Iterable[Iterable[Any]]) -> tuple[Row, ...]:
    """Rows from their JSON form (lists), with every type checked."""
    rows = []
    for value in values:
        epoch, layer, split, metric, number = value
        rows.append(Row(int(epoch), str(layer), str(split), str(metric), float(number)))
    return tuple(rows)
