"""What a run is: a frozen configuration, its key, its readable name, and the seeds derived from it."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ncharness.metrics.registry import check_names
from ncharness.training.augment import AUGMENTATIONS
from ncharness.training.torchvision_names import check_classifier

SCHEMA = 2
"""Raised when a change of the code changes the rows that a configuration yields: older runs become stale."""

SCHEDULES: dict[str, tuple[tuple[float, ...], float]] = {
    # What the reference code runs: x0.2 at epochs 60, 100 and 200 of 500; the published figure shows these steps.
    "code": ((60 / 500, 100 / 500, 200 / 500), 0.2),
    # What its README says: x0.1 at epochs 60, 120 and 160 of 500.
    "readme": ((60 / 500, 120 / 500, 160 / 500), 0.1),
    "constant": ((), 1.0),
}
"""Learning-rate schedules by name: (milestones as fractions of the epochs, factor at each)."""


ARCHS = ("mlp", "conv", "convres")
"""The paper's networks (models.py); any other name is that of a classifier of torchvision."""

PARTS = ("all", "first", "both")
"""What of the training samples a run trains on: see `data.load`."""

PRECISIONS = ("float32", "bf16")
"""What training computes in; bf16 is autocast to bfloat16. Measurements are in float32 whatever it is."""

_LATER = ("metrics", "augment", "precision", "compiled")
"""Fields that came after the first release of the schema: a key leaves them out at their defaults."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, completely: equal configurations give equal rows on the same machine.

    The defaults are the optimiser settings of arXiv:2202.09028 (SGD, momentum 0.9, weight decay 5e-4,
    batch 128, learning rate 0.1) on a network and a data set that train in seconds on one CPU core.
    """

    arch: str = "mlp"  # mlp, conv, convres, or a classifier of torchvision such as resnet18 (models.py)
    depth: int = 8  # L, the counted hidden layers; 0 for a classifier of torchvision, whose layers are its own
    width: int = 256  # H; 0 likewise
    data: str = "digits"  # digits, mnist1d, or a torchvision set (data.py)
    n_train: int | None = None  # first n_train training samples; None: all; with halves, m = n_train / 2 in each
    noise: float = 0.0  # fraction of corrupted training labels; with halves, of those of S2
    noise_kind: str = "exact"  # exact: that many labels, all wrong; reference: the reference code's draw
    epochs: int = 150
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "code"  # a name in SCHEDULES
    points: tuple[str, ...] = ("paper",)  # capture points: pre_bn, out, or the paper's for the architecture
    measurements: int = 12  # about how many epochs are measured, log-spaced, 0 and the last among them
    part: str = "all"  # or a half of the comparative bound (bound.py): first, S1; both, S1 and S2 with noise
    split: int = 0  # which random division into S1 and S2, and which noise: the same for every seed
    seed: int = 0
    metrics: tuple[str, ...] = ()  # of every layer, besides NCC error and CDNV (named.NAMES)
    augment: str = "none"  # of the training batches alone: none, crop_flip, code (augment.py)
    precision: str = "float32"  # of training: float32, bf16
    compiled: bool = False  # train through torch.compile

    def __post_init__(self) -> None:
        # JSON has no tuples; a configuration read back must equal the one written.
        object.__setattr__(self, "points", tuple(self.points))
        if isinstance(self.metrics, str):
            raise ValueError(f"metrics: expected several names, got the string {self.metrics!r}")
        object.__setattr__(self, "metrics", tuple(self.metrics))
        check_names(self.metrics)
        if self.arch not in ARCHS:
            self._check_classifier()
        least = {
            "depth": 1,
            "width": 1,
            "epochs": 1,
            "batch_size": 1,
            "measurements": 1,
            "n_train": 1,
            "split": 0,
            "seed": 0,
        }
        for name, lowest in least.items():
            value = getattr(self, name)
            if (name == "n_train" and value is None) or (name in ("depth", "width") and self.arch not in ARCHS):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise ValueError(f"{name}: expected an integer of at least {lowest}, got {value!r}")
        for name in ("noise", "lr", "momentum", "weight_decay"):
            value = float(getattr(self, name))
            object.__setattr__(self, name, value)  # 0 and 0.0 are one configuration with one key
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"{name}: expected a finite number of at least 0, got {value!r}")
        if self.momentum >= 1.0:
            raise ValueError(f"momentum: expected a number in [0, 1), got {self.momentum!r}")
        if self.noise > 1.0:
            raise ValueError(f"noise: expected a fraction in [0, 1], got {self.noise!r}")
        choices = {
            "noise_kind": ("exact", "reference"),
            "schedule": tuple(SCHEDULES),
            "part": PARTS,
            "augment": AUGMENTATIONS,
            "precision": PRECISIONS,
            "compiled": (False, True),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {', '.join(map(str, allowed))}, got {getattr(self, name)!r}")
        object.__setattr__(self, "compiled", bool(self.compiled))  # 1 and True are one configuration with one key
        if not self.points or set(self.points) - {"paper", "pre_bn", "out"}:
            raise ValueError(f"points: expected some of paper, pre_bn, out, got {self.points!r}")
        if self.part == "all" and self.split:
            raise ValueError(f"split: expected 0 where nothing is split (part all), got {self.split!r}")
        if self.part == "first" and self.noise:
            raise ValueError(f"noise: expected 0 for part first, as S1 is clean, got {self.noise!r}")
        if self.part != "all" and self.noise_kind != "exact":
            raise ValueError(f"noise_kind: expected exact for part {self.part}, got {self.noise_kind!r}")

    def _check_classifier(self) -> None:
        """Depth and width become 0, which is what they are for a network with layers of its own."""
        check_classifier(self.arch, argument="arch", instead=f"{', '.join(ARCHS)} or ")
        for name in ("depth", "width"):
            default = type(self).__dataclass_fields__[name].default
            if (value := getattr(self, name)) not in (0, default):
                raise ValueError(f"{name}: expected 0 for {self.arch}, whose layers are its own, got {value!r}")
            object.__setattr__(self, name, 0)
        if "pre_bn" in self.points:
            raise ValueError(f"points: expected paper or out for {self.arch}, which has no other, got {self.points!r}")

    def key(self) -> str:
        """Ten hex digits that name this run: a hash of every field and of the schema number.

        A field that came later is left out at its default, so that the runs from before keep their keys.
        """
        document = {"schema": SCHEMA, **self.to_dict()}
        for field in dataclasses.fields(self):
            if field.name in _LATER and getattr(self, field.name) == field.default:
                del document[field.name]
        if self.part == "all":
            del document["part"], document["split"]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:10]

    def name(self) -> str:
        """The readable name, such as `mlp-L08-H256-digits-p0.50-s3`; unique only together with the key."""
        data = re.sub(r"[^\w.]+", "-", self.data)  # folder:<path> would not do in a file name
        rate = "" if self.lr == 0.1 else f"-lr{self.lr:g}"
        half = "" if self.part == "all" else f"-{self.part}{self.split}"
        network = f"{self.arch}-L{self.depth:02d}-H{self.width}" if self.arch in ARCHS else self.arch
        return f"{network}-{data}-p{self.noise:.2f}{rate}{half}-s{self.seed}"

    def replace(self, **changes: Any) -> "RunConfig":
        """This configuration with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every field."""
        return {**dataclasses.asdict(self), "points": list(self.points), "metrics": list(self.metrics)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """The inverse of `to_dict`; an unknown field is an error."""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"unknown configuration field: {', '.join(unknown)}")
        return cls(**values)

    def seed_for(self, purpose: str) -> int:
        """A 63-bit seed hashed from (seed, purpose), so a new draw in one place leaves the others alone."""
        return seed_for(self.seed, purpose)

    def data_seed(self) -> int:
        """The seed of what is drawn about the data: label noise by `seed`, halves and their noise by `split` alone."""
        if self.part == "all":
            return self.seed_for("noise")
        return self.replace(seed=self.split).seed_for("halves")

    def lr_at(self, epoch: int) -> float:
        """The learning rate of training epoch `epoch`, counted from 0; the first trains at the full rate."""
        milestones, factor = SCHEDULES[self.schedule]
        passed = sum(epoch >= max(1, round(fraction * self.epochs)) for fraction in milestones)
        return float(self.lr * factor**passed)

    def measured_epochs(self) -> list[int]:
        """The epochs after which the layers are measured: 0 (untrained), log-spaced ones, and the last."""
        steps = max(self.measurements - 2, 1)
        spaced = {round(self.epochs ** (i / steps)) for i in range(steps + 1)}
        return sorted({0, self.epochs} | spaced)


def seed_for(seed: int, purpose: str) -> int:
    """A 63-bit seed hashed from (seed, purpose)."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def grid(base: RunConfig, **axes: Iterable[Any]) -> list[RunConfig]:
    """Every combination of the named fields' values over `base`, the last field varying fastest."""
    names = list(axes)
    for name, values in axes.items():
        if isinstance(values, str):
            raise TypeError(f"{name}: expected several values, got the string {values!r}")
    combinations = itertools.product(*(list(axes[name]) for name in names))
    return [base.replace(**dict(zip(names, values, strict=True))) for values in combinations]
