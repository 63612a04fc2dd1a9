"""Figures of collapse, from runs in which every number identifies its metric, split, layer, epoch and seed."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ncharness.report.depth_figures import NAMED, named
from ncharness.store.run import Run
from ncharness.training.config import RunConfig, grid
from ncharness.training.rows import Row

BASE = RunConfig(epochs=100, depth=4)
METRICS = (("ncc_error", "train"), ("cdnv", "train"), ("ncc_error", "test"), ("cdnv", "test"))


def value(config, metric, split, layer, epoch):
    """Return a number that falls with layer, epoch and width; the four kinds are far apart."""
    scale = {"ncc_error": 0.5, "cdnv": 8.0}[metric] * {"train": 0.5, "test": 1.0}[split]
    return scale * 0.8**layer * (0.9 if epoch else 1.0) * (64 / config.width) ** 0.1 * (1 + 0.01 * config.seed)


def model_run(config, metrics=METRICS):
    rows = [
        Row(epoch, f"block{layer:02d}.pre_bn", split, metric, value(config, metric, split, layer, epoch))
        for epoch in config.measured_epochs()
        for metric, split in metrics
        for layer in range(1, config.depth + 1)
    ]
    rows += [Row(epoch, "network", "train", "error", 0.0) for epoch in config.measured_epochs()]
    return Run(config, tuple(rows))


def model_runs(metrics=METRICS, **axes):
    return [model_run(config, metrics) for config in grid(BASE, **{"seed": range(3), **axes})]


def only(name, runs):
    (found,) = named(name, runs)
    return found


def mean(kind, layer, epoch, **fields):
    """Return the mean over the three seeds, as shown in the figure."""
    found = np.mean([value(BASE.replace(seed=seed, **fields), *kind, layer, epoch) for seed in range(3)])
    return 1 - found if kind[0] == "ncc_error" else found


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def by_label(figure):
    return {ax.get_ylabel(): ax for ax in figure.axes}


def test_cdnv_by_layer_is_the_last_train_cdnv_by_depth():
    drawn = only("cdnv-by-layer", model_runs(depth=[4, 6], noise=[0.0, 0.5]))
    (ax,) = drawn.figure.axes
    assert (ax.get_ylabel(), ax.get_xlabel(), ax.get_yscale()) == ("train CDNV", "layer", "log")
    assert [*lines(ax)] == ["L = 4", "L = 6"]
    for depth in (4, 6):
        expected = [[layer, mean(("cdnv", "train"), layer, 100)] for layer in range(1, depth + 1)]
        np.testing.assert_allclose(lines(ax)[f"L = {depth}"], expected)
    assert "clean labels" in drawn.caption
    assert "mean over n = 3 seeds" in drawn.caption


def test_ncc_is_shown_above_the_cdnv_of_the_same_layers():
    axes = by_label(only("ncc-and-cdnv-by-layer", model_runs()).figure)
    assert [*axes] == ["train NCC accuracy", "train CDNV"]
    for label, metric in (("train NCC accuracy", "ncc_error"), ("train CDNV", "cdnv")):
        expected = [mean((metric, "train"), layer, 100) for layer in range(1, 5)]
        np.testing.assert_allclose(lines(axes[label])["L = 4"][:, 1], expected)


def test_collapse_by_width_has_a_row_a_metric_and_a_column_a_split():
    drawn = only("collapse-by-width", model_runs(width=[64, 256]))
    assert "L = 4" in drawn.caption
    axes = np.reshape(drawn.figure.axes, (2, 2))
    assert [ax.get_title() for ax in axes[0]] == ["training data", "test data"]
    for row, metric in zip(axes, ("ncc_error", "cdnv"), strict=True):
        for ax, split in zip(row, ("train", "test"), strict=True):
            assert ax.get_yscale() == ("log" if metric == "cdnv" else "linear")
            for width in (64, 256):
                expected = [mean((metric, split), layer, 100, width=width) for layer in range(1, 5)]
                np.testing.assert_allclose(lines(ax)[f"H = {width}"][:, 1], expected)
    assert named("collapse-by-width", model_runs(width=[64])) == []


def test_collapse_by_width_takes_the_depth_with_most_widths():
    runs = [*model_runs(width=[64, 128, 256]), *model_runs(width=[64, 128], depth=[6])]
    drawn = only("collapse-by-width", runs)
    assert [*lines(drawn.figure.axes[0])] == ["H = 64", "H = 128", "H = 256"]
    assert "L = 4" in drawn.caption


def test_cdnv_by_epoch_has_a_line_a_layer_in_the_colour_of_the_key():
    drawn = only("cdnv-by-epoch", model_runs(depth=[4, 6]))
    panels = {ax.get_title(): ax for ax in drawn.figure.axes if ax.get_title()}
    assert [*panels] == ["L = 4", "L = 6"]
    for depth in (4, 6):
        drawn_lines = panels[f"L = {depth}"].get_lines()
        assert len(drawn_lines) == depth
        for layer, line in enumerate(drawn_lines, 1):
            epochs = BASE.measured_epochs()
            np.testing.assert_allclose(line.get_xdata(), epochs)
            np.testing.assert_allclose(line.get_ydata(), [mean(("cdnv", "train"), layer, epoch) for epoch in epochs])
    colours = [[to_rgb(line.get_color()) for line in ax.get_lines()] for ax in panels.values()]
    assert colours[0] == colours[1][:4]
    assert len(set(colours[1])) == 6


def test_test_by_epoch_is_of_the_last_layer():
    axes = by_label(only("test-by-epoch", model_runs(depth=[4, 6])).figure)
    assert [*axes] == ["test NCC accuracy", "test CDNV"]
    for label, metric in (("test NCC accuracy", "ncc_error"), ("test CDNV", "cdnv")):
        for depth in (4, 6):
            expected = [mean((metric, "test"), depth, epoch) for epoch in BASE.measured_epochs()]
            np.testing.assert_allclose(lines(axes[label])[f"L = {depth}"][:, 1], expected)


@pytest.mark.parametrize("name", sorted(name for name in NAMED if "cdnv" in name or "test" in name or "width" in name))
def test_there_is_no_figure_of_what_was_not_measured(name):
    assert named(name, model_runs(METRICS[:1], width=[64, 128])) == []
    assert named(name, []) == []


def test_a_figure_is_drawn_once_for_every_family_and_a_wrong_name_is_named():
    assert len(named("cdnv-by-layer", model_runs(data=["digits", "mnist1d"]))) == 2
    with pytest.raises(ValueError, match=r"^name: expected one of ncc-by-epoch, .*, got 'cdnv'$"):
        named("cdnv", [])
