"""Data sets as plain tensors, with label noise of an exact, nested and recorded kind.

Nothing here is augmented or shuffled from run to run, and nothing touches the global random states: the data of a
name and an `n_train` are always the same, only the label noise depends on a seed.
"""

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ncharness.training.dataset_specs import Parts, read_parts
from ncharness.training.label_noise import balanced_order, corrupt, halves


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test set in a fixed order, on the CPU when loaded.

    Inputs are float32 of shape (n, ...), labels int64 in [0, n_classes). `train_y` are the labels to train on and
    to measure with, `noise_mask` says where they differ from `train_y_clean`. `second_x` and `second_y` are S2 with
    its correct labels where the training samples are S1 alone.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    train_y_clean: Tensor
    noise_mask: Tensor
    test_x: Tensor
    test_y: Tensor
    n_classes: int
    second_x: Tensor | None = None
    second_y: Tensor | None = None

    def to(self, device: torch.device) -> "Dataset":
        """The same with every tensor on a device."""
        tensors: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **tensors)

    def sharing(self, other: "Dataset") -> "Dataset":
        """The same with the tensors of `other` for all but the labels to train on, so that they are kept once.

        Raises ValueError where they are not equal.
        """
        shared = {name: value for name, value in vars(other).items() if name not in ("name", "train_y", "noise_mask")}
        for name, value in shared.items():
            mine = getattr(self, name)
            tensors = isinstance(mine, Tensor) and isinstance(value, Tensor)
            if not (mine is value or (torch.equal(mine, value) if tensors else mine == value)):
                raise ValueError(f"{name}: expected that of {other.name} in both data sets, got others")
        return dataclasses.replace(self, **shared)


def load(
    name: str,
    *,
    n_train: int | None = None,
    noise: float = 0.0,
    noise_kind: str = "exact",
    part: str = "all",
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Dataset:
    """Load a data set, with a fraction of its training labels corrupted.

    Training samples come in one fixed order in which every beginning is as balanced over the classes as it can be.

    Args:
        name: Name in `dataset_specs.DATASETS`, `folder:<path>` or `shuffled:<name>`; see `dataset_specs.read_parts`.
        n_train: Number of training samples; None for all. The first ones are taken, so smaller sets are parts of
            larger ones.
        noise: Fraction of corrupted training labels.
        noise_kind: `exact` or `reference`, as for `label_noise.corrupt`.
        part: `all`; or `first` or `both`, for the comparative bound: S1 and S2 of m = n_train / 2 samples each are
            drawn at random from the whole training part, m / n_classes of every class, without a common sample. `first`
            trains on S1; `both` on S1 and behind it S2, in which exactly noise * m labels are wrong.
        seed: Seed of the label noise; with halves also of the division, which depends on neither `part` nor `noise`.
            Of one seed, smaller halves are parts of larger ones.
        root: Data root of torchvision; None for $NCHARNESS_DATA.
        download: Whether files may be fetched into it.

    Returns:
        The data, on the CPU.

    Raises:
        ValueError: An unknown name or an impossible number.
        FileNotFoundError: Files that are not there.
        ModuleNotFoundError: A package that the data set needs is not installed.
    """
    parts = _read(name, root or os.environ.get("NCHARNESS_DATA"), download)
    available = len(parts.train_y)
    if n_train is not None and not 1 <= n_train <= available:
        raise ValueError(f"n_train: expected 1 to {available}, the training samples of {name}, got {n_train!r}")
    if part == "all":
        chosen = _whole(parts, n_train, noise, noise_kind, seed)
    else:
        chosen = _halved(parts, available if n_train is None else n_train, noise, noise_kind, part, seed)
    return Dataset(
        name=name,
        train_x=parts.finish(parts.train_x[chosen.samples]),
        train_y=chosen.noisy,
        train_y_clean=parts.train_y[chosen.samples],
        noise_mask=chosen.mask,
        test_x=parts.finish(parts.test_x),
        test_y=parts.test_y,
        n_classes=parts.n_classes,
        second_x=None if chosen.second is None else parts.finish(parts.train_x[chosen.second]),
        second_y=None if chosen.second is None else parts.train_y[chosen.second],
    )


class _Chosen(NamedTuple):
    """Training samples by index, their labels with noise, where these are wrong, and the samples of S2 alone."""

    samples: Tensor
    noisy: Tensor
    mask: Tensor
    second: Tensor | None = None


def _whole(parts: Parts, n_train: int | None, noise: float, noise_kind: str, seed: int) -> _Chosen:
    index = torch.from_numpy(balanced_order(parts.train_y.numpy())[:n_train])
    noisy, mask = corrupt(parts.train_y[index], fraction=noise, n_classes=parts.n_classes, kind=noise_kind, seed=seed)
    return _Chosen(index, noisy, mask)


def _halved(parts: Parts, n: int, noise: float, noise_kind: str, part: str, seed: int) -> _Chosen:
    """Choose S1, or S1 followed by S2 with wrong labels in S2."""
    first, second = halves(parts.train_y, n=n, seed=seed)
    m = len(first)
    if part not in ("first", "both"):
        raise ValueError(f"part: expected all, first or both, got {part!r}")
    if noise_kind != "exact" or (part == "first" and noise):
        raise ValueError(f"noise: expected exact noise, and none in S1, got {noise!r} {noise_kind} for part {part}")
    if not math.isclose(noise * m, round(noise * m), abs_tol=1e-9):
        raise ValueError(f"noise: expected a whole number of the {m} labels of S2, got {noise!r}: {noise * m:g}")
    index = first if part == "first" else torch.cat([first, second])
    wrong, hit = corrupt(parts.train_y[second], fraction=noise, n_classes=parts.n_classes, seed=seed)
    noisy = torch.cat([parts.train_y[index][:m], wrong])[: len(index)]
    mask = torch.cat([torch.zeros(m, dtype=torch.bool), hit])[: len(index)]
    return _Chosen(index, noisy, mask, second if part == "first" else None)


def _read(name: str, root: str | os.PathLike[str] | None, download: bool) -> Parts:
    try:
        return read_parts(name, Path(root).expanduser() if root else None, download)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"data set {name} needs {error.name}: pip install 'ncharness[claims]'", name=error.name
        ) from error
