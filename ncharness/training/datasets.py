"""Data sets as plain tensors, with label noise of an exact, nested and recorded kind.

Nothing here is augmented or shuffled from run to run, and nothing touches the global random states: the data of a
name and an `n_train` are always the same, only the label noise depends on a seed. Nothing is downloaded unless
asked for. torchvision, scikit-learn and mnist1d are imported when a set needs them.
"""

import dataclasses
import difflib
import math
import os
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

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


class _Parts(NamedTuple):
    """What a reader returns: stored values, and how to make inputs of them once the samples are chosen."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    n_classes: int
    finish: Callable[[Tensor], Tensor]


class _Source(NamedTuple):
    """A torchvision set: its class there, what it keeps below the root, and the constants to normalise with."""

    cls: str
    files: str
    n_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


_MNIST = ((0.1307,), (0.3081,))
_CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
_SVHN = ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))

_IDX = "raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"
_TORCHVISION = {
    "mnist": _Source("MNIST", f"MNIST/{_IDX}", 10, *_MNIST),
    "fashion_mnist": _Source("FashionMNIST", f"FashionMNIST/{_IDX}", 10, *_MNIST),
    "cifar10": _Source("CIFAR10", "cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}", 10, *_CIFAR100),
    "cifar100": _Source("CIFAR100", "cifar-100-python/{train,test,meta}", 100, *_CIFAR100),
    "svhn": _Source("SVHN", "{train,test}_32x32.mat", 10, *_SVHN),
}


class Sizes(NamedTuple):
    """What of a data set is known without reading it."""

    shape: tuple[int, ...]  # of one input
    n_train: int
    n_test: int
    n_classes: int


SIZES = {
    "digits": Sizes((1, 8, 8), 1_400, 397, 10),
    "mnist1d": Sizes((40,), 4_000, 1_000, 10),
    "mnist": Sizes((1, 32, 32), 60_000, 10_000, 10),
    "fashion_mnist": Sizes((1, 32, 32), 60_000, 10_000, 10),
    "cifar10": Sizes((3, 32, 32), 50_000, 10_000, 10),
    "cifar100": Sizes((3, 32, 32), 50_000, 10_000, 100),
    "svhn": Sizes((3, 32, 32), 73_257, 26_032, 10),
}
"""The sizes of the sets that have a name of their own: for plans (cost.py)."""

NEED_ROOT = tuple(_TORCHVISION)
"""The sets that are read from a torchvision data root."""
KNOWN = ("digits", "mnist1d", *NEED_ROOT, "folder:<path>", "shuffled:<name>")


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
    """The data set `name`, its first `n_train` training samples, with a fraction `noise` of their labels corrupted.

    - `digits`: scikit-learn's 8x8 digits, (1, 8, 8), 1,400 for training (140 of each) and 397 for testing; divided
      by 16 and standardised by one mean and standard deviation over all pixels of the 1,400.
    - `mnist1d`: generated by mnist1d with its default arguments and seed 42, (40,), 4,000 and 1,000.
    - `mnist`, `fashion_mnist`: padded by zeros to (1, 32, 32), then normalised by 0.1307 and 0.3081, MNIST's
      constants for both, as in the reference code.
    - `cifar10`, `cifar100`: (3, 32, 32), both normalised by CIFAR-100's constants, as in the reference code: mean
      (0.5071, 0.4865, 0.4409), standard deviation (0.2673, 0.2564, 0.2762). Not augmented.
    - `svhn`: (3, 32, 32), normalised by (0.4377, 0.4438, 0.4728) and (0.1980, 0.2010, 0.1970).
    - `folder:<path>`: RGB images of one size in <path>/train/<class>/ and <path>/test/<class>/, normalised by
      the mean and standard deviation of each channel over the whole training part. The path is absolute, as it
      stands for the data in a run's key. Its results are those of the files: JPEG copies of CIFAR-10 are not `cifar10`.
    - `shuffled:<name>`: one of these with its labels permuted among the samples, once and for all, in the training and
      in the test part: for controls, as labels then say nothing about inputs.

    Training samples come in one fixed order in which every beginning is as balanced over the classes as it can
    be; `n_train` takes a beginning, so smaller sets are parts of larger ones. `seed` drives the label noise and
    nothing else; see `corrupt`. `root` is a torchvision data root (None: $NCHARNESS_DATA); nothing is fetched into
    it without `download`.

    For the comparative bound (bound.py), `part` is `first` or `both`: of the whole training part, S1 and S2 of
    m = n_train / 2 samples each are drawn at random, m / n_classes of every class, without a common sample. `first`
    trains on S1; `both` on S1 and behind it S2, in which exactly noise * m labels are wrong. Then `seed` drives the
    division too; with one seed, S1 and S2 do not depend on `part` or `noise`, and smaller halves are parts of larger.

    Raises ValueError for an unknown name or an impossible number, FileNotFoundError for files that are not there.
    """
    place = root or os.environ.get("NCHARNESS_DATA")
    try:
        parts = _read(name, Path(place).expanduser() if place else None, download)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"data set {name} needs {error.name}: pip install 'ncharness[claims]'", name=error.name
        ) from error

    available = len(parts.train_y)
    if n_train is not None and not 1 <= n_train <= available:
        raise ValueError(f"n_train: expected 1 to {available}, the training samples of {name}, got {n_train!r}")
    second = None
    if part == "all":
        chosen = torch.from_numpy(balanced_order(parts.train_y.numpy())[:n_train])
        clean = parts.train_y[chosen]
        noisy, mask = corrupt(clean, fraction=noise, n_classes=parts.n_classes, kind=noise_kind, seed=seed)
    else:
        first, second = halves(parts.train_y, n=available if n_train is None else n_train, seed=seed)
        m = len(first)
        if part not in ("first", "both"):
            raise ValueError(f"part: expected all, first or both, got {part!r}")
        if noise_kind != "exact" or (part == "first" and noise):
            raise ValueError(f"noise: expected exact noise, and none in S1, got {noise!r} {noise_kind} for part {part}")
        if not math.isclose(noise * m, round(noise * m), abs_tol=1e-9):
            raise ValueError(f"noise: expected a whole number of the {m} labels of S2, got {noise!r}: {noise * m:g}")
        chosen = first if part == "first" else torch.cat([first, second])
        clean = parts.train_y[chosen]
        wrong, hit = corrupt(parts.train_y[second], fraction=noise, n_classes=parts.n_classes, seed=seed)
        noisy = torch.cat([clean[:m], wrong])[: len(chosen)]
        mask = torch.cat([torch.zeros(m, dtype=torch.bool), hit])[: len(chosen)]
    alone = second if part == "first" else None
    return Dataset(
        name=name,
        train_x=parts.finish(parts.train_x[chosen]),
        train_y=noisy,
        train_y_clean=clean,
        noise_mask=mask,
        test_x=parts.finish(parts.test_x),
        test_y=parts.test_y,
        n_classes=parts.n_classes,
        second_x=None if alone is None else parts.finish(parts.train_x[alone]),
        second_y=None if alone is None else parts.train_y[alone],
    )


def _read(name: str, root: Path | None, download: bool) -> _Parts:
    if name == "digits":
        return _digits()
    if name == "mnist1d":
        return _mnist1d()
    if name in _TORCHVISION:
        return _torchvision(name, root, download)
    if name.startswith("shuffled:"):
        parts = _read(name.removeprefix("shuffled:"), root, download)
        train, test = (
            labels[torch.from_numpy(np.random.default_rng(i).permutation(len(labels)))]
            for i, labels in enumerate((parts.train_y, parts.test_y))
        )
        return parts._replace(train_y=train, test_y=test)
    if name.startswith("folder:"):
        path = Path(name.removeprefix("folder:")).expanduser()
        if not path.is_absolute():  # the name stands for the data in a run's key, so it must mean one place
            raise ValueError(f"name: expected folder: and an absolute path, got {name!r}")
        return _folder(path)
    close = difflib.get_close_matches(name, KNOWN, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ValueError(f"name: expected one of {', '.join(KNOWN)}, got {name!r}{hint}")


def _digits() -> _Parts:
    from sklearn.datasets import load_digits

    stored = load_digits()
    images = torch.from_numpy(stored.images).unsqueeze(1) / 16
    labels = torch.from_numpy(stored.target).long()
    order = torch.from_numpy(balanced_order(labels.numpy()))
    train, test = order[:1400], order[1400:]
    mean, std = images[train].mean(), images[train].std(correction=0)
    return _Parts(images[train], labels[train], images[test], labels[test], 10, lambda x: ((x - mean) / std).float())


def _mnist1d() -> _Parts:
    # mnist1d seeds and draws from the global generators of Python and numpy: they are put back as they were.
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        from mnist1d.data import get_dataset_args, make_dataset

        arguments = get_dataset_args()
        arguments.seed = 42
        made = make_dataset(arguments)
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
    train_x, test_x, train_y, test_y = (torch.from_numpy(made[key]) for key in ("x", "x_test", "y", "y_test"))
    return _Parts(train_x, train_y.long(), test_x, test_y.long(), 10, lambda x: x.float())


def _torchvision(name: str, root: Path | None, download: bool) -> _Parts:
    source = _TORCHVISION[name]
    remedy = "--data-root or $NCHARNESS_DATA names a torchvision data root, --download fetches the files into it"
    if root is None:
        raise FileNotFoundError(f"root: expected a folder with {source.files} for {name}, got none; {remedy}")

    import torchvision.datasets

    def read(train: bool) -> tuple[Tensor, Tensor]:
        svhn = name == "svhn"  # which has its own words for things
        part = {"split": "train" if train else "test"} if svhn else {"train": train}
        stored = getattr(torchvision.datasets, source.cls)(root, **part, download=download)
        images = torch.as_tensor(stored.data)
        if name in ("mnist", "fashion_mnist"):
            images = torch.nn.functional.pad(images.unsqueeze(1), (2, 2, 2, 2))
        elif name in ("cifar10", "cifar100"):
            images = images.permute(0, 3, 1, 2)
        return images, torch.as_tensor(stored.labels if svhn else stored.targets).long()

    try:
        with warnings.catch_warnings():
            # numpy 2.4.0 to 2.4.4 warn of the old pickles in which CIFAR is stored (pytorch/vision#9340).
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed as")
            train, test = read(train=True), read(train=False)
    except (RuntimeError, OSError) as error:
        raise FileNotFoundError(
            f"root: expected {source.files} for {name} below {root}, got: {error}; {remedy}"
        ) from error
    finish = partial(_normalised, mean=torch.tensor(source.mean), std=torch.tensor(source.std))
    return _Parts(*train, *test, source.n_classes, finish)


def _folder(path: Path) -> _Parts:
    missing = [part for part in ("train", "test") if not (path / part).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"name: expected train/<class>/ and test/<class>/ below {path}, got no {' and no '.join(missing)}"
        )

    from torchvision.datasets import ImageFolder

    train, test = ImageFolder(path / "train"), ImageFolder(path / "test")
    if train.classes != test.classes:
        differing = sorted(set(train.classes) ^ set(test.classes))
        raise ValueError(f"name: expected the same classes in train and test of {path}, got one with {differing}")
    width, height = train[0][0].size

    def read(part: ImageFolder) -> tuple[Tensor, Tensor]:
        pixels = np.empty((len(part), height, width, 3), dtype=np.uint8)
        for i, (image, _) in enumerate(part):
            if image.size != (width, height):
                file = part.samples[i][0]
                raise ValueError(f"name: expected images of {(width, height)} pixels, got {image.size} in {file}")
            pixels[i] = image
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor(part.targets)

    (train_x, train_y), (test_x, test_y) = read(train), read(test)
    spread = [torch.std_mean(train_x[:, c].double(), correction=0) for c in range(3)]
    std, mean = (torch.stack(values) / 255 for values in zip(*spread, strict=True))
    std[std == 0] = 1.0  # a constant channel
    finish = partial(_normalised, mean=mean.float(), std=std.float())
    return _Parts(train_x, train_y, test_x, test_y, len(train.classes), finish)


def _normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images (n, C, height, width) as float32, divided by 255, less the mean, over the deviation."""
    pixels = images.to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.div_(255).sub_(mean[:, None, None]).div_(std[:, None, None])
