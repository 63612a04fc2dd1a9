"""Studies: experiments besides the training loop, named by function, settings and seed."""

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

    A study has a key, a readable name and a seed, like a `RunConfig`. `Store.train` carries it out, and it ends as a
    `Run`. It
    takes seconds and has no checkpoint: a study that is killed begins again.

    Attributes:
        experiment: Module and function of `ncharness.studies`, such as `unconstrained.minimum`.
        settings: Settings of the function by keyword; its defaults are filled in.
        seed: Seed of torch's generator around the call.

    Raises:
        ValueError: An experiment that there is not, or a seed below 0.
        TypeError: Settings that the experiment does not take.

    Examples:
        >>> import ncharness as nc
        >>> study = nc.Study(experiment="unconstrained.minimum", settings={"classes": 3, "dim": 12}, seed=7)
        >>> study.name()
        'unconstrained.minimum-classes3-dim12-s7'
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
        """Return the experiment, a function that takes the settings by keyword and returns rows.

        Raises:
            ValueError: An experiment that there is not.

        Returns:
            The function.
        """
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
        """Rough time that the study takes one core, in seconds, as its module states it in SECONDS."""
        return float(self._of_module("SECONDS")[self.experiment.partition(".")[2]])

    def key(self) -> str:
        """Return ten hex digits that name this study: a hash of every field and of its module's VERSION.

        Returns:
            The key.
        """
        document = {"version": self._of_module("VERSION"), **self.to_dict()}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:10]

    def name(self) -> str:
        """Return the readable name, such as `unconstrained.minimum-classes4-s3`, with settings that are not defaults.

        Returns:
            The name.
        """
        defaults = {name: p.default for name, p in inspect.signature(self.function()).parameters.items()}
        told = [f"{name}{_short(value)}" for name, value in self.settings.items() if value != defaults[name]]
        return re.sub(r"[^\w.-]+", "-", "-".join([self.experiment, *told, f"s{self.seed}"]))

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain JSON values.

        Returns:
            A dictionary.
        """
        return {"experiment": self.experiment, "settings": dict(self.settings), "seed": self.seed}


def study_grid(experiment: str, *, seed: Iterable[int], **axes: Any) -> list[Study]:
    """Return every combination of settings and seeds of an experiment, the seed varying fastest.

    Args:
        experiment: Module and function of `ncharness.studies`.
        seed: Seeds.
        **axes: Settings; a list, tuple or range holds several values.

    Returns:
        Studies.

    Raises:
        ValueError: An experiment that there is not.
        TypeError: Settings that it does not take.

    Examples:
        >>> [study.name() for study in study_grid("unconstrained.minimum", classes=(3, 5), dim=12, seed=[7])]
        ['unconstrained.minimum-classes3-dim12-s7', 'unconstrained.minimum-classes5-dim12-s7']
    """
    values = [list(value) if isinstance(value, list | tuple | range) else [value] for value in axes.values()]
    return [
        Study(experiment=experiment, settings=dict(zip(axes, combination, strict=True)), seed=one)
        for combination in itertools.product(*values)
        for one in seed
    ]


def carry_out(study: Study) -> tuple[Row, ...]:
    """Compute the rows of a study here and now; the caller's random state is untouched."""
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
