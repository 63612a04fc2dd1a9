"""Data sets are fixed, prepared as documented and never fetched unasked; label noise is exact, nested and recorded."""

import itertools
import os
import pickle
import random
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from ncharness.training import dataset_specs, datasets, label_noise

REAL_ROOT = os.environ.get("NCHARNESS_DATA")


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch):
    monkeypatch.delenv("NCHARNESS_DATA", raising=False)


def global_states():
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), [name, keys.tolist(), *rest], torch.get_rng_state().tolist()


def rows(x):
    return {row.numpy().tobytes() for row in x.flatten(1)}


# Label noise


LABELS = torch.arange(1000) % 10
FRACTIONS = (0.0, 0.1, 0.25, 0.5, 0.751, 1.0)


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize(("n", "n_classes"), [(1000, 10), (333, 3), (7, 2)])
def test_exact_noise_corrupts_exactly_that_many_and_always_wrongly(fraction, n, n_classes):
    clean = torch.arange(n) % n_classes
    noisy, mask = datasets.corrupt(clean, fraction=fraction, n_classes=n_classes, seed=5)
    assert mask.sum() == round(fraction * n)
    assert torch.equal(mask, noisy != clean)
    assert 0 <= noisy.min() <= noisy.max() < n_classes
    assert (noisy.dtype, mask.dtype) == (torch.int64, torch.bool)
    assert torch.equal(clean, torch.arange(n) % n_classes)  # the argument is left alone


@pytest.mark.parametrize("kind", ["exact", "reference"])
def test_noise_is_nested_with_the_same_wrong_labels(kind):
    drawn = [datasets.corrupt(LABELS, fraction=p, n_classes=10, kind=kind, seed=3) for p in FRACTIONS]
    assert not drawn[0][1].any()
    for (fewer, less), (more, larger) in itertools.pairwise(drawn):
        assert less.sum() < larger.sum()
        assert larger[less].all()
        assert torch.equal(fewer[less], more[less])


def test_reference_noise_leaves_one_in_k_of_the_replaced_labels_right():
    # 100,000 labels: the realised fraction has a standard deviation of at most 0.0016; 5 of them fail 6 in 10^7.
    clean = torch.arange(100_000) % 10
    for p in (0.1, 0.25, 0.5, 0.75, 1.0):
        noisy, mask = datasets.corrupt(clean, fraction=p, n_classes=10, kind="reference", seed=0)
        assert torch.equal(mask, noisy != clean)
        assert mask.double().mean().item() == pytest.approx(p * 0.9, abs=5 * 0.0016)


@pytest.mark.parametrize(("kind", "choices"), [("exact", 9), ("reference", 10)])
def test_replacements_are_uniform_over_the_classes_and_independent_of_the_label(kind, choices):
    clean = torch.arange(90_000) % 10
    noisy, _ = datasets.corrupt(clean, fraction=1.0, n_classes=10, kind=kind, seed=1)
    counts = torch.bincount(clean * 10 + noisy, minlength=100).reshape(10, 10).double()
    if kind == "exact":
        assert not counts.diagonal().any()
    expected = 9000 / choices
    allowed = counts if kind == "reference" else counts[~torch.eye(10, dtype=torch.bool)]
    # About 100 cells, each within 6 standard deviations: fails by chance 2 in 10^7.
    assert (allowed - expected).abs().max() < 6 * expected**0.5


@pytest.mark.parametrize("kind", ["exact", "reference"])
def test_which_labels_are_hit_says_nothing_about_what_they_become(kind):
    clean = torch.arange(90_000) % 10
    for fraction in (0.1, 0.5):
        noisy, mask = datasets.corrupt(clean, fraction=fraction, n_classes=10, kind=kind, seed=1)
        shifts = torch.bincount((noisy - clean)[mask] % 10, minlength=10).double()[1:]
        classes = torch.bincount(noisy[mask], minlength=10).double()
        for counts in (shifts, classes):
            # About 10 cells each time, within 6 standard deviations: fails by chance less than 2 in 10^7.
            assert (counts - counts.mean()).abs().max() < 6 * counts.mean() ** 0.5


