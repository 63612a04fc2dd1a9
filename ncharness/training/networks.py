"""Architectures: the paper's networks MLP-L-H, CONV-L-H and CONVRES-L-H, and torchvision's classifiers by name.

The L counted layers (arXiv:2202.09028) are the children `block01`, `block02`, ... of the network. Each has the
children `pre_bn`, whose output is what batch norm receives, and `out`, the activation, whose output the next block
receives: hooks on `block03.pre_bn` or `block03.out` see f_3. Stem and head are not counted. Initialisation is
torch's default, from torch's global generator, which the caller seeds; networks that differ in depth only share
the initial weights of the stem and of their common blocks.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import nn

from ncharness.metrics.specs import by_name, markdown_grid
from ncharness.training.torchvision_networks import (
    CIFAR_FAMILIES,
    MULTIPLICATIONS,
    check_classifier,
    classifier,
    classifier_layers,
)

Point = Literal["pre_bn", "out"]


@dataclass(frozen=True, kw_only=True)
class ArchSpec:
    """An architecture: all that building, measuring, planning and help texts know of it.

    Attributes:
        name: Value of `RunConfig.arch`.
        about: Description for the documentation, in Markdown.
        builder: Function from depth, width, shape of a sample and number of classes to a network. Where depth and width
            apply, its counted blocks are the children that `block_names` names, each with the children `pre_bn` and
            `out`.
        paper_point: Capture point that the reference code of arXiv:2202.09028 records.
        forward_flops: Function of the same arguments: floating-point operations of a forward pass of one sample. None
            where they are not known: the cost of a run is then estimated by its time alone.
        layer_products: Function from the width to the multiplications of one block for one sample, roughly, for
            estimates of time; of the whole network where depth and width do not apply.
        sized: Whether depth and width apply. If not, both are 0, and every network is trained alone.
        layers: Function from a network and capture points to names of modules by names of layers. None for the points
            of the counted blocks.
    """

    name: str
    about: str
    builder: Callable[[int, int, tuple[int, ...], int], nn.Module]
    paper_point: Point
    forward_flops: Callable[[int, int, Sequence[int], int], int] | None
    layer_products: Callable[[int], float]
    sized: bool = True
    layers: Callable[[nn.Module, Sequence[str]], dict[str, str]] | None = None

    @property
    def points(self) -> tuple[Point, ...]:
        """Capture points that the architecture has, in the order of execution."""
        return ("pre_bn", "out") if self.layers is None else ("out",)


def spec_of(arch: str) -> ArchSpec:
    """Return the spec of an architecture.

    Args:
        arch: Name in ARCHITECTURES, or that of a classifier of torchvision.

    Returns:
        The spec; of a classifier of torchvision the one of `torchvision_spec`.

    Raises:
        ValueError: A name that is neither, with close matches.
    """
    if isinstance(arch, str) and arch in ARCHITECTURES:
        return ARCHITECTURES[arch]
    check_classifier(arch, argument="arch", instead=f"{', '.join(ARCHITECTURES)} or ")
    return torchvision_spec(arch)


def torchvision_spec(name: str) -> ArchSpec:
    """Return the spec of a classifier of torchvision: one declaration for all of them."""
    return ArchSpec(
        name=name,
        about="Any classifier by its name, as torchvision has it. Measured are its top-level modules, those of a "
        "sequence one by one, without dropout, flattening and the logits.",
        builder=partial(classifier, name),
        paper_point="out",
        forward_flops=None,
        layer_products=lambda _: MULTIPLICATIONS,
        sized=False,
        layers=partial(classifier_layers, name),
    )


def build(arch: str, *, depth: int, width: int, in_shape: Sequence[int], n_classes: int) -> nn.Module:
    """Build a network of `depth` counted blocks of `width` units or channels.

    Args:
        arch: Name in ARCHITECTURES, or that of a classifier of torchvision, whose layers are its own.
        depth: Number of counted blocks; 0 for a classifier of torchvision.
        width: Units or channels of each; 0 likewise.
        in_shape: Shape of a sample: of any form for `mlp`; (channels, height, width) with height and width divisible by
            4 for `conv` and `convres`; one that it can take for a classifier of torchvision.
        n_classes: Number of outputs.

    Returns:
        The network, in training mode, with weights from torch's global generator.

    Raises:
        ValueError: An unknown name, or an argument that the architecture cannot take.

    References:
        arXiv:2202.09028 and the code published with it; `ResidualBlock` says what that leaves open.
    """
    shape = tuple(in_shape)
    if not shape:
        raise ValueError("in_shape: expected the sizes of one sample, such as (1, 8, 8), got ()")
    for size in shape:
        _check_count("in_shape", size)
    spec = spec_of(arch)
    if spec.sized:
        for name, value in (("depth", depth), ("width", width), ("n_classes", n_classes)):
            _check_count(name, value)
    return spec.builder(depth, width, shape, n_classes)


def capture_points(arch: str, *, depth: int, points: Sequence[str] = ("paper",)) -> list[str]:
    """Return the names of the layers to capture, such as `block01.pre_bn`, `block02.pre_bn`.

    Args:
        arch: Name in ARCHITECTURES, of an architecture with counted blocks.
        depth: Number of counted blocks.
        points: Some of `pre_bn`, `out` and `paper`: the point that the reference code records, which is `pre_bn` for
            `mlp` and `conv` and `out` for `convres`. The two are not comparable across architectures.

    Returns:
        The names in the order of execution, each once.

    Raises:
        ValueError: Another architecture, depth or point.
    """
    spec = _counted(arch)
    _check_count("depth", depth)
    wanted = {spec.paper_point if point == "paper" else point for point in points}
    if isinstance(points, str) or not wanted or wanted - {*spec.points}:
        raise ValueError(f"points: expected some of paper, {', '.join(spec.points)}, got {points!r}")
    return [f"{block}.{point}" for block in block_names(depth) for point in spec.points if point in wanted]


def measured_layers(model: nn.Module, arch: str, *, depth: int, points: Sequence[str] = ("paper",)) -> dict[str, str]:
    """Return the modules whose outputs are measured, by names of layers.

    Args:
        model: A network of `build`.
        arch: Its architecture.
        depth: Its number of counted blocks.
        points: Capture points, as for `capture_points`; `paper` or `out` for a classifier of torchvision.

    Returns:
        Names of modules by names of layers, in the order of execution. The two are equal where blocks are counted; of a
        classifier of torchvision the module `layer1.0` is the layer `layer1.0.out`.

    Raises:
        ValueError: Another architecture, depth or point.
    """
    spec = spec_of(arch)
    if spec.layers is not None:
        return spec.layers(model, points)
    return {name: name for name in capture_points(arch, depth=depth, points=points)}


class ResidualBlock(nn.Module):
    """x -> ReLU(BN(conv(ReLU(BN(conv(x)))) + alpha x)), with 3x3 convolutions: one counted layer of CONVRES-L-H.

    This is what the reference code set out to do; as published it returns the inner ReLU, so its CONVRES has
    neither skip nor second convolution (and records that ReLU).
    """

    def __init__(self, width: int, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
        )
        self.pre_bn = nn.Identity()  # a name for the sum
        self.bn = nn.BatchNorm2d(width)
        self.out = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.pre_bn(self.inner(x) + self.alpha * x)
        result: torch.Tensor = self.out(self.bn(total))
        return result


def _mlp(depth: int, width: int, shape: tuple[int, ...], n_classes: int) -> nn.Sequential:
    sizes = [math.prod(shape)] + [width] * depth
    blocks = [named(pre_bn=nn.Linear(sizes[i], width), bn=nn.BatchNorm1d(width), out=nn.ReLU()) for i in range(depth)]
    return _network({"flatten": nn.Flatten()}, blocks, {"head": nn.Linear(width, n_classes)})


def _conv(depth: int, width: int, shape: tuple[int, ...], n_classes: int, *, residual: bool = False) -> nn.Sequential:
    if len(shape) != 3 or shape[1] % 4 or shape[2] % 4:
        raise ValueError(
            f"in_shape: {'convres' if residual else 'conv'} expected (channels, height, width) with height and width "
            f"divisible by 4, because its stem halves the image twice, got {shape}"
        )
    channels, height, breadth = shape
    stem = nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=2, stride=2),
        nn.BatchNorm2d(width),  # and no activation
        nn.Conv2d(width, width, kernel_size=2, stride=2),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )
    blocks: list[nn.Module]
    if residual:
        blocks = [ResidualBlock(width) for _ in range(depth)]
    else:
        blocks = [
            named(
                pre_bn=nn.Conv2d(width, width, kernel_size=3, padding=1),
                bn=nn.BatchNorm2d(width),
                out=nn.ReLU(),
            )
            for _ in range(depth)
        ]
    head = nn.Linear(width * (height // 4) * (breadth // 4), n_classes)
    return _network({"stem": stem}, blocks, {"flatten": nn.Flatten(), "head": head})


def _network(before: dict[str, nn.Module], blocks: Sequence[nn.Module], after: dict[str, nn.Module]) -> nn.Sequential:
    counted = dict(zip(block_names(len(blocks)), blocks, strict=True))
    return named(**before, **counted, **after)


def named(**children: nn.Module) -> nn.Sequential:
    """Return the modules in sequence, each under its name."""
    return nn.Sequential(OrderedDict(children))


def block_names(depth: int) -> list[str]:
    """Return the names of the counted blocks: `block01`, `block02` and so on."""
    digits = max(2, len(str(depth)))  # so that the names sort
    return [f"block{i:0{digits}d}" for i in range(1, depth + 1)]


def _counted(arch: str) -> ArchSpec:
    counted = {name: spec for name, spec in ARCHITECTURES.items() if spec.layers is None}
    if arch not in counted:
        raise ValueError(f"arch: expected one of {', '.join(counted)}, got {arch!r}")
    return counted[arch]


def _check_count(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: expected integers of at least 1, got {value!r}")


def _mlp_flops(depth: int, width: int, shape: Sequence[int], n_classes: int) -> int:
    return 2 * width * (math.prod(shape) + (depth - 1) * width + n_classes)


def _conv_flops(depth: int, width: int, shape: Sequence[int], n_classes: int, *, convolutions: int) -> int:
    channels, height, breadth = shape
    pixels = (height // 4) * (breadth // 4)  # of every block
    stem = 4 * pixels * (4 * width * channels) + pixels * (4 * width * width)  # 2x2 kernels on both maps
    blocks = depth * convolutions * pixels * (9 * width * width)
    return 2 * (stem + blocks + width * pixels * n_classes)


ARCHITECTURES: dict[str, ArchSpec] = by_name(
    (
        ArchSpec(
            name="mlp",
            about="Flatten; L × {linear, batch norm, ReLU}; linear. Each layer has H numbers.",
            builder=_mlp,
            paper_point="pre_bn",
            forward_flops=_mlp_flops,
            layer_products=lambda width: width**2,
        ),
        ArchSpec(
            name="conv",
            about="A stem of two 2×2 convolutions of stride 2; L × {3×3 convolution, batch norm, ReLU}; linear. Each "
            "layer has shape (H, height / 4, width / 4): 64 H numbers for a 32×32 image.",
            builder=_conv,
            paper_point="pre_bn",
            forward_flops=partial(_conv_flops, convolutions=1),
            layer_products=lambda width: width**2 * (9 * 64),
        ),
        ArchSpec(
            name="convres",
            about="As `conv`, with a residual block of two 3×3 convolutions for each convolution.",
            builder=partial(_conv, residual=True),
            paper_point="out",
            forward_flops=partial(_conv_flops, convolutions=2),
            layer_products=lambda width: width**2 * (9 * 64),
        ),
    )
)
"""Architectures with a name of their own, each declared once. Any other name is a classifier of torchvision."""


def markdown_table() -> str:
    """Return the table of the architectures, for the documentation."""
    head = ("architecture", "network", "capture points", "depth and width", "FLOPs")
    own = [(f"`{name}`", spec.about, spec) for name, spec in ARCHITECTURES.items()]
    others = torchvision_spec("torchvision")
    families = [(f"torchvision: {name}", family.about, others) for name, family in CIFAR_FAMILIES.items()]
    lines = [
        (
            name,
            about,
            ", ".join(f"`{point}`{' (paper)' if point == spec.paper_point else ''}" for point in spec.points),
            "yes" if spec.sized else "0",
            "counted" if spec.forward_flops else "not known",
        )
        for name, about, spec in [*own, *families, ("torchvision: others", others.about, others)]
    ]
    return markdown_grid(head, lines)
