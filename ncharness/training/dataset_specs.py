"""Data sets by name: their declarations, and the functions that read them.

Nothing here touches the global random states, and nothing is downloaded unless asked for. torchvision, scikit-learn and
mnist1d are imported when a set needs them.
"""

import difflib
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

from ncharness.metrics.specs import by_name, markdown_grid
from ncharness.training.label_noise import balanced_order


class Parts(NamedTuple):
    """Stored values of a data set, and the function that makes inputs of them once the samples are chosen."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    n_classes: int
    finish: Callable[[Tensor], Tensor]


class Sizes(NamedTuple):
    """Sizes of a data set that are known without reading it."""

    shape: tuple[int, ...]  # of one input
    n_train: int
    n_test: int
    n_classes: int


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A data set with a name of its own: all that loading, planning and help texts know of it.

    Attributes:
        name: Value of `RunConfig.data`.
        about: Description for the documentation, in Markdown.
        normalisation: Preparation and normalisation of the inputs, in Markdown.
        source: Origin of the data, in Markdown.
        read: Function from a data root, or None, and the permission to download to the stored parts.
        sizes: Shape of an input, numbers of samples and of classes; None where they are known only once it is read:
            then no FLOPs are counted, and estimates of time take 4,000 samples.
        needs_root: Whether it is read from a torchvision data root.
    """

    name: str
    about: str
    normalisation: str
    source: str
    read: Callable[[Path | None, bool], Parts]
    sizes: Sizes | None
    needs_root: bool = False


def known() -> list[str]:
    """Return the names of all data sets, and the forms of those that name a folder or another set."""
    return [*DATASETS, "folder:<path>", "shuffled:<name>"]


def sizes_of(name: str) -> Sizes | None:
    """Return the sizes of a data set; None where they are known only once it is read (`folder:<path>`)."""
    spec = DATASETS.get(name.removeprefix("shuffled:"))
    return spec.sizes if spec else None


def needs_root(name: str) -> bool:
    """Return whether a data set is read from a torchvision data root."""
    spec = DATASETS.get(name)
    return spec is not None and spec.needs_root


