"""Rows of a run and the questions asked of them."""

import pytest

from ncharness import Row, Run, RunConfig
from ncharness.training.rows import rows_from_lists


@pytest.fixture
def run() -> Run:
    rows = [
        Row(epoch, f"block{layer:02d}.{point}", split, "ncc_error", epoch + layer / 10 + (split == "test") / 100)
        for epoch in (0, 5)
        for layer in (1, 2)
        for point in ("pre_bn", "out")
        for split in ("train", "test")
    ]
    return Run(RunConfig(), (*rows, Row(5, "network", "train", "error", 0.25)))


def test_profile_is_in_the_order_of_the_layers(run: Run) -> None:
    assert run.profile() == [5.1, 5.2]
    assert run.profile(epoch=0, point="out", split="test") == pytest.approx([0.11, 0.21])


def test_epochs_and_points_are_what_was_measured(run: Run) -> None:
    assert run.epochs == [0, 5]
    assert run.points == ["pre_bn", "out"]


def test_scalar_is_the_whole_network(run: Run) -> None:
    assert run.scalar() == 0.25


def test_what_was_not_measured_is_an_error(run: Run) -> None:
    with pytest.raises(KeyError, match="no cdnv of split train"):
        run.profile("cdnv")
    with pytest.raises(KeyError, match="no loss of split train"):
        run.scalar("loss")


def test_rows_survive_lists(run: Run) -> None:
    assert rows_from_lists([list(row) for row in run.rows]) == run.rows
