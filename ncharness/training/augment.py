"""Augmentation of training images, drawn by epoch and sample and carried out on the device where the images are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

AUGMENTATIONS = ("none", "crop_flip", "code")
"""`crop_flip`: a random crop after padding by 4 pixels and a random horizontal flip. `code`: then a random rotation by
up to 15 degrees besides, as the reference code of arXiv:2202.09028 does on CIFAR."""
PADDING = 4
DEGREES = 15.0


@dataclass(frozen=True, eq=False)
class Draws:
    """Random crops, flips and angles for n images, drawn on the CPU so that they are the same on every device."""

    shift: Tensor  # (n, 2) float32, pixels to the right and downwards from which the crop is taken, in [-4, 4]
    flip: Tensor  # (n,) float32, -1 where flipped, else 1
    angle: Tensor  # (n,) float32, radians

    def at(self, chosen: Tensor) -> "Draws":
        """Select the draws for some images, by index."""
        return Draws(self.shift[chosen], self.flip[chosen], self.angle[chosen])


def draw(kind: str, n: int, *, seed: int, device: torch.device) -> Draws:
    """Draw for one epoch and n images, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    shift = torch.randint(-PADDING, PADDING + 1, (n, 2), generator=generator).float()
    flip = 1.0 - 2.0 * torch.randint(0, 2, (n,), generator=generator).float()
    widest = math.radians(DEGREES) if kind == "code" else 0.0
    angle = (2.0 * torch.rand(n, generator=generator) - 1.0) * widest
    return Draws(shift.to(device), flip.to(device), angle.to(device))


def joined(draws: Sequence[Draws]) -> Draws:
    """Concatenate the draws for several sets of images."""
    return Draws(
        torch.cat([each.shift for each in draws]),
        torch.cat([each.flip for each in draws]),
        torch.cat([each.angle for each in draws]),
    )


def darkest(images: Tensor) -> Tensor:
    """(C, 1, 1): the least value of each channel of images (n, C, height, width): black, with which pixels are filled.

    The reference code fills before it normalises, so with black and not with the mean. Raises ValueError for inputs
    that are no square images.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"augment: expected square images (n, C, height, width), got {tuple(images.shape)}")
    return images.amin((0, 2, 3))[:, None, None]


def augmented(images: Tensor, draws: Draws, black: Tensor) -> Tensor:
    """Images (n, C, side, side) cropped, flipped and rotated, in this order and in one resampling by nearest pixel.

    Resampled once, as crop and flip move pixels onto pixels. What lies outside the padded image, or was cut off by the
    crop before it was rotated, is black.
    """
    side = images.shape[-1]
    centres = (2.0 * torch.arange(side, device=images.device) + 1.0) / side - 1.0  # of the pixels, in (-1, 1)
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    cos, sin = draws.angle.cos()[:, None, None], draws.angle.sin()[:, None, None]
    turned = torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)  # (n, side, side, 2), where each pixel is from
    inside = (turned.abs() < 1.0).all(-1)
    turned[..., 0] *= draws.flip[:, None, None]
    found = turned + (draws.shift * (2.0 / side))[:, None, None, :]
    inside &= (found.abs() < 1.0).all(-1)
    moved = functional.grid_sample(images, found, mode="nearest", padding_mode="border", align_corners=False)
    return torch.where(inside[:, None], moved, black)
