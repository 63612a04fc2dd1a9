"""The classifiers of torchvision by name: their check, building with stems for small images, and measured layers.

torchvision is imported when one of them is asked for.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from ncharness.metrics.specs import by_name

MULTIPLICATIONS = 5.6e8
"""Multiplications of a ResNet-18 with the CIFAR stem for an image of 32 x 32 pixels: the estimate for every classifier
of torchvision."""


def check_classifier(name: str, *, argument: str, instead: str = "") -> None:
    """Raise ValueError, with close matches, unless torchvision has a classifier of that name.

    Args:
        name: Name of a classifier, such as `resnet18`.
        argument: Argument that the message is about.
        instead: Alternatives to a classifier of torchvision, for the message.

    Raises:
        ValueError: An unknown name, or torchvision is not installed.
    """
    try:
        known = _names()
    except ModuleNotFoundError:
        wanted = f"{instead}a classifier of torchvision, which is not installed (pip install 'ncharness[claims]')"
        raise ValueError(f"{argument}: expected {wanted}, got {name!r}") from None
    if name not in known:
        close = difflib.get_close_matches(name, known) if isinstance(name, str) else []
        hint = f"did you mean {' or '.join(close)}?" if close else "torchvision.models.list_models() lists all"
        raise ValueError(f"{argument}: expected {instead}a classifier of torchvision, got {name!r}; {hint}")


@cache
def _names() -> tuple[str, ...]:
    import torchvision.models

    return tuple(torchvision.models.list_models(module=torchvision.models))


def torchvision_model(
    name: str, *, n_classes: int, stem: Literal["imagenet", "cifar"] = "imagenet", in_channels: int = 3
) -> nn.Module:
    """Build a torchvision classifier with untrained weights: images (n, in_channels, h, w) to logits (n, n_classes).

    Args:
        name: Name of the classifier, such as `resnet18`.
        n_classes: Number of outputs.
        stem: `imagenet` for the network as torchvision has it; `cifar` for one that is fitted to images of 32 x 32
            pixels, for the families in CIFAR_FAMILIES. New layers are initialised as torchvision initialises the
            family.
        in_channels: Channels of the images; other than 3 with the CIFAR stem only.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: A name that torchvision does not know, with close matches, or a family without a CIFAR stem.

    References:
        CIFAR stems are those of Papyan, Han & Donoho (2020) and Zhu et al. (arXiv:2105.02375).
    """
    if stem not in ("imagenet", "cifar"):
        raise ValueError(f"stem: expected one of imagenet, cifar, got {stem!r}")
    for argument, value in (("n_classes", n_classes), ("in_channels", in_channels)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{argument}: expected integers of at least 1, got {value!r}")
    if stem == "imagenet" and in_channels != 3:
        raise ValueError(f"in_channels: expected 3 with the imagenet stem, got {in_channels}")
    check_classifier(name, argument="name")
    family = family_of(name)
    if stem == "cifar" and family is None:
        families = [each.name for each in CIFAR_FAMILIES.values()]
        raise ValueError(f"stem: cifar is known for {', '.join(families[:-1])} and {families[-1]}, got {name!r}")
    import torchvision.models

    # These two return auxiliary logits besides, and warn unless told how to initialise (as they do by default).
    special = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=n_classes, **special)
    if stem == "cifar" and family is not None:
        family.fit(model, n_classes, in_channels)
    return model


def classifier(name: str, depth: int, width: int, shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """Build a torchvision classifier for samples of a shape, with the CIFAR stem where its family has one.

    Args:
        name: Name of the classifier.
        depth: 0, as its layers are its own.
        width: 0 likewise.
        shape: Shape of a sample: (channels, height, width).
        n_classes: Number of outputs.

    Returns:
        The network, in training mode.

    Raises:
        ValueError: A depth or width other than 0, or a shape that the network cannot take.
    """
    for argument, value in (("depth", depth), ("width", width)):
        if value != 0:
            raise ValueError(f"{argument}: expected 0 for {name}, whose layers are its own, got {value!r}")
    if len(shape) != 3:
        raise ValueError(f"in_shape: {name} expected (channels, height, width), got {shape}")
    stem: Literal["imagenet", "cifar"] = "imagenet" if family_of(name) is None else "cifar"
    model = torchvision_model(name, n_classes=n_classes, stem=stem, in_channels=shape[0])
    model.eval()  # nothing is drawn, and no statistics move
    try:
        with torch.no_grad():
            model(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f"in_shape: {name} cannot take samples of {shape}: {error}") from None
    return model.train()


def classifier_layers(name: str, model: nn.Module, points: Sequence[str]) -> dict[str, str]:
    """Return the modules of a torchvision classifier whose outputs are measured, by layer name.

    A classifier has one capture point, `out`, so that the module `layer1.0` is the layer `layer1.0.out`. The modules
    are those of its family in CIFAR_FAMILIES. Of any other classifier they are the top-level modules, those of a
    sequence one by one, without dropout, flattening and the logits.

    Args:
        name: Name of the classifier.
        model: The network.
        points: Capture points: `paper` or `out`, which are the same.

    Returns:
        Names of modules by names of layers, in the order of execution.

    Raises:
        ValueError: Another capture point.
    """
    if isinstance(points, str) or not points or set(points) - {"paper", "out"}:
        raise ValueError(f"points: expected paper or out for {name}, which has no other, got {points!r}")
    family = family_of(name)
    modules = _top_level(model) if family is None else family.layers(model)
    return {f"{module}.out": module for module in modules}


@dataclass(frozen=True, kw_only=True)
class Family:
    """Classifiers of torchvision with a CIFAR stem and measured layers of their own.

    Attributes:
        name: Name in messages.
        begins: Beginnings of the names of its classifiers.
        about: Stem and measured layers, in words.
        fit: Function that fits a network to small images, from the network, the number of classes and of channels.
        layers: Function from a network to the names of the modules whose outputs are measured.
    """

    name: str
    begins: tuple[str, ...]
    about: str
    fit: Callable[[Any, int, int], None]
    layers: Callable[[Any], list[str]]


def family_of(name: str) -> Family | None:
    """Return the family of a classifier, or None where it has no CIFAR stem."""
    return next((family for family in CIFAR_FAMILIES.values() if name.startswith(family.begins)), None)


def _first_convolution(of: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """3x3, stride 1, to as many channels as the one that it replaces."""
    return nn.Conv2d(in_channels, of.out_channels, kernel_size=3, padding=1, bias=of.bias is not None)


def _fit_resnet(model: Any, _: int, in_channels: int) -> None:
    model.conv1 = _first_convolution(model.conv1, in_channels)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


def _resnet_layers(model: Any) -> list[str]:
    stages = ("layer1", "layer2", "layer3", "layer4")
    return [*(f"{stage}.{i}" for stage in stages for i in range(len(getattr(model, stage)))), "avgpool"]


def _fit_vgg(model: Any, n_classes: int, in_channels: int) -> None:
    if in_channels != 3:
        model.features[0] = _first_convolution(model.features[0], in_channels)
        nn.init.kaiming_normal_(model.features[0].weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(model.features[0].bias)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Linear(512, n_classes)
    nn.init.normal_(model.classifier.weight, 0, 0.01)
    nn.init.zeros_(model.classifier.bias)


def _vgg_layers(model: Any) -> list[str]:
    return [*(f"features.{i}" for i, of in enumerate(model.features) if isinstance(of, nn.ReLU)), "avgpool"]


def _fit_densenet(model: Any, _: int, in_channels: int) -> None:
    model.features.conv0 = _first_convolution(model.features.conv0, in_channels)
    nn.init.kaiming_normal_(model.features.conv0.weight)
    model.features.pool0 = nn.Identity()


def _densenet_layers(model: Any) -> list[str]:
    blocks = [name for name, _ in model.features.named_children() if name.startswith("denseblock")]
    return [*(f"features.{name}" for name in blocks), "features.norm5"]


def _top_level(model: nn.Module) -> list[str]:
    layers: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if type(child) in (nn.Sequential, nn.ModuleList):  # no subclass: those are blocks
            layers |= {f"{name}.{inner}": of for inner, of in child.named_children()}
        else:
            layers[name] = child
    return [name for name, of in layers.items() if not isinstance(of, (nn.Dropout, nn.Flatten))][:-1]


CIFAR_FAMILIES: dict[str, Family] = by_name(
    (
        Family(
            name="ResNet",
            begins=("resnet", "resnext", "wide_resnet"),
            about="The first convolution is 3x3 with stride 1, and the pooling after it is gone. Measured are every "
            "residual block and the pooled features, which the head reads.",
            fit=_fit_resnet,
            layers=_resnet_layers,
        ),
        Family(
            name="VGG",
            begins=("vgg",),
            about="The last feature map is averaged to one pixel, and one linear layer of its 512 channels is the "
            "head. Measured are every ReLU between the convolutions and the pooled features.",
            fit=_fit_vgg,
            layers=_vgg_layers,
        ),
        Family(
            name="DenseNet",
            begins=("densenet",),
            about="The first convolution is 3x3 with stride 1, and the pooling after it is gone. Measured are every "
            "dense block and the last batch norm, before its ReLU and pooling, which are no modules.",
            fit=_fit_densenet,
            layers=_densenet_layers,
        ),
    )
)
"""Families of classifiers with a CIFAR stem, each declared once."""