def test_exact_noise_hits_every_class_and_position_alike():
    _, mask = datasets.corrupt(torch.arange(10_000) % 10, fraction=0.3, n_classes=10, seed=2)
    # Hypergeometric, standard deviation below 14.5; 20 groups of 1,000 within 5 of them: 1 in 10^5 by chance.
    assert (mask.reshape(10, 1000).sum(1) - 300).abs().max() < 5 * 14.5
    assert (mask.reshape(1000, 10).sum(0) - 300).abs().max() < 5 * 14.5


@pytest.mark.parametrize("kind", ["exact", "reference"])
def test_noise_is_repeatable_and_varies_with_the_seed(kind):
    first, again, other = (datasets.corrupt(LABELS, fraction=0.5, n_classes=10, kind=kind, seed=s) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    overlap = (first[1] & other[1]).sum() / first[1].sum()
    assert 0.3 < overlap < 0.7  # by chance, about a half


def test_the_draws_of_a_sample_do_not_depend_on_how_many_follow():
    short, _ = datasets.corrupt(LABELS[:400], fraction=0.5, n_classes=10, kind="reference", seed=4)
    long, _ = datasets.corrupt(LABELS, fraction=0.5, n_classes=10, kind="reference", seed=4)
    assert torch.equal(short, long[:400])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fraction": 1.01}, r"^fraction: .* got 1.01"),
        ({"fraction": float("nan")}, r"^fraction: .* got nan"),
        ({"kind": "uniform"}, r"^kind: expected exact or reference, got 'uniform'"),
        ({"n_classes": 9}, r"^labels: expected classes in \[0, 9\), got 0 to 9"),
        ({"labels": LABELS - 1}, r"^labels: expected classes in \[0, 10\), got -1 to 8"),
        ({"labels": LABELS.float()}, r"^labels: expected integers .* got torch.float32"),
        ({"labels": LABELS.reshape(10, 100)}, r"^labels: .* of \(10, 100\)"),
        ({"labels": torch.zeros(4, dtype=torch.int64), "n_classes": 1}, r"^n_classes: expected at least 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_corrupt_refuses_the_impossible(changes, message):
    labels = changes.get("labels", LABELS)
    arguments = {"fraction": 0.5, "n_classes": 10, "seed": 0, **changes}
    arguments.pop("labels", None)
    with pytest.raises(ValueError, match=message):
        datasets.corrupt(labels, **arguments)


# The sets that need no files


# Halves


HALVES_M, HALVES_P = 300, (0.0, 0.1, 0.25, 0.4)


def half(part, noise=0.0, *, n_train=2 * HALVES_M, seed=7):
    return datasets.load("digits", n_train=n_train, noise=noise, part=part, seed=seed)


def test_halves_are_balanced_disjoint_and_drawn_from_the_whole_training_part(digits):
    first, second = datasets.halves(digits.train_y, n=600, seed=7)
    assert len(first) == len(second) == 300
    assert not set(first.tolist()) & set(second.tolist())
    for part in (first, second):
        assert torch.bincount(digits.train_y[part]).tolist() == [30] * 10
    drawn = torch.cat([torch.cat(datasets.halves(digits.train_y, n=600, seed=seed)) for seed in range(20)])
    assert len(drawn.unique()) == 1400


def test_smaller_halves_are_the_beginnings_of_larger_ones(digits):
    small, large = (datasets.halves(digits.train_y, n=n, seed=7) for n in (200, 1400))
    for fewer, more in zip(small, large, strict=True):
        assert torch.equal(fewer, more[:100])


@pytest.mark.parametrize("noise", HALVES_P)
def test_the_corrupted_half_has_exactly_that_many_wrong_labels_and_the_first_none(noise):
    both = half("both", noise)
    assert len(both.train_y) == 2 * HALVES_M
    assert not both.noise_mask[:HALVES_M].any()
    assert both.noise_mask[HALVES_M:].sum() == round(noise * HALVES_M)
    assert torch.equal(both.noise_mask, both.train_y != both.train_y_clean)


@pytest.mark.parametrize("noise", HALVES_P)
def test_s1_is_the_same_in_both_families_and_s2_is_what_the_first_is_held_against(noise):
    first, both = half("first"), half("both", noise)
    assert torch.equal(first.train_x, both.train_x[:HALVES_M])
    assert torch.equal(first.train_y, both.train_y[:HALVES_M])
    assert torch.equal(first.second_x, both.train_x[HALVES_M:])
    assert torch.equal(first.second_y, both.train_y_clean[HALVES_M:])
    assert not first.noise_mask.any()
    assert both.second_x is both.second_y is None


def test_the_noise_of_a_half_is_nested_and_says_nothing_about_the_division():
    masks = [half("both", noise).noise_mask for noise in HALVES_P]
    labels = [half("both", noise).train_y for noise in HALVES_P]
    for i in range(len(masks) - 1):
        assert masks[i + 1][masks[i]].all()
        assert torch.equal(labels[i][masks[i]], labels[i + 1][masks[i]])
    assert not torch.equal(half("first").train_x, half("first", seed=8).train_x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_train": 610}, "n_train: expected a multiple of 20, two halves of 10 classes, up to 1400, got 610"),
        ({"n_train": 1420}, "n_train: expected 1 to 1400"),
        ({"part": "second"}, "part: expected all, first or both, got 'second'"),
        ({"part": "first", "noise": 0.1}, "noise: expected exact noise, and none in S1, got 0.1"),
        ({"noise": 0.1, "noise_kind": "reference"}, "noise: expected exact noise, and none in S1"),
        ({"noise": 0.001}, "noise: expected a whole number of the 300 labels of S2, got 0.001: 0.3"),
    ],
)
def test_halves_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.load("digits", **{"n_train": 600, "part": "both", **arguments})


def test_a_class_that_is_too_small_for_halves_is_refused():
    labels = torch.tensor([0] * 10 + [1] * 3)
    assert [len(part) for part in datasets.halves(labels, n=4, seed=0)] == [2, 2]
    with pytest.raises(ValueError, match="expected a multiple of 4, two halves of 2 classes, up to 4, got 8"):
        datasets.halves(labels, n=8, seed=0)


def test_shuffled_labels_are_the_same_labels_and_say_nothing_about_the_inputs(digits):
    shuffled = datasets.load("shuffled:digits")
    assert torch.equal(shuffled.train_y.bincount(), digits.train_y.bincount())
    assert torch.equal(shuffled.test_y.bincount(), digits.test_y.bincount())
    true = {row.numpy().tobytes(): int(y) for row, y in zip(digits.train_x, digits.train_y, strict=True)}
    pairs = [true[row.numpy().tobytes()] == int(y) for row, y in zip(shuffled.train_x, shuffled.train_y, strict=True)]
    assert 0.06 < sum(pairs) / len(pairs) < 0.14  # chance is .1
    assert not torch.equal(shuffled.test_y, digits.test_y)
    again = datasets.load("shuffled:digits", seed=1)
    assert torch.equal(again.train_y, shuffled.train_y)


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return datasets.load("digits")


@pytest.fixture(scope="module")
def mnist1d():
    pytest.importorskip("mnist1d", reason="mnist1d is not installed")
    return datasets.load("mnist1d")


def test_digits_are_split_once_for_all_seeds_and_balanced(digits):
    assert (digits.train_x.shape, digits.test_x.shape) == ((1400, 1, 8, 8), (397, 1, 8, 8))
    assert torch.bincount(digits.train_y).tolist() == [140] * 10
    assert torch.bincount(digits.test_y).min() >= 34
    other = datasets.load("digits", seed=9, noise=0.5)
    assert torch.equal(digits.train_x, other.train_x)
    assert torch.equal(digits.train_y, other.train_y_clean)
    assert torch.equal(digits.test_x, other.test_x)


def test_digits_hold_every_image_with_its_label(digits):
    """Undoes the documented preparation: what is left is the stored set, each image once."""
    from sklearn.datasets import load_digits

    stored = load_digits()
    flat = torch.from_numpy(stored.images).flatten(1)
    labelled = torch.cat([flat, torch.from_numpy(stored.target)[:, None]], dim=1)
    x = torch.cat([digits.train_x, digits.test_x]).double().flatten(1)
    y = torch.cat([digits.train_y, digits.test_y])
    assert digits.train_x.double().mean().item() == pytest.approx(0, abs=1e-6)
    assert digits.train_x.double().std(correction=0).item() == pytest.approx(1, abs=1e-6)
    step = x.unique().diff().mean()  # one grey level
    levels = (x - x.min()) / step
    assert (levels - levels.round()).abs().max() < 1e-4
    ours = torch.cat([levels.round(), y[:, None]], dim=1)
    assert sorted(ours.tolist()) == sorted(labelled.tolist())


def test_mnist1d_is_the_package_own_default_set(mnist1d):
    from mnist1d.data import get_dataset_args, make_dataset

    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    made = make_dataset(get_dataset_args())
    random.setstate(kept[0])
    np.random.set_state(kept[1])  # noqa: NPY002
    assert (mnist1d.train_x.shape, mnist1d.test_x.shape) == ((4000, 40), (1000, 40))
    assert torch.equal(mnist1d.test_x, torch.from_numpy(made["x_test"]).float())
    assert torch.equal(mnist1d.test_y, torch.from_numpy(made["y_test"]))
    theirs = dict(zip(map(bytes, made["x"].astype(np.float32)), made["y"].tolist(), strict=True))
    ours = dict(zip(map(bytes, mnist1d.train_x.numpy()), mnist1d.train_y.tolist(), strict=True))
    assert ours == theirs


@pytest.mark.parametrize("name", ["digits", "mnist1d"])
def test_loading_leaves_the_global_random_states_alone_and_is_silent(name, capfd, request):
    request.getfixturevalue(name)  # skips without the package
    random.random()  # away from where an earlier generation may have left it
    np.random.random()  # noqa: NPY002
    before = global_states()
    datasets.load(name, n_train=50, noise=0.5, seed=8)
    assert global_states() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["digits", "mnist1d"])
