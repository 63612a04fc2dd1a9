"""Cost of runs before they are started: FLOPs counted from the architecture, and time at a declared rate.

A FLOP count is arithmetic: two for every multiply-add of a convolution or linear map, nothing for biases, batch norm,
activations and the metrics, whose work is small or bound by memory. Training counts three times the forward pass of
every sample (forward, gradients of the inputs, gradients of the weights), measuring two forward passes of the training
set and one of the test set at each measured epoch. Hours are only as good as the rate that they are divided by.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ncharness.training.config import RunConfig
from ncharness.training.dataset_specs import Sizes, sizes_of
from ncharness.training.networks import ARCHITECTURES, spec_of

ASSUMED_RATES = {"float32": 2.5e13, "bf16": 2e14}
"""FLOP per second that a data-centre GPU of the 2020s is ASSUMED to sustain; nothing here has been measured on one."""
ASSUMED_STEP = 1e-3
"""Seconds that a training step is ASSUMED to take there at the least, for its launches: those of ten layers or so."""


class Flops(NamedTuple):
    """Floating-point operations of a run."""

    training: int
    measuring: int


def sizes(config: RunConfig) -> Sizes | None:
    """Return the sizes of a run's data set; None where they are known only once it is read (`folder:<path>`)."""
    return sizes_of(config.data)


def samples(config: RunConfig, available: int) -> int:
    """Return the number of samples that a run trains on, of a training set of `available`."""
    return (config.n_train or available) // (2 if config.part == "first" else 1)


def flops(config: RunConfig) -> Flops | None:
    """Count the floating-point operations of a run, from its epochs, its samples and its network.

    Args:
        config: A run.

    Returns:
        Operations of training and of measuring; None where the sizes of the data or the FLOPs of the architecture are
        not known, as of torchvision's networks.

    Raises:
        ValueError: An unknown architecture.
    """
    known, step = sizes(config), step_flops(config)
    if known is None or step is None:
        return None
    forward = step // (3 * config.batch_size)
    n = samples(config, known.n_train)
    swept = (2 * n + known.n_test) * len(config.measured_epochs())
    if config.part == "first":
        swept += n  # S2, after the last epoch
    return Flops(3 * forward * n * config.epochs, forward * swept)


def forward_flops(arch: str, *, depth: int, width: int, in_shape: Sequence[int], n_classes: int) -> int:
    """Count the floating-point operations of one sample's forward pass.

    Args:
        arch: Name in ARCHITECTURES, of an architecture with a count.
        depth: Number of counted blocks.
        width: Units or channels of each.
        in_shape: Shape of a sample.
        n_classes: Number of outputs.

    Returns:
        Operations of the convolutions and linear maps of the network that `networks.build` gives for these arguments.

    Raises:
        ValueError: An architecture that is unknown or has no count.
    """
    counts = {name: spec.forward_flops for name, spec in ARCHITECTURES.items()}
    if (count := counts.get(arch)) is None:
        raise ValueError(f"arch: expected one of {', '.join(name for name in counts if counts[name])}, got {arch!r}")
    return count(depth, width, in_shape, n_classes)


def training_seconds(config: RunConfig) -> float:
    """Estimate roughly how many seconds a training takes one core of a server of the 2020s.

    Args:
        config: A run.

    Returns:
        Seconds, for the order of runs, plans and the time that is left. Data of unknown size count as 4,000 samples.

    Raises:
        ValueError: An unknown architecture.
    """
    known, spec = sizes(config), spec_of(config.arch)
    trained = samples(config, known.n_train if known else 4000)
    per_layer: float = spec.layer_products(config.width) + 2000 * float(config.width) ** 0.5
    return 6.5e-11 * (config.depth + 1) * per_layer * config.epochs * trained


def step_flops(config: RunConfig) -> int | None:
    """Count the floating-point operations of a training step of a whole batch; None where `flops` is None."""
    known, count = sizes(config), spec_of(config.arch).forward_flops
    if known is None or count is None:
        return None
    return 3 * count(config.depth, config.width, known.shape, known.n_classes) * config.batch_size


def steps(config: RunConfig) -> int:
    """Return the number of training steps of a run whose `flops` are known."""
    known = sizes(config)
    return config.epochs * math.ceil(samples(config, known.n_train if known else 0) / config.batch_size)
