"""Rows: the tidy numbers that a run or a study yields."""

from collections.abc import Iterable
from typing import Any, NamedTuple, SupportsFloat


class Row(NamedTuple):
    """One measured number of a run.

    Attributes:
        epoch: Epoch after which it was measured; 0 is the untrained network.
        layer: Layer such as `block03.out` or `layer1.0.out`, or `network` for the whole of it.
        split: `train` (with its training labels), `test`, or `second` (S2, where S1 was trained on).
        metric: `ncc_error`, `cdnv`, `error`, `clean_error`, `mistake <index>`, or a metric that the configuration
            names.
        value: The number.

    Examples:
        >>> import ncharness as nc
        >>> nc.Row(0, "network", "train", "error", 0.9)
        Row(epoch=0, layer='network', split='train', metric='error', value=0.9)
    """

    epoch: int
    layer: str
    split: str  # train (with its training labels), test, or second (S2, where S1 was trained on)
    metric: str  # ncc_error, cdnv, error, clean_error, mistake <index>, and the metrics that the configuration names
    value: float


def network_rows(epoch: int = 0, split: str = "train", **values: SupportsFloat) -> list[Row]:
    """Return a row of the whole network for every number, by name."""
    return [Row(epoch, "network", split, metric, float(value)) for metric, value in values.items()]


def rows_from_lists(values: Iterable[Iterable[Any]]) -> tuple[Row, ...]:
    """Return rows from their JSON form (lists), with every type checked."""
    rows = []
    for value in values:
        epoch, layer, split, metric, number = value
        rows.append(Row(int(epoch), str(layer), str(split), str(metric), float(number)))
    return tuple(rows)
