"""What a study is: an experiment besides the training loop, named by its function, settings and seed."""

import hashlib
import importlib
import inspect
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

from ncharness.training.config import seed_for
from ncharness.training.loop import seeded
from ncharness.training.rows import Row

Setting: TypeAlias = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Study:
    """One experiment of `ncharness.studies`, completely: equal studies give equal rows on the same machine.

    Like a `RunConfig` it has a key, a readable name and a seed, is carried out by `Store.train`, and ends as a `Run`.
    It takes seconds, so it has no checkpoint: what is killed begins again.

    Raises ValueError for an experiment that there is not, and TypeError for settings that it does not take.
    """

    experiment: str  # module.function of ncharness.studies, such as unconstrained.minimum
    settings: Mapping[str, Setting] = field(default_factory=dict)  # of the function; its defaults are filled in
    seed: int = 0
    epochs: ClassVar[int] = 1  # it has none; what tells of progress counts the whole as one

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ValueError(f"seed: expected an integer of at least 0, got {self.seed!r}")
        try:
            bound = inspect.signature(self.function()).bind(**self.settings)
        except TypeError as error:
            raise TypeError(f"settings of {self.experiment}: {error}") from None
        bound.apply_defaults()
        kinds = inspect.get_annotations(self.function(), eval_str=True)
        settled = {name: _settled(name, value, kinds[name]) for name, value in sorted(bound.arguments.items())}
        object.__setattr__(self, "settings", MappingProxyType(settled))

    def __hash__(self) -> int:
        return hash(self.key())

    def function(self) -> Any:
        """The experiment: takes the settings by keyword and returns rows, with torch's generator seeded around it."""
        module, _, name = str(self.experiment).partition(".")
        try:
            found = importlib.import_module(f"ncharness.studies.{module}")
            known = name in found.SECONDS
        except (ModuleNotFoundError, AttributeError):
            known = False
        if not known:
            raise ValueError(f"experiment: expected module.function of studies, got {self.experiment!r}")
        return getattr(found, name)

    def _of_module(self, name: str) -> Any:
        return getattr(inspect.getmodule(self.function()), name)

    @property
    def seconds(self) -> float:
        """Roughly how long it takes one core: what the experiment's module says in SECONDS."""
        return float(self._of_module("SECONDS")[self.experiment.partition(".")[2]])

    def key(self) -> str:
        """Ten hex digits that name this study: a hash of every field, and of the VERSION of the experiment's module."""
        document = {"version": self._of_module("VERSION"), **self.to_dict()}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:10]

    def name(self) -> str:
        """The readable name, such as `unconstrained.minimum-classes4-s3`: the settings that are not defaults."""
        defaults = {name: p.default for name, p in inspect.signature(self.function()).parameters.items()}
        told = [f"{name}{_short(value)}" for name, value in self.settings.items() if value != defaults[name]]
        return re.sub(r"[^\w.-]+", "-", "-".join([self.experiment, *told, f"s{self.seed}"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every field."""
        return {"experiment": self.experiment, "settings": dict(self.settings), "seed": self.seed}


def study_grid(experiment: str, *, seed: Iterable[int], **axes: Any) -> list[Study]:
    """Every combination of the settings, the seed varying fastest; a list or tuple or range is several values.

    >>> [study.name() for study in study_grid("unconstrained.minimum", classes=(3, 4), dim=8, seed=[7])]
    ['unconstrained.minimum-classes3-dim8-s7', 'unconstrained.minimum-classes4-dim8-s7']
    """
    values = [list(value) if isinstance(value, list | tuple | range) else [value] for value in axes.values()]
    return [
        Study(experiment=experiment, settings=dict(zip(axes, combination, strict=True)), seed=one)
        for combination in itertools.product(*values)
        for one in seed
    ]


def carry_out(study: Study) -> tuple[Row, ...]:
    """The rows of a study, computed here and now; the caller's random state is untouched."""
    with seeded(seed_for(study.seed, "study")):
        return tuple(study.function()(**study.settings))


def _settled(name: str, value: object, kind: type) -> Setting:
    """The value as the experiment takes it: 1 and 1.0 are one setting of a number with one key."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        word = {bool: "True or False", int: "an integer", float: "a finite number", str: "a word"}[kind]
        raise TypeError(f"settings: expected {name} to be {word}, got {value!r}")
    return value  # type: ignore[return-value]  # of the annotated kind, one of the four


def _short(value: Setting) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
