"""Configuration of a run: frozen fields, the key, the readable name, and derived seeds."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ncharness.metrics.registry import check_names, names
from ncharness.training.augment import AUGMENTATIONS
from ncharness.training.dataset_specs import known
from ncharness.training.networks import ARCHITECTURES, spec_of

T = TypeVar("T", int, float)

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


PARTS = ("all", "first", "both")
"""Parts of the training samples that a run can train on; see `datasets.load`."""

PRECISIONS = ("float32", "bf16")
"""Precisions of training; bf16 is autocast to bfloat16. Measurements are always in float32."""

_LATER = ("metrics", "augment", "precision", "compiled")
"""Fields that came after the first release of the schema: a key leaves them out at their defaults."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Values that a field of a configuration takes.

    Attributes:
        check: Function from the field's name and a value to the value as it is kept, or ValueError.
        parse: Function from the text of an option of the command line to a value, or ValueError.
        metavar: Word for the value in the help of the command line.
        choices: The values, where they are some few.
    """

    check: Callable[[str, Any], Any]
    parse: Callable[[str], Any]
    metavar: str
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """A field of a configuration, as the metadata of the field have it: all that the command line knows of it.

    Attributes:
        about: Help text, or a function that gives it.
        kind: Values that the field takes.
    """

    about: str | Callable[[], str]
    kind: Kind

    @property
    def help(self) -> str:
        """Help text."""
        return self.about if isinstance(self.about, str) else self.about()


def _integer(least: int, *, optional: bool = False) -> Kind:
    def check(name: str, value: Any) -> Any:
        if optional and value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
        return value

    def parse(text: str) -> int | None:
        return None if optional and text == "None" else _number_of(text, int, "an integer")

    return Kind(check=check, parse=parse, metavar="N")


def _number(wanted: str = "", holds: Callable[[float], bool] = lambda _: True) -> Kind:
    def check(name: str, value: Any) -> float:
        number = float(value)  # 0 and 0.0 are one configuration with one key
        if not 0.0 <= number < float("inf"):
            raise ValueError(f"{name}: expected a finite number of at least 0, got {number!r}")
        if not holds(number):
            raise ValueError(f"{name}: expected {wanted}, got {number!r}")
        return number

    return Kind(check=check, parse=lambda text: _number_of(text, float, "a number"), metavar="X")


def _number_of(text: str, kind: type[T], words: str) -> T:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"expected {words}, got {text!r}") from None


def _one_of(*choices: Any) -> Kind:
    def check(name: str, value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}")
        return type(choices[0])(value)  # 1 and True are one configuration with one key

    return Kind(check=check, parse=str, metavar="NAME", choices=choices)


def _flag() -> Kind:
    def parse(text: str) -> bool:
        if text not in ("False", "True"):
            raise ValueError(f"expected True or False, got {text!r}")
        return text == "True"

    return dataclasses.replace(_one_of(False, True), parse=parse, metavar="BOOL")


def _several(check: Callable[[str, tuple[Any, ...]], None], *, text: bool = True) -> Kind:
    """Names joined by +; with `text` false a string in their place is refused as such."""

    def checked(name: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str) and not text:
            raise ValueError(f"{name}: expected several names, got the string {value!r}")
        kept = tuple(value)  # JSON has no tuples; a configuration read back must equal the one written
        check(name, kept)
        return kept

    return Kind(check=checked, parse=lambda given: tuple(given.split("+")) if given else (), metavar="NAMES")


def _check_points(name: str, points: tuple[Any, ...]) -> None:
    if not points or set(points) - {"paper", "pre_bn", "out"}:
        raise ValueError(f"{name}: expected some of paper, pre_bn, out, got {points!r}")


def _arch() -> Kind:
    def check(_: str, value: Any) -> Any:
        spec_of(value)
        return value

    return Kind(check=check, parse=str, metavar="NAME")


def _text() -> Kind:
    return Kind(check=lambda _, value: value, parse=str, metavar="NAME")


def _field(default: Any, about: str | Callable[[], str], kind: Kind) -> Any:
    return field(default=default, metadata={"spec": FieldSpec(about=about, kind=kind)})


def _about_arch() -> str:
    return f"{', '.join(ARCHITECTURES)}, or a classifier of torchvision such as resnet18"


def _about_metrics() -> str:
    return f"metrics besides NCC error and CDNV, joined by +: {', '.join(names())}"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, completely: equal configurations give equal rows on the same machine.

    The defaults are the optimiser settings of arXiv:2202.09028 (SGD, momentum 0.9, weight decay 5e-4, batch 128,
    learning rate 0.1) on a network and a data set that train in seconds on one CPU core. The metadata of each field
    hold its `FieldSpec`: help text, check and parser, which `ncharness train` reads too.

    Attributes:
        arch: Architecture: mlp, conv, convres, or a classifier of torchvision such as resnet18.
        depth: Number L of counted hidden layers; 0 for a classifier of torchvision, whose layers are its own.
        width: Units or channels H of each; 0 likewise.
        data: Data set by name.
        n_train: Number of training samples, the first ones; None for all. With halves, m = n_train / 2 in each.
        noise: Fraction of corrupted training labels; with halves, of those of S2.
        noise_kind: `exact` (that many labels, all wrong) or `reference` (the reference code's draw).
        epochs: Number of passes over the training samples.
        batch_size: Samples per step.
        lr: Learning rate of the first epochs.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.
        schedule: Name in SCHEDULES.
        points: Capture points: pre_bn, out, or paper for those that the paper's code records.
        measurements: About how many epochs are measured, log-spaced, 0 and the last among them.
        part: `all`, or of a division into halves for the comparative bound: `first` (S1) or `both` (S1 and S2).
        split: Number of the random division into S1 and S2 and of its noise; the same for every seed.
        seed: Seed of initialisation, batches and, without halves, label noise.
        metrics: Names of metrics of every layer, besides NCC error and CDNV.
        augment: Augmentation of the training batches: none, crop_flip, code.
        precision: Precision of training: float32 or bf16. Measurements are in float32.
        compiled: Whether training goes through torch.compile.

    Raises:
        ValueError: A value that a field cannot take; the message names the field.

    Examples:
        >>> from ncharness import RunConfig
        >>> config = RunConfig(depth=4, noise=0.5, seed=1000)
        >>> config.name()
        'mlp-L04-H256-digits-p0.50-s1000'
        >>> config.key()
        '56ccd62a27'
    """

    arch: str = _field("mlp", _about_arch, _arch())
    depth: int = _field(
        8, "L, the counted hidden layers; not of torchvision's, whose layers are their own", _integer(1)
    )
    width: int = _field(256, "H, units or channels of each; likewise", _integer(1))
    data: str = _field("digits", lambda: ", ".join(known()), _text())
    n_train: int | None = _field(None, "training samples (default: all)", _integer(1, optional=True))
    noise: float = _field(
        0.0, "fraction of corrupted training labels", _number("a fraction in [0, 1]", lambda value: value <= 1.0)
    )
    noise_kind: str = _field(
        "exact",
        "exact (that many, all wrong) or reference (the reference code's draw)",
        _one_of("exact", "reference"),
    )
    epochs: int = _field(150, "passes over the training samples", _integer(1))
    batch_size: int = _field(128, "samples per step", _integer(1))
    lr: float = _field(0.1, "learning rate of the first epochs", _number())
    momentum: float = _field(0.9, "momentum of SGD", _number("a number in [0, 1)", lambda value: value < 1.0))
    weight_decay: float = _field(5e-4, "weight decay of SGD", _number())
    schedule: str = _field("code", f"learning-rate schedule: {', '.join(SCHEDULES)}", _one_of(*SCHEDULES))
    points: tuple[str, ...] = _field(
        ("paper",), "capture points joined by +: paper, pre_bn, out", _several(_check_points)
    )
    measurements: int = _field(12, "about how many epochs are measured, log-spaced", _integer(1))
    part: str = _field(
        "all",
        "all, or of a split for the comparative bound: first (S1) or both (S1 and S2 with noise)",
        _one_of(*PARTS),
    )
    split: int = _field(0, "which random division into S1 and S2", _integer(0))
    seed: int = _field(0, "seed of initialisation, batches and label noise", _integer(0))
    metrics: tuple[str, ...] = _field((), _about_metrics, _several(lambda _, metrics: check_names(metrics), text=False))
    augment: str = _field(
        "none",
        "of the training batches: none, crop_flip or code (with the rotation of the reference code)",
        _one_of(*AUGMENTATIONS),
    )
    precision: str = _field("float32", "of training: float32 or bf16; measured in float32", _one_of(*PRECISIONS))
    compiled: bool = _field(False, "train through torch.compile: True or False", _flag())

    def __post_init__(self) -> None:
        spec = spec_of(self.arch)
        if not spec.sized:
            self._drop_sizes()
        for name, of in self.field_specs().items():
            if spec.sized or name not in ("depth", "width"):
                object.__setattr__(self, name, of.kind.check(name, getattr(self, name)))
        if set(self.points) - {"paper", *spec.points}:
            there_are = " or ".join(("paper", *spec.points))
            raise ValueError(f"points: expected {there_are} for {self.arch}, which has no other, got {self.points!r}")
        if self.part == "all" and self.split:
            raise ValueError(f"split: expected 0 where nothing is split (part all), got {self.split!r}")
        if self.part == "first" and self.noise:
            raise ValueError(f"noise: expected 0 for part first, as S1 is clean, got {self.noise!r}")
        if self.part != "all" and self.noise_kind != "exact":
            raise ValueError(f"noise_kind: expected exact for part {self.part}, got {self.noise_kind!r}")

    @classmethod
    def field_specs(cls) -> dict[str, FieldSpec]:
        """Return the fields by name, with their help texts, checks and parsers.

        Returns:
            Specs in the order of the fields.
        """
        return {one.name: one.metadata["spec"] for one in dataclasses.fields(cls)}

    def _drop_sizes(self) -> None:
        """Set depth and width to 0, as for every network whose layers are its own."""
        for name in ("depth", "width"):
            default = type(self).__dataclass_fields__[name].default
            if (value := getattr(self, name)) not in (0, default):
                raise ValueError(f"{name}: expected 0 for {self.arch}, whose layers are its own, got {value!r}")
            object.__setattr__(self, name, 0)

    def key(self) -> str:
        """Return ten hex digits that name this run: a hash of every field and of the schema number.

        A field that came later is left out at its default, so that the runs from before keep their keys.

        Returns:
            The key.
        """
        document = {"schema": SCHEMA, **self.to_dict()}
        for one in dataclasses.fields(self):
            if one.name in _LATER and getattr(self, one.name) == one.default:
                del document[one.name]
        if self.part == "all":
            del document["part"], document["split"]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:10]

    def name(self) -> str:
        """Return the readable name, such as `mlp-L08-H256-digits-p0.50-s3`; unique only together with the key.

        Returns:
            The name.
        """
        data = re.sub(r"[^\w.]+", "-", self.data)  # folder:<path> would not do in a file name
        rate = "" if self.lr == 0.1 else f"-lr{self.lr:g}"
        half = "" if self.part == "all" else f"-{self.part}{self.split}"
        network = f"{self.arch}-L{self.depth:02d}-H{self.width}" if spec_of(self.arch).sized else self.arch
        return f"{network}-{data}-p{self.noise:.2f}{rate}{half}-s{self.seed}"

    def replace(self, **changes: Any) -> "RunConfig":
        """Return this configuration with some fields changed.

        Args:
            **changes: Fields and their values.

        Returns:
            A configuration.
        """
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain JSON values.

        Returns:
            A dictionary.
        """
        return {**dataclasses.asdict(self), "points": list(self.points), "metrics": list(self.metrics)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Return the configuration whose `to_dict` this is.

        Args:
            values: Fields and their values.

        Returns:
            A configuration.

        Raises:
            ValueError: An unknown field.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"unknown configuration field: {', '.join(unknown)}")
        return cls(**values)

    def seed_for(self, purpose: str) -> int:
        """Return a 63-bit seed hashed from (seed, purpose), so that a new draw in one place leaves the others alone.

        Args:
            purpose: Word for the draw.

        Returns:
            The seed.
        """
        return seed_for(self.seed, purpose)

    def data_seed(self) -> int:
        """Return the seed of all that is drawn about the data.

        Label noise depends on `seed`, halves and their noise on `split` alone.

        Returns:
            The seed.
        """
        if self.part == "all":
            return self.seed_for("noise")
        return self.replace(seed=self.split).seed_for("halves")

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate of a training epoch.

        Args:
            epoch: Epoch, counted from 0; the first trains at the full rate.

        Returns:
            The rate.
        """
        milestones, factor = SCHEDULES[self.schedule]
        passed = sum(epoch >= max(1, round(fraction * self.epochs)) for fraction in milestones)
        return float(self.lr * factor**passed)

    def measured_epochs(self) -> list[int]:
        """Return the epochs after which the layers are measured: 0 (untrained), log-spaced ones, and the last.

        Returns:
            Epochs, ascending.
        """
        steps = max(self.measurements - 2, 1)
        spaced = {round(self.epochs ** (i / steps)) for i in range(steps + 1)}
        return sorted({0, self.epochs} | spaced)


def seed_for(seed: int, purpose: str) -> int:
    """A 63-bit seed hashed from (seed, purpose)."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def grid(base: RunConfig, **axes: Iterable[Any]) -> list[RunConfig]:
    """Return every combination of the named fields' values over a configuration, the last field varying fastest.

    Args:
        base: Configuration whose other fields are kept.
        **axes: Values of fields.

    Returns:
        Configurations.

    Raises:
        TypeError: A string in place of several values.
        ValueError: A value that a field cannot take.

    Examples:
        >>> import ncharness as nc
        >>> [config.name() for config in nc.grid(nc.RunConfig(), depth=(4, 8), seed=(0,))]
        ['mlp-L04-H256-digits-p0.00-s0', 'mlp-L08-H256-digits-p0.00-s0']
    """
    names = list(axes)
    for name, values in axes.items():
        if isinstance(values, str):
            raise TypeError(f"{name}: expected several values, got the string {values!r}")
    combinations = itertools.product(*(list(axes[name]) for name in names))
    return [base.replace(**dict(zip(names, values, strict=True))) for values in combinations]
