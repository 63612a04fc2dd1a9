"""Figures of depth, from runs of a parametric model: the error of a layer depends on its index and falls with time."""

import io
import math
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy import stats

from ncharness.metrics.effective_depth import interpolated_depth
from ncharness.report.depth_figures import figures
from ncharness.store.run import Run
from ncharness.training.config import RunConfig, grid
from ncharness.training.rows import Row

BASE = RunConfig(epochs=100)
CURVES, BY_NOISE = "NCC accuracy of every layer", "NCC accuracy under label noise"
AGAINST_L, AGAINST_NOISE = "Effective depth against L", "Effective depth against label noise"
AGAINST_WIDTH, OVER_TRAINING = "Effective depth against width H", "Effective depth over training"
PROFILES = "Final NCC error by layer"


def model_error(config, layer, epoch):
    trained = 1.0 - math.exp(-10.0 * epoch / config.epochs) if config.lr else 0.0
    wobble = 0.25 * math.sin(7.0 * config.seed + 3.0 * layer + config.depth)
    level = 0.75 / (1.0 + math.exp((layer - 4.0 - 5.0 * config.noise + wobble) / 0.55))
    return 0.75 + trained * (level - 0.75)


def model_run(config, error=model_error):
    """Return a run with the errors of the model, or with those of `error`."""
    names = dict.fromkeys("pre_bn" if point == "paper" else point for point in config.points)
    rows = [
        Row(epoch, f"block{layer:02d}.{point}", "train", "ncc_error", error(config, layer, epoch))
        for epoch in config.measured_epochs()
        for point in names
        for layer in range(1, config.depth + 1)
    ]
    rows += [Row(epoch, "network", "train", "error", 0.9 * 0.9**epoch) for epoch in config.measured_epochs()]
    return Run(config, tuple(rows))


def drawn(runs, title, **options):
    """Return the only figure of that title."""
    (found,) = [one for one in figures(runs, **options) if one.title == title]
    return found


def panel(figure, title):
    (ax,) = [ax for ax in figure.axes if ax.get_title() == title]
    return ax


def line_labelled(ax, label):
    (line,) = [line for line in ax.get_lines() if line.get_label() == label]
    return line


def errorbar(ax):
    """Return mean line and (low, high) of the only error bars of a panel."""
    (bars,) = ax.containers
    mean, _, (segments,) = bars
    return mean, np.array([segment[:, 1] for segment in segments.get_segments() if len(segment)])


def rings(ax):
    """Return the y of each hollow marker."""
    return [y for line in ax.get_lines() if to_rgb(line.get_markerfacecolor()) == (1, 1, 1) for y in line.get_ydata()]


def none_height(ax):
    (height,) = [t for t, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True) if text.get_text() == "none"]
    return height


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({"depth": [4]}, [CURVES, OVER_TRAINING, PROFILES]),
        ({"depth": [4, 8]}, [CURVES, AGAINST_L, OVER_TRAINING, PROFILES]),
        ({"depth": [8], "noise": [0.0, 0.5]}, [CURVES, BY_NOISE, OVER_TRAINING, AGAINST_NOISE, PROFILES]),
        ({"depth": [8], "noise": [0.5]}, []),
        ({"depth": [8], "lr": [0.0]}, []),
        ({"depth": [4, 8], "lr": [0.0, 0.1]}, [CURVES, AGAINST_L, OVER_TRAINING, PROFILES]),
    ],
    ids=["one depth", "two depths", "noise", "noise alone", "controls alone", "with controls"],
)
def test_a_figure_is_drawn_only_where_its_runs_exist(axes, expected):
    runs = [model_run(config) for config in grid(BASE, **axes, seed=range(2))]
    assert [title for title, _, _ in figures(runs)] == expected


def test_no_runs_give_no_figures():
    assert figures([]) == []


def test_a_run_without_layers_gives_no_figures():
    assert figures([Run(BASE, (Row(0, "network", "train", "error", 0.5),))]) == []


def test_a_classifier_of_torchvision_has_no_depth_to_draw_over():
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    rows = [Row(1, f"layer1.{i}.out", "train", "ncc_error", 0.5) for i in range(2)]
    run = Run(RunConfig(arch="resnet18", epochs=1), (*rows, Row(1, "network", "train", "error", 0.5)))
    assert run.profile() == [0.5, 0.5]
    assert figures([run]) == []
    assert len(figures([run, model_run(BASE)])) == len(figures([model_run(BASE)]))