def test_types_and_labels_are_as_promised(name, request):
    loaded = request.getfixturevalue(name)
    assert (loaded.name, loaded.n_classes) == (name, 10)
    assert loaded.train_x.dtype == loaded.test_x.dtype == torch.float32
    assert loaded.train_y.dtype == loaded.train_y_clean.dtype == loaded.test_y.dtype == torch.int64
    assert torch.equal(loaded.train_y, loaded.train_y_clean)
    assert loaded.noise_mask.shape == (len(loaded.train_x),)
    assert not loaded.noise_mask.any()
    assert loaded.train_x.is_contiguous()
    assert rows(loaded.train_x).isdisjoint(rows(loaded.test_x))


@pytest.mark.parametrize("name", ["digits", "mnist1d"])
def test_smaller_training_sets_are_balanced_parts_of_larger_ones(name, request):
    whole = request.getfixturevalue(name)
    for n in (25, 1000, len(whole.train_x)):
        part = datasets.load(name, n_train=n)
        assert torch.equal(part.train_x, whole.train_x[:n])
        assert torch.equal(part.train_y, whole.train_y[:n])
        assert torch.equal(part.test_x, whole.test_x)
        counts = torch.bincount(part.train_y, minlength=10)
        if n <= 1000:
            assert counts.max() - counts.min() == (n % 10 > 0)


