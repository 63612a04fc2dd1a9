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
from ncharness.training.datasets import Sizes, sizes_of
from ncharness.training.networks import ARCHITECTURES

ASSUMED_RATES = {"float32": 2.5e13, "bf16": 2e14}
"""FLOP per second that a data-centre GPU of the 2020s is ASSUMED to sustain; nothing here has been measured on one."""
ASSUMED_STEP = 1e-3
"""Seconds that a training step is ASSUMED to take there at the least, for its launches: those of ten layers or so."""
_RESNET18 = 5.6e8
"""Multiplications of a ResNet-18 with the CIFAR stem for one image of 32 x 32 pixels: for want of more, of any such."""


class Flops(NamedTuple):
    """Floating-point operations of a run."""

    training: int
    measuring: int


def sizes(config: RunConfig) -> Sizes | None:
    """The sizes of the run's data set, None for one whose sizes are known only once it is read (folder:<path>)."""
    return sizes_of(config.data)


def samples(config: RunConfig, available: int) -> int:
    """How many samples a run trains on, of a training set of `available`."""
    return (config.n_train or available) // (2 if config.part == "first" else 1)


def flops(config: RunConfig) -> Flops | None:
    """Count the FLOPs of a training from its epochs, its samples and its network.

    None where the data's sizes are not known, and for torchvision's networks.
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
    """FLOPs of one sample's forward pass through the convolutions and linear maps of a network of `networks.build`."""
    if arch not in ARCHITECTURES:
        raise ValueError(f"arch: expected one of {', '.join(ARCHITECTURES)}, got {arch!r}")
    return ARCHITECTURES[arch].forward_flops(depth, width, in_shape, n_classes)


def training_seconds(config: RunConfig) -> float:
    """Roughly how long a training takes one core of a server of the 2020s: for the order of runs, plans and ETAs."""
    known = sizes(config)
    trained = samples(config, known.n_train if known else 4000)
    if config.arch not in ARCHITECTURES:
        return 6.5e-11 * _RESNET18 * config.epochs * trained
    per_layer: float = ARCHITECTURES[config.arch].layer_products(config.width) + 2000 * float(config.width) ** 0.5
    return 6.5e-11 * (config.depth + 1) * per_layer * config.epochs * trained


def step_flops(config: RunConfig) -> int | None:
    """Count the FLOPs of a training step of a whole batch; None where `flops` is None."""
    known = sizes(config)
    if known is None or config.arch not in ARCHITECTURES:
        return None
    forward = forward_flops(
        config.arch, depth=config.depth, width=config.width, in_shape=known.shape, n_classes=known.n_classes
    )
    return 3 * forward * config.batch_size


def steps(config: RunConfig) -> int:
    """Training steps of a run, where `flops` are known."""
    known = sizes(config)
    return config.epochs * math.ceil(samples(config, known.n_train if known else 0) / config.batch_size)