def test_curves_show_the_mean_and_the_range_over_seeds_of_every_layer():
    configs = grid(BASE, depth=[3, 5], seed=range(3))
    ax = panel(drawn(map(model_run, configs), CURVES).figure, "L = 5")
    epochs = BASE.measured_epochs()
    accuracy = np.array(
        [[[1.0 - model_error(c, i, e) for e in epochs] for i in range(1, 6)] for c in configs if c.depth == 5]
    )
    *layers, network = ax.get_lines()
    assert len(layers) == len(ax.collections) == 5
    for i, (line, band) in enumerate(zip(layers, ax.collections, strict=True)):
        assert list(line.get_xdata()) == epochs
        np.testing.assert_allclose(line.get_ydata(), accuracy[:, i].mean(axis=0), rtol=1e-12)
        ends = band.get_paths()[0].vertices
        for epoch, low, high in zip(epochs, accuracy[:, i].min(axis=0), accuracy[:, i].max(axis=0), strict=True):
            at = ends[ends[:, 0] == epoch][:, 1]
            assert (at.min(), at.max()) == pytest.approx((low, high))
    np.testing.assert_allclose(network.get_ydata(), [1.0 - 0.9 * 0.9**epoch for epoch in epochs], rtol=1e-12)


def test_a_layer_has_one_colour_in_all_panels():
    figure = drawn([model_run(config) for config in grid(BASE, depth=[3, 5])], CURVES).figure
    three, five = ([line.get_color() for line in panel(figure, f"L = {L}").get_lines()[:-1]] for L in (3, 5))
    assert three == five[:3]


def test_curves_keep_to_the_epochs_that_every_seed_has():
    whole, short = (model_run(config) for config in grid(BASE, depth=[3], seed=range(2)))
    short = Run(short.config, tuple(row for row in short.rows if row.epoch in (0, 100)))
    (ax, *_) = drawn([whole, short], CURVES).figure.axes
    assert list(ax.get_lines()[0].get_xdata()) == [0, 100]


def test_two_seeds_have_a_band():
    assert (
        len(drawn([model_run(config) for config in grid(BASE, seed=range(2))], CURVES).figure.axes[0].collections) == 8
    )


def test_one_seed_has_neither_band_nor_interval():
    runs = [model_run(config) for config in grid(BASE, depth=[8, 12])]
    assert not panel(drawn(runs, CURVES).figure, "L = 8").collections
    _, ends = errorbar(panel(drawn(runs, AGAINST_L).figure, "eps = 0.05"))
    np.testing.assert_array_equal(ends[:, 0], ends[:, 1])
    assert "n = 1 seed," in drawn(runs, CURVES).caption


def test_effective_depth_against_l_shows_seeds_mean_and_t_interval():
    configs = grid(BASE, depth=[8, 12], seed=range(4))
    ax = panel(drawn(map(model_run, configs), AGAINST_L).figure, "eps = 0.05")
    depths = {
        L: [
            interpolated_depth([model_error(c, i, 100) for i in range(1, L + 1)], eps=0.05)
            for c in configs
            if c.depth == L
        ]
        for L in (8, 12)
    }
    mean, ends = errorbar(ax)
    for i, values in enumerate(depths.values()):
        low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
        assert mean.get_ydata()[i] == pytest.approx(np.mean(values))
        assert tuple(ends[i]) == pytest.approx((low, high))
    seeds = [y for line in ax.get_lines() if line.get_alpha() is not None for y in line.get_ydata()]
    assert sorted(seeds) == pytest.approx(sorted([*depths[8], *depths[12]]))
    assert not rings(ax)


def test_every_eps_has_a_panel():
    runs = [model_run(config) for config in grid(BASE, depth=[8, 12])]
    axes = drawn(runs, AGAINST_L, eps=(0.2, 0.1, 0.05)).figure.axes
    assert [ax.get_title() for ax in axes] == ["eps = 0.05", "eps = 0.1", "eps = 0.2"]
    strict, middle, loose = (errorbar(ax)[0].get_ydata()[0] for ax in axes)
    assert strict > middle > loose


def test_a_network_without_effective_depth_is_shown_as_none():
    ax = panel(drawn([model_run(c) for c in grid(BASE, depth=[3, 20], seed=range(3))], AGAINST_L).figure, "eps = 0.05")
    assert rings(ax) == [none_height(ax)] * 3
    assert none_height(ax) > 20  # above the last layer of the deepest
    mean, _ = errorbar(ax)
    assert math.isnan(mean.get_ydata()[0])
    assert mean.get_ydata()[1] > 4


