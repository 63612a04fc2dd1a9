"""A finished run: its rows, and the questions that reports and claims ask of them."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ncharness.studies.study import Study
from ncharness.training.config import RunConfig
from ncharness.training.rows import Row

Configuration: TypeAlias = RunConfig | Study
"""Configuration of a training, or a study: the store keeps runs of both."""


@dataclass(frozen=True)
class Run:
    """Finished run: its configuration, its rows, and its provenance.

    Attributes:
        config: Configuration of a training, or a study.
        rows: Numbers that were measured.
        provenance: Versions, commit, machine, time and so on.

    Examples:
        >>> import ncharness as nc
        >>> rows = [nc.Row(1, f"block{i:02d}.out", "train", "ncc_error", e) for i, e in ((1, 0.4), (2, 0.1))]
        >>> run = nc.Run(nc.RunConfig(depth=2), (*rows, nc.Row(1, "network", "train", "error", 0.05)))
        >>> run.profile(), run.scalar()
        ([0.4, 0.1], 0.05)
    """

    config: Configuration
    rows: tuple[Row, ...]
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def training(self) -> RunConfig:
        """Configuration of a training; TypeError for a study, which has no depth, width and so on."""
        if isinstance(self.config, Study):
            raise TypeError(f"expected a run of the training loop, got the study {self.config.name()}")
        return self.config

    @property
    def epochs(self) -> list[int]:
        """Measured epochs, ascending."""
        return sorted({row.epoch for row in self.rows})

    @property
    def points(self) -> list[str]:
        """Capture points that were measured, in the order of the rows."""
        return list(dict.fromkeys(row.layer.rpartition(".")[2] for row in self.rows if "." in row.layer))

    def profile(
        self,
        metric: str = "ncc_error",
        *,
        epoch: int | None = None,
        point: str | None = None,
        split: str = "train",
    ) -> list[float]:
        """Return a metric of layers 1 to L.

        Args:
            metric: Name of a metric.
            epoch: Epoch after which it was measured; by default the last.
            point: Capture point; by default the first.
            split: `train`, `test` or `second`.

        Returns:
            A number for each layer.

        Raises:
            KeyError: No such rows.
        """
        wanted_epoch = self.epochs[-1] if epoch is None else epoch
        wanted_point = self.points[0] if point is None else point
        values = [
            row.value
            for row in self.rows
            if row.epoch == wanted_epoch
            and row.metric == metric
            and row.split == split
            and row.layer.endswith(f".{wanted_point}")
        ]
        if not values:
            raise KeyError(
                f"no {metric} of split {split} at point {wanted_point} after epoch {wanted_epoch} "
                f"in {self.config.name()}"
            )
        return values

    def scalar(self, metric: str = "error", *, epoch: int | None = None, split: str = "train") -> float:
        """Return a number of the whole network, such as its training error.

        Args:
            metric: Name of a metric.
            epoch: Epoch after which it was measured; by default the last.
            split: `train`, `test` or `second`.

        Returns:
            The number.

        Raises:
            KeyError: No such row.
        """
        wanted = self.epochs[-1] if epoch is None else epoch
        for row in self.rows:
            if (row.epoch, row.layer, row.split, row.metric) == (wanted, "network", split, metric):
                return row.value
        raise KeyError(f"no {metric} of split {split} after epoch {wanted} in {self.config.name()}")


def configuration_from(values: dict[str, Any]) -> Configuration:
    """Return the configuration or study whose `to_dict` this is."""
    return Study(**values) if "experiment" in values else RunConfig.from_dict(values)