def read_parts(name: str, root: Path | None, download: bool) -> Parts:
    """Read a data set by name.

    Args:
        name: Name in DATASETS, or one of two forms. `folder:<path>` are RGB images of one size in <path>/train/<class>/
            and <path>/test/<class>/, normalised by the mean and standard deviation of each channel over the training
            part. `shuffled:<name>` is another set with its labels permuted among the samples, once and for all, in the
            training and in the test part: a control, as labels then say nothing about inputs.
        root: Data root for the sets that need one.
        download: Whether files may be fetched into it.

    Returns:
        The stored parts.

    Raises:
        ValueError: An unknown name, or a path that is not absolute.
        FileNotFoundError: Files that are not there.
    """
    if name in DATASETS:
        return DATASETS[name].read(root, download)
    if name.startswith("shuffled:"):
        parts = read_parts(name.removeprefix("shuffled:"), root, download)
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
    close = difflib.get_close_matches(name, known(), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ValueError(f"name: expected one of {', '.join(known())}, got {name!r}{hint}")


def markdown_table() -> str:
    """Return the table of the data sets, for the documentation."""
    head = ("data set", "samples", "inputs", "training, test", "classes", "preparation", "source")
    lines = []
    for spec in DATASETS.values():
        sizes = ("known once it is read", "", "")
        if spec.sizes is not None:
            shape, n_train, n_test, n_classes = spec.sizes
            sizes = (" × ".join(map(str, shape)), f"{n_train:,}, {n_test:,}", str(n_classes))
        source = f"{spec.source}; needs `--data-root`" if spec.needs_root else spec.source
        lines.append((f"`{spec.name}`", spec.about, *sizes, spec.normalisation, source))
    return markdown_grid(head, lines)


def _digits(_: Path | None, __: bool) -> Parts:
    from sklearn.datasets import load_digits

    stored = load_digits()
    images = torch.from_numpy(stored.images).unsqueeze(1) / 16
    labels = torch.from_numpy(stored.target).long()
    order = torch.from_numpy(balanced_order(labels.numpy()))
    train, test = order[:1400], order[1400:]
    mean, std = images[train].mean(), images[train].std(correction=0)
    return Parts(images[train], labels[train], images[test], labels[test], 10, lambda x: ((x - mean) / std).float())


def _mnist1d(_: Path | None, __: bool) -> Parts:
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
    return Parts(train_x, train_y.long(), test_x, test_y.long(), 10, lambda x: x.float())


class _Stored(NamedTuple):
    """A set of torchvision: its class there, its files below the root, its layout, and constants to normalise with."""

    cls: str
    files: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: Callable[[Tensor], Tensor] = lambda stored: stored  # to (n, C, height, width)
    part: Callable[[bool], dict[str, Any]] = lambda train: {"train": train}
    labels: str = "targets"


def _torchvision(name: str, stored: _Stored, n_classes: int, root: Path | None, download: bool) -> Parts:
    remedy = "--data-root or $NCHARNESS_DATA names a torchvision data root, --download fetches the files into it"
    if root is None:
        raise FileNotFoundError(f"root: expected a folder with {stored.files} for {name}, got none; {remedy}")

    import torchvision.datasets

    def read(train: bool) -> tuple[Tensor, Tensor]:
        part = getattr(torchvision.datasets, stored.cls)(root, **stored.part(train), download=download)
        return stored.images(torch.as_tensor(part.data)), torch.as_tensor(getattr(part, stored.labels)).long()

    try:
        with warnings.catch_warnings():
            # numpy 2.4.0 to 2.4.4 warn of the old pickles in which CIFAR is stored (pytorch/vision#9340).
            warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed as")
            train, test = read(train=True), read(train=False)
    except (RuntimeError, OSError) as error:
        raise FileNotFoundError(
            f"root: expected {stored.files} for {name} below {root}, got: {error}; {remedy}"
        ) from error
    finish = partial(_normalised, mean=torch.tensor(stored.mean), std=torch.tensor(stored.std))
    return Parts(*train, *test, n_classes, finish)


def _folder(path: Path) -> Parts:
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
    return Parts(train_x, train_y, test_x, test_y, len(train.classes), finish)


def _normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images (n, C, height, width) as float32, divided by 255, less the mean, over the deviation."""
    pixels = images.to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.div_(255).sub_(mean[:, None, None]).div_(std[:, None, None])


def _padded(images: Tensor) -> Tensor:
    return torch.nn.functional.pad(images.unsqueeze(1), (2, 2, 2, 2))


def _channels_first(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2)


def _of_torchvision(name: str, about: str, normalisation: str, sizes: Sizes, stored: _Stored) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        about=about,
        normalisation=normalisation,
        source=f"`torchvision.datasets.{stored.cls}`",
        read=partial(_torchvision, name, stored, sizes.n_classes),
        sizes=sizes,
        needs_root=True,
    )


_IDX = "raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"
_MNIST = ((0.1307,), (0.3081,))
_CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
_CIFAR100_WORDS = "mean (0.5071, 0.4865, 0.4409), standard deviation (0.2673, 0.2564, 0.2762)"

DATASETS: dict[str, DatasetSpec] = by_name(
    (
        DatasetSpec(
            name="digits",
            about="scikit-learn's 8×8 digits, 140 of each for training",
            normalisation="divided by 16 and standardised by one mean and standard deviation over all pixels of the "
            "training part",
            source="`sklearn.datasets.load_digits`",
            read=_digits,
            sizes=Sizes((1, 8, 8), 1_400, 397, 10),
        ),
        DatasetSpec(
            name="mnist1d",
            about="MNIST-1D with its default arguments and seed 42",
            normalisation="none",
            source="`mnist1d.data.make_dataset`",
            read=_mnist1d,
            sizes=Sizes((40,), 4_000, 1_000, 10),
        ),
        _of_torchvision(
            "mnist",
            "MNIST",
            "padded by zeros to 32×32, then normalised by 0.1307 and 0.3081, as in the reference code",
            Sizes((1, 32, 32), 60_000, 10_000, 10),
            _Stored("MNIST", f"MNIST/{_IDX}", *_MNIST, images=_padded),
        ),
        _of_torchvision(
            "fashion_mnist",
            "Fashion-MNIST",
            "as `mnist`, by the constants of MNIST, as in the reference code",
            Sizes((1, 32, 32), 60_000, 10_000, 10),
            _Stored("FashionMNIST", f"FashionMNIST/{_IDX}", *_MNIST, images=_padded),
        ),
        _of_torchvision(
            "cifar10",
            "CIFAR-10",
            f"normalised by the constants of CIFAR-100, as in the reference code: {_CIFAR100_WORDS}",
            Sizes((3, 32, 32), 50_000, 10_000, 10),
            _Stored(
                "CIFAR10",
                "cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}",
                *_CIFAR100,
                images=_channels_first,
            ),
        ),
        _of_torchvision(
            "cifar100",
            "CIFAR-100 with its fine labels",
            f"normalised by its constants: {_CIFAR100_WORDS}",
            Sizes((3, 32, 32), 50_000, 10_000, 100),
            _Stored("CIFAR100", "cifar-100-python/{train,test,meta}", *_CIFAR100, images=_channels_first),
        ),
        _of_torchvision(
            "svhn",
            "SVHN",
            "normalised by (0.4377, 0.4438, 0.4728) and (0.1980, 0.2010, 0.1970)",
            Sizes((3, 32, 32), 73_257, 26_032, 10),
            _Stored(
                "SVHN",
                "{train,test}_32x32.mat",
                (0.4377, 0.4438, 0.4728),
                (0.1980, 0.2010, 0.1970),
                part=lambda train: {"split": "train" if train else "test"},
                labels="labels",
            ),
        ),
    )
)
"""The data sets with a name of their own, each declared once."""