def test_a_mean_is_drawn_only_where_every_seed_has_a_depth():
    def half_fails(config, layer, epoch):
        return 0.75 if config.seed == 1 else model_error(config, layer, epoch)

    runs = [model_run(config, half_fails) for config in grid(BASE, depth=[8, 12], seed=range(3))]
    ax = panel(drawn(runs, AGAINST_L).figure, "eps = 0.05")
    mean, _ = errorbar(ax)
    assert np.isnan(mean.get_ydata()).all()
    assert len(rings(ax)) == 2  # of three seeds at each of two depths
    seeds = [y for line in ax.get_lines() if line.get_alpha() is not None for y in line.get_ydata()]
    assert len(seeds) == 4


def test_effective_depth_over_training_falls_from_none():
    configs = grid(BASE, depth=[8], seed=range(3))
    ax = panel(drawn(map(model_run, configs), OVER_TRAINING).figure, "eps = 0.1")
    line = line_labelled(ax, "L = 8")
    mean = [
        np.mean(depths) if None not in depths else math.nan
        for depths in (
            [interpolated_depth([model_error(c, i, e) for i in range(1, 9)], eps=0.1) for c in configs]
            for e in BASE.measured_epochs()
        )
    ]
    np.testing.assert_allclose(line.get_ydata(), mean)
    assert math.isnan(mean[0])
    assert not math.isnan(mean[-1])
    (shelf,) = [other for other in ax.get_lines() if to_rgb(other.get_markerfacecolor()) == (1, 1, 1)]
    np.testing.assert_array_equal(np.isnan(shelf.get_ydata()), ~np.isnan(mean))


def test_over_training_seeds_are_dots_where_another_has_no_depth():
    def half_fails(config, layer, epoch):
        return 0.75 if config.seed == 1 and epoch < 100 else model_error(config, layer, epoch)

    configs = grid(BASE, depth=[8], seed=range(2))
    ax = panel(drawn([model_run(config, half_fails) for config in configs], OVER_TRAINING).figure, "eps = 0.1")
    alone = [
        interpolated_depth([model_error(BASE, i, e) for i in range(1, 9)], eps=0.1) for e in BASE.measured_epochs()
    ]
    (dots,) = [line for line in ax.get_lines() if line.get_alpha() is not None]
    np.testing.assert_allclose(dots.get_ydata(), [depth for depth in alone[:-1] if depth is not None])
    assert len(dots.get_ydata()) > 1


def test_controls_at_learning_rate_0_are_dashed_over_training_and_nowhere_else():
    trained = [model_run(config) for config in grid(BASE, depth=[4, 8], seed=range(2))]
    control = [model_run(config) for config in grid(BASE, lr=[0.0], depth=[8], seed=range(2))]
    over_training = drawn([*trained, *control], OVER_TRAINING)
    line = line_labelled(over_training.figure.axes[0], "L = 8, lr 0")
    assert line.get_linestyle() == "--"
    assert np.isnan(line.get_ydata()).all()  # it stays at none
    assert "controls at learning rate 0, n = 2 seeds" in over_training.caption
    for title in (CURVES, AGAINST_L, PROFILES):
        with_control, without = drawn([*trained, *control], title), drawn(trained, title)
        assert with_control.caption == without.caption
        lines = [
            [line.get_xydata().tolist() for ax in one.figure.axes for line in ax.get_lines()]
            for one in (with_control, without)
        ]
        np.testing.assert_equal(lines[0], lines[1])


def test_noise_and_width_have_axes_of_their_own():
    noisy = [model_run(config) for config in grid(BASE, depth=[8, 12], noise=[0.0, 0.25, 0.5], seed=range(2))]
    ax = panel(drawn(noisy, AGAINST_NOISE).figure, "eps = 0.05")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "0.25", "0.5"]
    mean = ax.containers[1][0].get_ydata()
    assert mean[0] < mean[1] < mean[2] < none_height(ax)
    wide = [model_run(config) for config in grid(BASE, depth=[8], width=[32, 64, 256], seed=range(2))]
    ax = panel(drawn(wide, AGAINST_WIDTH).figure, "eps = 0.05")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["32", "64", "256"]
    np.testing.assert_allclose(ax.get_xticks(), [5, 6, 8])
    assert list(ax.containers[0][0].get_xdata()) == pytest.approx([5, 6, 8])


def test_noise_curves_take_the_depth_with_most_noise_levels():
    configs = [*grid(BASE, depth=[4], noise=[0.0, 0.5]), *grid(BASE, depth=[8], noise=[0.0, 0.25, 0.5])]
    one = drawn(map(model_run, configs), BY_NOISE)
    assert [ax.get_title() for ax in one.figure.axes[:-1]] == ["noise 0", "noise 0.25", "noise 0.5"]
    assert "L = 8" in one.caption


