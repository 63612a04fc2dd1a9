import math

import numpy as np
import pytest
from scipy import stats

from ncharness.report import traces as grouping
from ncharness.store.run import Run
from ncharness.training.config import RunConfig, grid
from ncharness.training.rows import Row

BASE = RunConfig(depth=2, epochs=10)


def flat_run(config, *, epochs=(0, 10), ratio=0.5):
    """Return a run with the same NCC errors at all epochs: ratio, ratio squared and so on."""
    errors = [ratio**layer for layer in range(1, config.depth + 1)]
    points = dict.fromkeys("pre_bn" if point == "paper" else point for point in config.points)
    layers = [(f"block{layer:02d}.{point}", error) for point in points for layer, error in enumerate(errors, 1)]
    return Run(config, tuple(Row(at, name, "train", "ncc_error", error) for at in epochs for name, error in layers))


def grouped(configs, **free):
    traces = [grouping.trace(run, point) for run in map(flat_run, configs) for point in run.points]
    return grouping.group(traces, **free)


def test_a_trace_holds_the_errors_of_every_epoch_and_the_accuracy_where_there_is_one():
    run = flat_run(BASE)
    run = Run(BASE, (*run.rows, Row(10, "network", "train", "error", 0.125)))
    trace = grouping.trace(run, "pre_bn")
    assert trace.epochs == (0, 10)
    np.testing.assert_array_equal(trace.errors, [[0.5, 0.25], [0.5, 0.25]])
    np.testing.assert_array_equal(trace.accuracy, [math.nan, 0.875])


def test_a_point_that_was_not_measured_has_no_trace():
    assert grouping.trace(flat_run(BASE), "out") is None


def test_an_epoch_without_all_layers_is_left_out():
    whole = flat_run(BASE)
    assert grouping.trace(Run(BASE, whole.rows[1:]), "pre_bn").epochs == (10,)


def test_depth_noise_and_seed_share_a_family():
    (family,) = grouped(grid(BASE, depth=[2, 4], noise=[0.0, 0.5], seed=range(3)))
    assert len(family.traces) == 12
    assert family.about == "digits, MLP-L-256; 10 epochs, layers taken at pre_bn"


def test_splits_share_a_family_and_halves_do_not():
    first = BASE.replace(part="first", n_train=400)
    both = first.replace(part="both", noise=0.2)
    found = grouped([*grid(first, split=range(3)), *grid(both, split=range(2), noise=[0.2, 0.4])])
    assert {family.about: len(family.traces) for family in found} == {
        "digits, MLP-L-256, part first; S1 of 200 training samples, 10 epochs, layers taken at pre_bn": 3,
        "digits, MLP-L-256, part both; S1 and noisy S2 of 200 training samples, 10 epochs, layers taken at pre_bn": 4,
    }


def test_data_architectures_widths_and_settings_never_share_one():
    configs = [
        *grid(BASE, data=["digits", "mnist1d"], width=[256, 64]),
        BASE.replace(arch="conv"),
        BASE.replace(weight_decay=0.0),
        BASE.replace(n_train=500),
    ]
    assert sorted(family.about.removesuffix(" epochs, layers taken at pre_bn") for family in grouped(configs)) == [
        "digits, CONV-L-256; 10",
        "digits, MLP-L-256, weight decay 0.0005; 10",
        "digits, MLP-L-256, weight decay 0.0005; first 500 training samples, 10",
        "digits, MLP-L-256, weight decay 0.0; 10",
        "digits, MLP-L-64, weight decay 0.0005; 10",
        "mnist1d, MLP-L-256; 10",
        "mnist1d, MLP-L-64; 10",
    ]


def test_families_come_by_data_and_then_by_width_whatever_the_order_of_the_runs():
    configs = grid(BASE, data=["mnist1d", "digits"], width=[256, 64])
    orders = [[family.about for family in grouped(some)] for some in (configs, configs[::-1])]
    assert orders[0] == orders[1]
    assert [about.split(";")[0] for about in orders[0]] == [
        "digits, MLP-L-64",
        "digits, MLP-L-256",
        "mnist1d, MLP-L-64",
        "mnist1d, MLP-L-256",
    ]


