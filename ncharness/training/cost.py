"""What runs cost before they are started: FLOPs counted from the architecture, and hours at a declared rate.

A FLOP count is arithmetic: two for every multiply-add of a convolution or linear map, nothing for biases, batch norm,
activations and the metrics, whose work is small or bound by memory. Training counts three times the forward pass of
every sample (forward, gradients of the inputs, gradients of the weights), measuring two forward passes of the training
set and one of the test set at each measured epoch. Hours are only as good as the rate that they are divided by.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ncharness.training.config import ARCHS, RunConfig
from ncharness.training.datasets import SIZES, Sizes

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
    return SIZES.get(config.data.removeprefix("shuffled:"))


def samples(config: RunConfig, available: int) -> int:
    """How many samples a run trains on, of a training set of `available`."""
    return (config.n_train or available) // (2 if config.part == "first" else 1)


def flops(config: RunConfig) -> Flops | None:
    """What a training costs, from its epochs, its samples and its network.

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
    """FLOPs of one sample's forward pass through the convolutions and linear maps of `models.build`'s network."""
    if arch == "mlp":
        return 2 * width * (math.prod(in_shape) + (depth - 1) * width + n_classes)
    channels, height, breadth = in_shape
    pixels = (height // 4) * (breadth // 4)  # of every block
    stem = 4 * pixels * (4 * width * channels) + pixels * (4 * width * width)  # 2x2 kernels on both maps
    blocks = depth * (2 if arch == "convres" else 1) * pixels * (9 * width * width)
    return 2 * (stem + blocks + width * pixels * n_classes)


def training_seconds(config: RunConfig) -> float:
    """Roughly how long a training takes one core of a server of the 2020s: for the order of runs, plans and ETAs."""
    known = sizes(config)
    trained = samples(config, known.n_train if known else 4000)
    if config.arch not in ARCHS:
        return 6.5e-11 * _RESNET18 * config.epochs * trained
    per_layer: float = config.width**2 * (9 * 64 if config.arch != "mlp" else 1) + 2000 * float(config.width) ** 0.5
    return 6.5e-11 * (config.depth + 1) * per_layer * config.epochs * trained


def step_flops(config: RunConfig) -> int | None:
    """What a training step of a whole batch costs; None where `flops` is None."""
    known = sizes(config)
    if known is None or config.arch not in ARCHS:
        return None
    forward = forward_flops(
        config.arch, depth=config.depth, width=config.width, in_shape=known.shape, n_classes=known.n_classes
    )
    return 3 * forward * config.batch_size


def steps(config: RunConfig) -> int:
    """Training steps of a run, where `flops` are known."""
    known = sizes(config)
    return config.epochs * math.ceil(samples(config, known.n_train if known else 0) / config.batch_size)
