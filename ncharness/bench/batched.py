"""Benchmark of training several networks as one program, against training the same networks one after the other.

Epochs of both are timed in turn.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from ncharness.bench import timing
from ncharness.bench.tables import Settings, Table, rows_against
from ncharness.training.batched import train_together
from ncharness.training.config import RunConfig
from ncharness.training.datasets import Dataset
from ncharness.training.loop import train

COUNT = 5
"""Number of networks, as many as claims have seeds."""


class Case(NamedTuple):
    """Configuration of a network, the shape of its inputs, and the number of samples in an epoch."""

    config: RunConfig
    in_shape: tuple[int, ...]
    n: int


def _case(arch: str, depth: int, width: int, in_shape: tuple[int, ...], n: int, precision: str = "float32") -> Case:
    # With so many epochs only the first two states are measured. At this learning rate nothing overflows meanwhile.
    config = RunConfig(
        arch=arch, depth=depth, width=width, epochs=10**6, lr=1e-3, schedule="constant", measurements=2
    ).replace(precision=precision)
    return Case(config, in_shape, n)


CASES = {
    "cpu": (
        _case("mlp", 8, 32, (1, 8, 8), 1400),
        _case("mlp", 8, 256, (1, 8, 8), 1400),
        _case("conv", 8, 16, (1, 8, 8), 1400),
        _case("conv", 10, 20, (3, 32, 32), 256),
    ),
    "cuda": (
        _case("mlp", 8, 256, (1, 8, 8), 1400),
        *(_case("conv", 10, width, (3, 32, 32), 12_800, "bf16") for width in (20, 40, 80, 160)),
    ),
}
"""Cases by kind of device: networks of the claims, on digits and on CIFAR-10."""


def together(settings: Settings, device: torch.device = torch.device("cpu")) -> Iterator[Table]:  # noqa: B008  # fixed
    """Yield a table for each case. On the CPU one thread is used, as in the training of runs."""
    for case in CASES[device.type]:
        yield _table(settings, case, device)


def _table(settings: Settings, case: Case, device: torch.device) -> Table:
    n = settings.fewer(case.n)
    configs = [case.config.replace(seed=seed) for seed in range(COUNT)]
    data = [_random(case.in_shape, n)] * COUNT
    name = f"{case.config.arch.upper()}-{case.config.depth}-{case.config.width}"
    with timing.threads(1):
        alone = [train(*each, device=device) for each in zip(configs, data, strict=True)]
        as_one = train_together(configs, data, device=device)
        for running in (*alone, as_one):
            for _ in range(2):
                next(running)
        calls: dict[str, Callable[[], object]] = {
            "one after the other": lambda: [next(each) for each in alone],
            "together": lambda: next(as_one),
        }
        # Every epoch ends with a number that the processor waits for, so its clock is right for any device.
        times = timing.interleaved(
            calls, rounds=settings.rounds, on_step=lambda text: settings.on_step(f"together {name}: {text}")
        )
    title = f"{COUNT} networks {name}, {n:,} samples of {case.in_shape} in batches of 128, {case.config.precision}"
    caption = "floor: an epoch of each network, one after the other"
    return Table("together", title, caption, rows_against(times, "one after the other"))


def _random(in_shape: tuple[int, ...], n: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(n, *in_shape, generator=generator), torch.arange(n) % 10
    return Dataset(
        name="random",
        train_x=inputs,
        train_y=labels,
        train_y_clean=labels,
        noise_mask=torch.zeros(n, dtype=torch.bool),
        test_x=inputs[:10],
        test_y=labels[:10],
        n_classes=10,
    )
