"""What a run leaves behind: tidy rows, and the questions that reports and claims ask of them."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ncharness.studies.study import Study
from ncharness.training.config import RunConfig
from ncharness.training.rows import Row

Configuration: TypeAlias = RunConfig | Study
"""What the store keeps a run of."""


@dataclass(frozen=True)
class Run:
    """A finished run: its configuration, its rows, and where and how they came about."""

    config: Configuration
    rows: tuple[Row, ...]
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def training(self) -> RunConfig:
        """The configuration of a training; TypeError for a study, which has no depth, width and so on."""
        if isinstance(self.config, Study):
            raise TypeError(f"expected a run of the training loop, got the study {self.config.name()}")
        return self.config

    @property
    def epochs(self) -> list[int]:
        """The measured epochs, ascending."""
        return sorted({row.epoch for row in self.rows})

    @property
    def points(self) -> list[str]:
        """The capture points that were measured, in the order of the rows."""
        return list(dict.fromkeys(row.layer.rpartition(".")[2] for row in self.rows if "." in row.layer))

    def profile(
        self,
        metric: str = "ncc_error",
        *,
        epoch: int | None = None,
        point: str | None = None,
        split: str = "train",
    ) -> list[float]:
        """`metric` of layers 1..L after `epoch` (None: the last) at a capture point (None: the first)."""
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
        """A number of the whole network, such as its training error, after `epoch` (None: the last)."""
        wanted = self.epochs[-1] if epoch is None else epoch
        for row in self.rows:
            if (row.epoch, row.layer, row.split, row.metric) == (wanted, "network", split, metric):
                return row.value
        raise KeyError(f"no {metric} of split {split} after epoch {wanted} in {self.config.name()}")


def configuration_from(values: dict[str, Any]) -> Configuration:
    """The inverse of `to_dict` of either kind."""
    return Study(**values) if "experiment" in values else RunConfig.from_dict(values)