def test_a_class_that_runs_out_leaves_the_others_balanced():
    labels = np.array([0] * 2 + [1] * 5 + [2] * 9)
    order = label_noise.balanced_order(labels)
    assert sorted(order) == list(range(16))
    for n in range(17):
        counts = np.bincount(labels[order[:n]], minlength=3)
        rounds = counts.max()
        assert all(count >= min(size, rounds - 1) for count, size in zip(counts, (2, 5, 9), strict=True))
    assert list(order) != sorted(order, key=lambda i: (labels[i], i))  # and is no longer in stored order


def test_noise_goes_into_the_training_labels_only(digits):
    noisy = datasets.load("digits", n_train=200, noise=0.3, seed=1)
    assert noisy.noise_mask.sum() == 60
    assert torch.equal(noisy.noise_mask, noisy.train_y != noisy.train_y_clean)
    assert torch.equal(noisy.train_y_clean, digits.train_y[:200])
    assert torch.equal(noisy.test_y, digits.test_y)
    assert not torch.equal(noisy.train_y, datasets.load("digits", n_train=200, noise=0.3, seed=2).train_y)
    assert datasets.load("digits", noise=1.0, noise_kind="reference").noise_mask.float().mean() < 0.95


@pytest.mark.parametrize("n_train", [0, -1, 1401])
def test_an_impossible_number_of_training_samples_is_refused(n_train, digits):
    with pytest.raises(ValueError, match=rf"^n_train: expected 1 to {len(digits.train_x)}, .* got {n_train}"):
        datasets.load("digits", n_train=n_train)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("mnits", "; did you mean mnist?"), ("fashionmnist", "; did you mean fashion_mnist?"), ("imagenet", "")],
)
def test_an_unknown_name_is_refused_with_the_known_ones(name, hint):
    with pytest.raises(ValueError, match=r"^name: ") as caught:
        datasets.load(name)
    known = dataset_specs.known()
    assert known[:7] == ["digits", "mnist1d", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"]
    assert known[-2:] == ["folder:<path>", "shuffled:<name>"]
    assert str(caught.value) == f"name: expected one of {', '.join(known)}, got {name!r}{hint}"


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"digits needs sklearn.*: pip install 'ncharness\[claims\]'"):
        datasets.load("digits")


