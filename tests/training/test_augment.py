"""Augmentation: what is drawn, that pixels go where torchvision puts them, and that measurements never see it."""

import math

import pytest
import torch
from torch.nn import functional

from ncharness import RunConfig
from ncharness.training import datasets
from ncharness.training.augment import PADDING, Draws, augmented, darkest, draw
from ncharness.training.loop import _training_batches, epoch_batches, seeded, train

CPU = torch.device("cpu")
SIDE = 12


def images(n: int, channels: int = 3) -> torch.Tensor:
    return torch.rand((n, channels, SIDE, SIDE), generator=torch.Generator().manual_seed(7)) + 1.0


def one(dx: int = 0, dy: int = 0, *, flip: bool = False, degrees: float = 0.0) -> Draws:
    return Draws(
        torch.tensor([[dx, dy]]).float(), torch.tensor([-1.0 if flip else 1.0]), torch.tensor([math.radians(degrees)])
    )


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (-4, 4), (3, -1), (4, 4)])
def test_crops_and_flips_are_slices_of_the_padded_image_to_the_bit(dx: int, dy: int, flip: bool) -> None:
    image, black = images(1), torch.tensor([-1.0, -2.0, -3.0])[:, None, None]
    padded = functional.pad(image, (PADDING,) * 4, value=math.nan)
    padded = torch.where(padded.isnan(), black, padded)
    expected = padded[:, :, PADDING + dy : PADDING + dy + SIDE, PADDING + dx : PADDING + dx + SIDE]
    found = augmented(image, one(dx, dy, flip=flip), black)
    assert torch.equal(found, expected.flip(-1) if flip else expected)


@pytest.mark.parametrize("degrees", [-15.0, -8.0, 9.0, 15.0])
def test_rotation_comes_last_and_is_torchvisions(degrees: float) -> None:
    transforms = pytest.importorskip("torchvision.transforms.functional")
    image, black = images(1), torch.zeros(3, 1, 1)
    cropped = functional.pad(image, (PADDING,) * 4)[:, :, PADDING + 2 : PADDING + 2 + SIDE, 1 : 1 + SIDE].flip(-1)
    expected = transforms.rotate(cropped, degrees)  # by nearest pixel, filled with 0
    found = augmented(image, one(1 - PADDING, 2, flip=True, degrees=degrees), black)
    assert float((found == expected).double().mean()) > 0.98, "all but pixels half-way between two"
    other = augmented(image, one(1 - PADDING, 2, flip=True, degrees=-degrees), black)
    assert float((other == expected).double().mean()) < 0.9


def test_draws_are_uniform_in_their_ranges_and_the_same_for_one_seed() -> None:
    found = draw("code", 20_000, seed=3, device=CPU)
    values, counts = found.shift.unique(return_counts=True)
    assert values.tolist() == list(range(-4, 5))
    assert counts.min() / counts.max() > 0.9
    assert abs(float(found.flip.mean())) < 0.05
    assert set(found.flip.tolist()) == {-1.0, 1.0}
    widest = math.radians(15)
    assert 0.99 * widest < float(found.angle.max()) <= widest
    assert -0.99 * widest > float(found.angle.min()) >= -widest
    assert not draw("crop_flip", 100, seed=3, device=CPU).angle.any()
    again, other = draw("code", 20_000, seed=3, device=CPU), draw("code", 20_000, seed=4, device=CPU)
    assert torch.equal(found.angle, again.angle)
    assert torch.equal(found.shift, again.shift)
    assert not torch.equal(found.shift, other.shift)
    chosen = found.at(torch.tensor([5, 2]))
    assert torch.equal(chosen.shift, found.shift[[5, 2]])


def test_every_image_of_a_batch_has_draws_of_its_own() -> None:
    both = images(2)
    draws = Draws(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([1.0, -1.0]), torch.zeros(2))
    found = augmented(both, draws, darkest(both))
    assert torch.equal(found[0], both[0])
    assert torch.equal(found[1:], augmented(both[1:], one(2, flip=True), darkest(both)))


def test_black_is_the_least_of_each_channel_and_images_are_square() -> None:
    some = images(5)
    some[3, 1, 2, 2] = -7.0
    assert darkest(some).flatten().tolist() == [float(some[:, 0].min()), -7.0, float(some[:, 2].min())]
    for wrong in (torch.zeros(5, 40), torch.zeros(5, 1, 8, 12)):
        with pytest.raises(ValueError, match=r"augment: expected square images .* got \(5,"):
            darkest(wrong)


AUGMENTED = RunConfig(depth=2, width=16, n_train=150, epochs=3, measurements=2, augment="code")


def test_training_batches_alone_are_augmented_in_the_order_of_the_plain_run() -> None:
    config = AUGMENTED
    samples = datasets.load(config.data, n_train=config.n_train)
    with seeded(5):
        batches = list(_training_batches(config, samples, 1))
    with seeded(5):
        order = epoch_batches(150, config.batch_size)
    draws = draw("code", 150, seed=config.seed_for("augment/1"), device=CPU)
    for (inputs, labels), batch in zip(batches, order, strict=True):
        assert torch.equal(labels, samples.train_y[batch])
        assert torch.equal(inputs, augmented(samples.train_x[batch], draws.at(batch), darkest(samples.train_x)))
        assert not torch.equal(inputs, samples.train_x[batch])
    plain = config.replace(augment="none")
    start, plainly = (next(train(of, samples)).rows for of in (config, plain))
    assert start == plainly, "what is measured is not augmented"
    last, plainly = (list(train(of, samples))[-1].rows for of in (config, plain))
    assert last != plainly, "what is trained on is"


def test_a_set_that_is_no_images_cannot_be_augmented() -> None:
    config = RunConfig(depth=1, width=4, data="mnist1d", n_train=100, epochs=1, augment="crop_flip")
    pytest.importorskip("mnist1d")
    with pytest.raises(ValueError, match="augment: expected square images"):
        list(train(config, datasets.load("mnist1d", n_train=100)))
