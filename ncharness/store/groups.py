"""Which runs are trained as one program (together.py): those of one shape, as many as it takes to fill the device."""

from collections.abc import Sequence
from typing import TypeAlias

from ncharness.store.estimates import estimated_seconds
from ncharness.store.run import Configuration
from ncharness.training.batched import shape
from ncharness.training.config import ARCHS, RunConfig
from ncharness.training.cost import ASSUMED_RATES, ASSUMED_STEP, step_flops

MOST = 64
"""So many networks at most: what is not counted above, drawing batches and measuring, is done one after the other."""


Program: TypeAlias = list[Configuration]
"""Runs that are trained together, or one alone."""


def programs(configs: Sequence[Configuration], *, together: int | None = None, device: str = "cpu") -> list[Program]:
    """The runs in lists that are trained as one program each, the longest first.

    `together` is how many there may be in one; None: on a CUDA device as many as are `fitting`, on the CPU one, where
    several are no faster (`ncharness bench together`). Studies and torchvision's networks are alone.
    """
    if together is not None and together < 1:
        raise ValueError(f"together: expected at least 1, or None, got {together!r}")
    by_shape: dict[RunConfig | str, Program] = {}
    for config in configs:
        if isinstance(config, RunConfig) and config.arch in ARCHS:
            by_shape.setdefault(shape(config), []).append(config)
        else:
            by_shape[config.key()] = [config]
    found = []
    for alike in by_shape.values():
        most = together or (fitting(alike[0]) if device.startswith("cuda") else 1)
        parts = -(-len(alike) // most)  # of about one size
        found += [alike[len(alike) * i // parts : len(alike) * (i + 1) // parts] for i in range(parts)]
    return sorted(found, key=lambda program: sum(map(estimated_seconds, program)), reverse=True)


def fitting(config: Configuration) -> int:
    """How many networks such as this a GPU trains together, MOST at most.

    Until the arithmetic of a step takes as long as its launches, both as ASSUMED in cost.py: none of it has been
    measured. One where FLOPs are not known: studies, torchvision's networks, and data whose sizes are not known.
    """
    if not isinstance(config, RunConfig) or (flops := step_flops(config)) is None:
        return 1
    return int(max(1, min(MOST, ASSUMED_STEP * ASSUMED_RATES[config.precision] // flops)))


def name(program: Program) -> str:
    """The first run's, and how many others there are."""
    others = len(program) - 1
    more = f" and {others} other{'s' if others > 1 else ''} of its shape" if others else ""
    return f"{program[0].name()}{more}"


def halved(program: Program) -> list[Program]:
    """What to try where a program of several runs asks for more memory than there is."""
    middle = len(program) // 2
    return [program[:middle], program[middle:]]


def too_large(program: Program) -> str:
    """What to say then."""
    return f"{name(program)} do not fit into memory together; they are trained in halves"


def failure(program: Program, error: BaseException) -> str:
    """A program that cannot be trained, and why, in one line."""
    return f"{name(program)}: {type(error).__name__}: {error}"