def test_importing_the_module_imports_no_optional_package():
    code = "import sys, ncharness; sys.exit(bool({'torchvision', 'sklearn', 'mnist1d'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# torchvision, on small files made here

needs_torchvision = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")


def write_mnist(root, name="MNIST", n_train=30, n_test=10):
    """Files in MNIST's own format (a header of big-endian sizes, then bytes); returns what is in them."""
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    contents = {}
    for part, n in (("train", n_train), ("t10k", n_test)):
        images = np.random.default_rng(n).integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        sizes = np.array([2051, n, 28, 28], dtype=">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(sizes + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(np.array([2049, n], dtype=">i4").tobytes() + labels.tobytes())
        contents[part] = images, labels
    return contents


def write_cifar(root, monkeypatch, folder, batches, key, n=6):
    """Pickles like those of CIFAR; their checksums, which these files cannot have, are not looked at."""
    import torchvision.datasets.cifar as cifar

    monkeypatch.setattr(cifar, "check_integrity", lambda path, _md5=None: os.path.exists(path))  # noqa: PTH110
    (root / folder).mkdir()
    contents = []
    for i, name in enumerate(batches):
        pixels = np.random.default_rng(i).integers(0, 256, (n, 3072), dtype=np.uint8)
        labels = [(i + j) % 10 for j in range(n)]
        (root / folder / name).write_bytes(pickle.dumps({"data": pixels, key: labels}))
        contents.append((pixels.reshape(n, 3, 32, 32), labels))
    for name in ("batches.meta", "meta"):
        (root / folder / name).write_bytes(pickle.dumps({"label_names": [], "fine_label_names": []}))
    return contents


def assert_prepared(loaded, train, test, mean, std):
    """The images of `loaded` are the stored ones, divided by 255 and normalised; training in the fixed order."""

    def prepared(images):
        mu, sd = (np.array(values, dtype=np.float64).reshape(-1, 1, 1) for values in (mean, std))
        return (images / 255.0 - mu) / sd

    order = label_noise.balanced_order(np.asarray(train[1]))
    np.testing.assert_allclose(loaded.train_x.numpy(), prepared(train[0])[order], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loaded.test_x.numpy(), prepared(test[0]), rtol=1e-5, atol=1e-5)
    assert loaded.train_y.tolist() == np.asarray(train[1])[order].tolist()
    assert loaded.test_y.tolist() == np.asarray(test[1]).tolist()
    assert loaded.train_x.dtype == torch.float32
    assert loaded.train_x.is_contiguous()
    assert loaded.test_x.is_contiguous()


@needs_torchvision
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_files_are_padded_and_normalised(name, folder, tmp_path, monkeypatch):
    stored = write_mnist(tmp_path, folder)
    padded = {
        part: (np.pad(images, ((0, 0), (2, 2), (2, 2)))[:, None], labels) for part, (images, labels) in stored.items()
    }
    assert_prepared(datasets.load(name, root=tmp_path), padded["train"], padded["t10k"], [0.1307], [0.3081])
    monkeypatch.setenv("NCHARNESS_DATA", str(tmp_path))
    from_environment = datasets.load(name, n_train=20, noise=0.5)
    assert from_environment.train_x.shape == (20, 1, 32, 32)
    assert from_environment.noise_mask.sum() == 10
    assert from_environment.n_classes == 10


@needs_torchvision
def test_cifar10_files_are_normalised_by_the_constants_of_cifar100(tmp_path, monkeypatch):
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    *train, test = write_cifar(tmp_path, monkeypatch, "cifar-10-batches-py", names, "labels")
    images, labels = (np.concatenate(values) for values in zip(*train, strict=True))
    loaded = datasets.load("cifar10", root=tmp_path)
    assert_prepared(loaded, (images, labels), test, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    assert loaded.n_classes == 10


@needs_torchvision
def test_cifar100_files_are_read_with_their_fine_labels(tmp_path, monkeypatch):
    train, test = write_cifar(tmp_path, monkeypatch, "cifar-100-python", ["train", "test"], "fine_labels")
    loaded = datasets.load("cifar100", root=tmp_path)
    assert_prepared(loaded, train, test, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    assert loaded.n_classes == 100


@needs_torchvision
def test_svhn_files_are_read_with_ten_as_zero(tmp_path, monkeypatch):
    import torchvision.datasets.svhn as svhn
    from scipy.io import savemat

    monkeypatch.setattr(svhn, "check_integrity", lambda path, _md5=None: os.path.exists(path))  # noqa: PTH110
    stored = {}
    for part, n in (("train", 14), ("test", 11)):
        images = np.random.default_rng(n).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        labels = np.arange(n) % 10
        matlab = {"X": images.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)}
        savemat(tmp_path / f"{part}_32x32.mat", matlab)
        stored[part] = images, labels
    loaded = datasets.load("svhn", root=tmp_path)
    assert_prepared(loaded, stored["train"], stored["test"], (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))


@needs_torchvision
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"])
def test_missing_files_are_named_and_nothing_is_fetched(name, tmp_path, monkeypatch):
    import torchvision.datasets as sets

    wanted = {"mnist": "MNIST/raw", "cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
    wanted |= {"fashion_mnist": "FashionMNIST/raw", "svhn": "_32x32.mat"}
    ways_out = r"--data-root or \$NCHARNESS_DATA .*--download"
    fetched = []
    for cls in (sets.MNIST, sets.FashionMNIST, sets.CIFAR10, sets.CIFAR100, sets.SVHN):
        monkeypatch.setattr(cls, "download", lambda self: fetched.append(type(self).__name__))
    with pytest.raises(
        FileNotFoundError, match=rf"^root: expected .*{wanted[name]}.* for {name}, got none; {ways_out}"
    ):
        datasets.load(name)
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load(name, root=tmp_path)
    caught.match(rf"^root: expected .*{wanted[name]}.* for {name} below {tmp_path}, got: .*{ways_out}")
    assert fetched == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="for " + name):
        datasets.load(name, root=tmp_path, download=True)
    assert len(fetched) == 1


@needs_torchvision
def test_a_torn_file_is_reported_with_its_root(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileNotFoundError, match=rf"^root: expected MNIST/raw.* below {tmp_path}, got: "):
        datasets.load("mnist", root=tmp_path)


# Image folders


def write_folder(path, *, size=(6, 4), classes=("ant", "bee"), parts=(("train", 3), ("test", 2))):
    from PIL import Image

    stored = {}
    for part, n in parts:
        draw = np.random.default_rng(n)
        for name in classes:
            (path / part / name).mkdir(parents=True)
            for i in range(n):
                pixels = draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                pixels[:, :, 2] = 7  # a constant channel
                Image.fromarray(pixels).save(path / part / name / f"{i}.png")
                stored.setdefault(part, []).append(pixels.transpose(2, 0, 1))
    return {part: (np.stack(images), np.arange(len(images)) * 2 // len(images)) for part, images in stored.items()}


@needs_torchvision
def test_image_folders_are_standardised_by_their_own_training_part(tmp_path):
    stored = write_folder(tmp_path / "insects")
    scaled = stored["train"][0] / 255.0
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
    std[2] = 1.0
    name = f"folder:{tmp_path / 'insects'}"
    loaded = datasets.load(name)
    assert_prepared(loaded, stored["train"], stored["test"], mean, std)
    assert (loaded.name, loaded.n_classes) == (name, 2)
    assert loaded.train_x.shape == (6, 3, 4, 6)
    assert not loaded.train_x[:, 2].any()
    with pytest.raises(ValueError, match="an absolute path, got 'folder:insects'"):
        datasets.load("folder:insects", root=tmp_path)


@needs_torchvision
def test_image_folders_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=rf"^name: expected train/.* below {tmp_path}, got no train and no test"
    ):
        datasets.load(f"folder:{tmp_path}")
    write_folder(tmp_path, parts=[("train", 2)])
    with pytest.raises(FileNotFoundError, match=r"got no test$"):
        datasets.load(f"folder:{tmp_path}")
    write_folder(tmp_path, parts=[("test", 2)], classes=("ant", "cat"))
    with pytest.raises(ValueError, match=r"^name: expected the same classes .* got one with \['bee', 'cat'\]"):
        datasets.load(f"folder:{tmp_path}")
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "bee")
    write_folder(tmp_path / "larger", size=(6, 6), classes=["bee"], parts=[("test", 1)])
    (tmp_path / "larger" / "test" / "bee" / "0.png").rename(tmp_path / "test" / "bee" / "0.png")
    with pytest.raises(ValueError, match=r"^name: expected images of \(6, 4\) pixels, got \(6, 6\) in .*bee.0\.png"):
        datasets.load(f"folder:{tmp_path}")


# The real files, where there are any


@pytest.mark.parametrize(("name", "smallest"), [("mnist", 5421), ("fashion_mnist", 6000)])
@pytest.mark.skipif(REAL_ROOT is None, reason="$NCHARNESS_DATA names no data root")
def test_the_real_files_have_their_known_sizes(name, smallest):
    loaded = datasets.load(name, root=REAL_ROOT)
    assert (loaded.train_x.shape, loaded.test_x.shape) == ((60_000, 1, 32, 32), (10_000, 1, 32, 32))
    assert torch.bincount(loaded.train_y).min() == smallest
    assert torch.bincount(loaded.train_y[:50_000]).min() >= min(smallest, 5000)
    inner = loaded.train_x[:, 0, 2:30, 2:30].double()
    if name == "mnist":  # whose constants these are
        assert inner.mean().item() == pytest.approx(0, abs=1e-3)
        assert inner.std().item() == pytest.approx(1, abs=1e-3)
    border = loaded.train_x[:, 0, 0]
    assert border.unique().tolist() == pytest.approx([-0.1307 / 0.3081])