def test_final_profiles_show_zero_errors_on_their_log_axis():
    def exact_on_top(config, layer, epoch):
        return 0.0 if layer > 4 else model_error(config, layer, epoch)

    figure = drawn([model_run(c, exact_on_top) for c in grid(BASE, depth=[4, 6], seed=range(2))], PROFILES).figure
    (ax,) = figure.axes
    line = line_labelled(ax, "L = 6")
    expected = [np.mean([exact_on_top(BASE.replace(depth=6, seed=s), i, 100) for s in (0, 1)]) for i in range(1, 7)]
    np.testing.assert_allclose(line.get_ydata(), expected)
    assert list(line.get_ydata()[4:]) == [0.0, 0.0]
    assert ax.get_ylim()[0] < 0.0
    assert ax.get_yticklabels()[0].get_text() == "0"


def test_nan_in_a_profile_is_left_out():
    def diverged(config, layer, epoch):
        return math.nan if config.seed == 1 and layer == 2 else model_error(config, layer, epoch)

    runs = [model_run(config, diverged) for config in grid(BASE, depth=[8, 12], seed=range(2))]
    line = drawn(runs, CURVES).figure.axes[0].get_lines()[1]
    np.testing.assert_allclose(
        line.get_ydata(), [1.0 - model_error(BASE, 2, epoch) for epoch in BASE.measured_epochs()]
    )


def test_a_run_of_nan_alone_is_drawn_as_none():
    runs = [model_run(config, lambda *_: math.nan) for config in grid(BASE, depth=[4, 8], seed=range(2))]
    for _, _, figure in figures(runs):
        figure.savefig(io.BytesIO(), format="svg")
    ax = panel(drawn(runs, AGAINST_L).figure, "eps = 0.05")
    assert rings(ax) == [none_height(ax)] * 4


def test_captions_say_what_is_drawn_and_over_how_many_seeds():
    runs = [model_run(config) for config in grid(BASE, depth=[4, 8], noise=[0.0, 0.5], seed=range(3))]
    runs += [model_run(BASE.replace(depth=8, seed=3))]
    for title, caption, _ in figures(runs):
        assert caption.startswith("digits, MLP-L-256; 100 epochs, layers taken at pre_bn"), title
        assert "n = 3 to 4 seeds" in caption, title
        if title.startswith("Effective depth"):
            assert "eps = 0.01, 0.02, 0.05, 0.1" in caption


def test_a_width_without_a_sweep_of_depths_leaves_the_curves_to_the_one_that_has_it():
    configs = [*grid(BASE, depth=[4, 8]), *grid(BASE, depth=[8], width=[64])]
    captions = [caption for title, caption, _ in figures(map(model_run, configs)) if title == CURVES]
    assert [caption.split(";")[0] for caption in captions] == ["digits, MLP-L-256"]


def test_colours_of_the_layers_grow_lighter_so_that_they_differ_in_grey():
    figure = drawn([model_run(BASE.replace(depth=20))], CURVES).figure
    grey = [np.dot(to_rgb(line.get_color()), (0.2126, 0.7152, 0.0722)) for line in figure.axes[0].get_lines()[:20]]
    assert (np.diff(grey) > 0.0).all()
    assert grey[-1] < 0.8  # and none is lost on white


def test_figures_are_narrow_enough_for_a_phone():
    runs = [model_run(config) for config in grid(BASE, depth=[3, 4, 5, 6, 8])]
    for _, _, figure in figures(runs):
        assert figure.get_figwidth() <= 5.0
        assert max(ax.get_subplotspec().get_gridspec().ncols for ax in figure.axes if ax.get_subplotspec()) <= 2
    bottom = [ax for ax in drawn(runs, CURVES).figure.axes if ax.get_xlabel() == "epoch"]
    assert [ax.get_title() for ax in bottom] == ["L = 6", "L = 8"]  # of five panels in two columns
    assert all(ax.xaxis.get_tick_params()["labelbottom"] for ax in bottom)


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    figures([model_run(BASE)])
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported():
    script = """
import io, sys
from ncharness import Row, Run, RunConfig
from ncharness.report.depth_figures import figures
run = Run(RunConfig(depth=2), tuple(Row(0, f"block0{i}.pre_bn", "train", "ncc_error", 0.5) for i in (1, 2)))
for _, _, figure in figures([run]):
    figure.savefig(io.BytesIO(), format="svg")
sys.exit("matplotlib.pyplot" in sys.modules or "figure" not in globals())
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