def test_a_free_field_is_one_more_that_a_family_may_vary_in():
    (family,) = grouped(grid(BASE, width=[64, 256]), width=1)
    assert family.about.startswith("digits, MLP-L-H;")
    assert [*grouping.by(family.traces, "width")] == [64, 256]


def test_controls_at_learning_rate_0_are_no_members_of_their_family():
    (family,) = grouped(grid(BASE, lr=[0.1, 0.0], seed=range(2)))
    assert [trace.config.lr for trace in family.traces] == [0.1, 0.1]
    assert [trace.config.lr for trace in family.controls] == [0.0, 0.0]


def test_controls_go_with_runs_that_differ_in_the_learning_rate_alone():
    (family,) = grouped([BASE, BASE.replace(lr=0.0, epochs=20)])
    assert family.controls == []


def test_capture_points_are_apart_and_named():
    abouts = [family.about for family in grouped([BASE.replace(points=("pre_bn", "out"))])]
    assert [about.split("; ")[0] for about in abouts] == ["digits, MLP-L-256, out", "digits, MLP-L-256, pre_bn"]


def test_a_run_measured_twice_is_one_seed():
    found = grouped(grid(BASE, points=[("paper",), ("pre_bn", "out")]))
    assert [len(family.traces) for family in found] == [1, 1]  # a family a point


def test_clean_runs_of_both_kinds_of_noise_are_one_family():
    (family,) = grouped(grid(BASE, noise_kind=["exact", "reference"], seed=range(2)))
    assert grouping.seeds([family.traces]) == "n = 4 seeds"


@pytest.mark.parametrize(
    ("sizes", "words"), [([1], "n = 1 seed"), ([5, 5], "n = 5 seeds"), ([5, 2, 3], "n = 2 to 5 seeds")], ids=str
)
def test_numbers_of_seeds_are_put_in_words(sizes, words):
    trace = grouping.trace(flat_run(BASE), "pre_bn")
    assert grouping.seeds([[trace] * size for size in sizes]) == words


def test_traces_are_compared_at_the_epochs_that_all_of_them_have():
    runs = [flat_run(BASE, epochs=(0, 1, 5, 10)), flat_run(BASE.replace(seed=1), epochs=(0, 5), ratio=0.25)]
    traces = [grouping.trace(run, "pre_bn") for run in runs]
    epochs, errors = grouping.over_epochs(traces, lambda trace: trace.errors)
    assert epochs == [0, 5]
    np.testing.assert_array_equal(errors[:, :, 1], [[0.25, 0.25], [0.0625, 0.0625]])


def test_a_family_of_one_depth_gives_way_to_one_with_a_sweep():
    swept, single = sorted(
        grouped([*grid(BASE, depth=[2, 4]), BASE.replace(width=64)]), key=lambda family: -len(family.traces)
    )
    assert grouping.is_swept(swept, [swept, single])
    assert not grouping.is_swept(single, [swept, single])
    assert grouping.is_swept(single, [single])


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_interval_is_the_95_percent_t_interval(seeds):
    depths = [5.0 + 0.1 * seed**2 for seed in range(seeds)]
    low, high = stats.t.interval(0.95, seeds - 1, loc=np.mean(depths), scale=stats.sem(depths))
    assert grouping.summary(depths, over_epochs=False) == pytest.approx((np.mean(depths), low, high))


def test_over_epochs_the_range_stands_for_the_interval():
    assert grouping.summary([5.0, 6.0, 8.5], over_epochs=True) == (6.5, 5.0, 8.5)


def test_one_seed_has_no_interval_and_a_missing_depth_no_mean():
    assert grouping.summary([5.0], over_epochs=False) == (5.0, 5.0, 5.0)
    assert all(map(math.isnan, grouping.summary([5.0, None], over_epochs=False)))
