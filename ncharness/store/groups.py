"""Grouping of runs of one shape into programs, which are trained together (training/batched.py).

A program has as many runs as it takes to fill the device.
"""

from collections.abc import Sequence
from typing import TypeAlias

from ncharness.store.estimates import estimated_seconds
from ncharness.store.run import Configuration
from ncharness.training.batched import shape
from ncharness.training.config import RunConfig
from ncharness.training.cost import ASSUMED_RATES, ASSUMED_STEP, step_flops
from ncharness.training.networks import spec_of

MOST = 64
"""Most networks in a program: drawing batches and measuring, which `fitting` does not count, are done serially."""


Program: TypeAlias = list[Configuration]
"""Runs that are trained together, or a single one."""


def grouped(configs: Sequence[Configuration], *, together: int | None = None, device: str = "cpu") -> list[Program]:
    """Group the runs into programs, the longest first.

    `together` is the most runs in a program. None means `fitting` on a CUDA device, and one on the CPU, where several
    are no faster (`ncharness bench together`). Every study and every network of torchvision is a program of its own.
    """
    if together is not None and together < 1:
        raise ValueError(f"together: expected at least 1, or None, got {together!r}")
    by_shape: dict[RunConfig | str, Program] = {}
    for config in configs:
        if isinstance(config, RunConfig) and spec_of(config.arch).sized:
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
    """Return how many networks of this shape to train together on a GPU, MOST at most.

    As many as make the arithmetic of a step take as long as its kernel launches, by the ASSUMED numbers in cost.py,
    which have not been measured. One if the FLOPs are not known: studies, torchvision's networks, and data of unknown
    size.
    """
    if not isinstance(config, RunConfig) or (flops := step_flops(config)) is None:
        return 1
    return int(max(1, min(MOST, ASSUMED_STEP * ASSUMED_RATES[config.precision] // flops)))


def name(program: Program) -> str:
    """Return the name of a program: that of its first run, and the number of the others."""
    others = len(program) - 1
    more = f" and {others} other{'s' if others > 1 else ''} of its shape" if others else ""
    return f"{program[0].name()}{more}"


def halved(program: Program) -> list[Program]:
    """Split a program of several runs into two, for a retry when it was out of memory."""
    middle = len(program) // 2
    return [program[:middle], program[middle:]]


def too_large(program: Program) -> str:
    """Return the message for a program of several runs that was out of memory."""
    return f"{name(program)} do not fit into memory together; they are trained in halves"


def failure(program: Program, error: BaseException) -> str:
    """Return the message for a program that cannot be trained, with the reason, in one line."""
    return f"{name(program)}: {type(error).__name__}: {error}"
