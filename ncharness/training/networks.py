"""The paper's networks MLP-L-H, CONV-L-H and CONVRES-L-H with named capture points, and torchvision's by name.

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
from typing import Any, Literal

import torch
from torch import nn

from ncharness.training.torchvision_names import check_classifier

CIFAR_FAMILIES = ("resnet", "resnext", "wide_resnet", "vgg", "densenet")
"""How the names begin of the classifiers of torchvision for which there is a CIFAR stem."""


def build(arch: str, *, depth: int, width: int, in_shape: Sequence[int], n_classes: int) -> nn.Module:
    """A network of `depth` counted blocks of `width` units or channels, for samples of shape `in_shape`.

    - `mlp`: flatten; L x {linear, BN, ReLU}; linear. Each f_i has H numbers.
    - `conv`: a stem of two 2x2 convolutions of stride 2; L x {3x3 convolution, BN, ReLU}; linear. Each f_i has
      shape (H, height / 4, width / 4): 64 H numbers for a 32 x 32 image.
    - `convres`: the same with `ResidualBlock`s.
    - a classifier of torchvision by name: `torchvision_model`, of ResNet, VGG and DenseNet with the CIFAR stem. Its
      layers are its own: `depth` and `width` are 0.

    `conv` and `convres` need `in_shape` = (C, height, width) with both sides divisible by 4, classifiers of torchvision
    a shape that they can take; ValueError otherwise.
    Source: arXiv:2202.09028 and the code published with it; what that leaves open is said at `ResidualBlock`.
    """
    shape = tuple(in_shape)
    if not shape:
        raise ValueError("in_shape: expected the sizes of one sample, such as (1, 8, 8), got ()")
    for size in shape:
        _check_count("in_shape", size)
    if arch not in ARCHITECTURES:
        return _classifier(arch, depth, width, shape, n_classes)
    for name, value in (("depth", depth), ("width", width), ("n_classes", n_classes)):
        _check_count(name, value)
    return ARCHITECTURES[arch].builder(depth, width, shape, n_classes)


def capture_points(arch: str, *, depth: int, points: Sequence[str] = ("paper",)) -> list[str]:
    """The layer names to capture, in execution order and each once, such as `block01.pre_bn`, `block02.pre_bn`.

    `points` are some of `pre_bn`, `out` and `paper`: what the reference code records, which is `pre_bn` for `mlp`
    and `conv` and `out` for `convres`. The two are not comparable across architectures.
    """
    _check_arch(arch)
    _check_count("depth", depth)
    paper = ARCHITECTURES[arch].paper_point
    wanted = {paper if point == "paper" else point for point in points}
    if isinstance(points, str) or not wanted or wanted - {"pre_bn", "out"}:
        raise ValueError(f"points: expected some of paper, pre_bn, out, got {points!r}")
    return [f"{block}.{point}" for block in _block_names(depth) for point in ("pre_bn", "out") if point in wanted]


def measured_layers(model: nn.Module, arch: str, *, depth: int, points: Sequence[str] = ("paper",)) -> dict[str, str]:
    """The modules of a network of `build` whose outputs are measured, by layer name, in execution order.

    For the paper's networks, `capture_points`, where the layer has the module's name. A classifier of torchvision has
    one point, `out`, which is its `paper` too, so that module `layer1.0` is layer `layer1.0.out`:

    - ResNet: every residual block, and the pooled features, which the head reads;
    - VGG: every ReLU between the convolutions, and the pooled features;
    - DenseNet: every dense block, and the last batch norm, before its ReLU and pooling, which are no modules;
    - any other: its top-level modules, those of a sequence one by one, but dropout, flattening and the logits.
    """
    if arch in ARCHITECTURES:
        return {name: name for name in capture_points(arch, depth=depth, points=points)}
    if isinstance(points, str) or not points or set(points) - {"paper", "out"}:
        raise ValueError(f"points: expected paper or out for {arch}, which has no other, got {points!r}")
    return {f"{name}.out": name for name in _layers_of_classifier(model)}


def torchvision_model(
    name: str, *, n_classes: int, stem: Literal["imagenet", "cifar"] = "imagenet", in_channels: int = 3
) -> nn.Module:
    """A torchvision classifier with untrained weights, such as `resnet18`: (n, 3, h, w) to logits (n, n_classes).

    `stem="cifar"` fits ResNet (ResNeXt and wide ResNet too), VGG and DenseNet to images of 32 x 32 pixels, as the
    literature runs them (Papyan, Han & Donoho 2020; Zhu et al. 2021), for images of `in_channels` channels:

    - ResNet, DenseNet: the first convolution is 3x3 with stride 1, the pooling after it is gone;
    - VGG: the last feature map is averaged to one pixel, and one linear layer of its 512 channels is the head.

    New layers are initialised as torchvision initialises that family. Raises ValueError for a name that torchvision
    does not know, with close matches, and for another family.
    """
    if stem not in ("imagenet", "cifar"):
        raise ValueError(f"stem: expected one of imagenet, cifar, got {stem!r}")
    _check_count("n_classes", n_classes)
    _check_count("in_channels", in_channels)
    if stem == "imagenet" and in_channels != 3:
        raise ValueError(f"in_channels: expected 3 with the imagenet stem, got {in_channels}")
    check_classifier(name, argument="name")
    import torchvision.models

    # These two return auxiliary logits besides, and warn unless told how to initialise (as they do by default).
    special = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=n_classes, **special)
    if stem == "cifar":
        _fit_to_small_images(model, name, n_classes, in_channels)
    return model


def _fit_to_small_images(model: Any, name: str, n_classes: int, in_channels: int) -> None:
    from torchvision.models import DenseNet, ResNet
    from torchvision.models.vgg import VGG

    if isinstance(model, ResNet):
        model.conv1 = _first_convolution(model.conv1, in_channels)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    elif isinstance(model, DenseNet):
        model.features.conv0 = _first_convolution(model.features.conv0, in_channels)
        nn.init.kaiming_normal_(model.features.conv0.weight)
        model.features.pool0 = nn.Identity()
    elif isinstance(model, VGG):
        if in_channels != 3:
            model.features[0] = _first_convolution(model.features[0], in_channels)
            nn.init.kaiming_normal_(model.features[0].weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(model.features[0].bias)
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        model.classifier = nn.Linear(512, n_classes)
        nn.init.normal_(model.classifier.weight, 0, 0.01)
        nn.init.zeros_(model.classifier.bias)
    else:
        raise ValueError(f"stem: cifar is known for ResNet, VGG and DenseNet, got {name!r}")


def _classifier(arch: str, depth: int, width: int, shape: tuple[int, ...], n_classes: int) -> nn.Module:
    check_classifier(arch, argument="arch", instead=f"{', '.join(ARCHITECTURES)} or ")
    for name, value in (("depth", depth), ("width", width)):
        if value != 0:
            raise ValueError(f"{name}: expected 0 for {arch}, whose layers are its own, got {value!r}")
    if len(shape) != 3:
        raise ValueError(f"in_shape: {arch} expected (channels, height, width), got {shape}")
    if arch.startswith(CIFAR_FAMILIES):
        model = torchvision_model(arch, n_classes=n_classes, stem="cifar", in_channels=shape[0])
    else:
        model = torchvision_model(arch, n_classes=n_classes, in_channels=shape[0])
    model.eval()  # nothing is drawn, and no statistics move
    try:
        with torch.no_grad():
            model(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f"in_shape: {arch} cannot take samples of {shape}: {error}") from None
    return model.train()


def _layers_of_classifier(model: Any) -> list[str]:
    from torchvision.models import DenseNet, ResNet
    from torchvision.models.vgg import VGG

    if isinstance(model, ResNet):
        stages = ("layer1", "layer2", "layer3", "layer4")
        return [*(f"{stage}.{i}" for stage in stages for i in range(len(getattr(model, stage)))), "avgpool"]
    if isinstance(model, DenseNet):
        blocks = [name for name, _ in model.features.named_children() if name.startswith("denseblock")]
        return [*(f"features.{name}" for name in blocks), "features.norm5"]
    if isinstance(model, VGG):
        return [*(f"features.{i}" for i, of in enumerate(model.features) if isinstance(of, nn.ReLU)), "avgpool"]
    layers: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if type(child) in (nn.Sequential, nn.ModuleList):  # no subclass: those are blocks
            layers |= {f"{name}.{inner}": of for inner, of in child.named_children()}
        else:
            layers[name] = child
    return [name for name, of in layers.items() if not isinstance(of, (nn.Dropout, nn.Flatten))][:-1]


def _first_convolution(of: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """3x3, stride 1, to as many channels as the one that it replaces."""
    return nn.Conv2d(in_channels, of.out_channels, kernel_size=3, padding=1, bias=of.bias is not None)


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
    blocks = [_named(pre_bn=nn.Linear(sizes[i], width), bn=nn.BatchNorm1d(width), out=nn.ReLU()) for i in range(depth)]
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
            _named(
                pre_bn=nn.Conv2d(width, width, kernel_size=3, padding=1),
                bn=nn.BatchNorm2d(width),
                out=nn.ReLU(),
            )
            for _ in range(depth)
        ]
    head = nn.Linear(width * (height // 4) * (breadth // 4), n_classes)
    return _network({"stem": stem}, blocks, {"flatten": nn.Flatten(), "head": head})


def _network(before: dict[str, nn.Module], blocks: Sequence[nn.Module], after: dict[str, nn.Module]) -> nn.Sequential:
    named = dict(zip(_block_names(len(blocks)), blocks, strict=True))
    return _named(**before, **named, **after)


def _named(**children: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(children))


def _block_names(depth: int) -> list[str]:
    digits = max(2, len(str(depth)))  # so that the names sort
    return [f"block{i:0{digits}d}" for i in range(1, depth + 1)]


def _check_arch(arch: str) -> None:
    if arch not in ARCHITECTURES:
        raise ValueError(f"arch: expected one of {', '.join(ARCHITECTURES)}, got {arch!r}")


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


@dataclass(frozen=True, kw_only=True)
class ArchSpec:
    """An architecture of depth L and width H: all that building, measuring, planning and help texts know of it.

    Attributes:
        name: Value of `RunConfig.arch`.
        about: Description for help texts.
        builder: Function from depth, width, shape of a sample and number of classes to a network whose counted blocks
            are the children `block01`, `block02`, ..., each with the children `pre_bn` and `out`.
        paper_point: Capture point that the reference code of arXiv:2202.09028 records, `pre_bn` or `out`.
        forward_flops: Function of the same arguments: floating-point operations of a forward pass of one sample.
        layer_products: Function from the width to the multiplications of one block for one sample, roughly, for
            estimates of time.
    """

    name: str
    about: str
    builder: Callable[[int, int, tuple[int, ...], int], nn.Module]
    paper_point: Literal["pre_bn", "out"]
    forward_flops: Callable[[int, int, Sequence[int], int], int]
    layer_products: Callable[[int], float]


ARCHITECTURES: dict[str, ArchSpec] = {
    spec.name: spec
    for spec in (
        ArchSpec(
            name="mlp",
            about="L fully connected layers of H units",
            builder=_mlp,
            paper_point="pre_bn",
            forward_flops=_mlp_flops,
            layer_products=lambda width: width**2,
        ),
        ArchSpec(
            name="conv",
            about="L convolutions of H channels behind a stem",
            builder=_conv,
            paper_point="pre_bn",
            forward_flops=partial(_conv_flops, convolutions=1),
            layer_products=lambda width: width**2 * (9 * 64),
        ),
        ArchSpec(
            name="convres",
            about="the same of residual blocks",
            builder=partial(_conv, residual=True),
            paper_point="out",
            forward_flops=partial(_conv_flops, convolutions=2),
            layer_products=lambda width: width**2 * (9 * 64),
        ),
    )
}
"""The architectures with a depth and a width, each declared once. Any other name is a classifier of torchvision."""
