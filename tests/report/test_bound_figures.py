"""Figure of the comparative bound, on runs whose terms are known."""

import pytest

from ncharness import Row, Run, RunConfig
from ncharness.report.depth_figures import named
from ncharness.verdicts.bound import DIRECTION

FIRST = RunConfig(part="first", width=20, n_train=400)
BOTH = FIRST.replace(part="both", depth=4, epochs=300)
SPLITS = range(4)


def made(config, separable_from, test=0.1, mistakes=()):
    errors = [0.0 if layer >= separable_from else 0.9 for layer in range(1, config.depth + 1)]
    rows = [Row(1, f"block{i:02d}.pre_bn", "train", "ncc_error", error) for i, error in enumerate(errors, start=1)]
    rows += [Row(1, "network", "test", "error", test), Row(1, "network", "second", "error", len(mistakes) / 200)]
    rows += [Row(1, "network", "second", f"mistake {i}", 3.0) for i in mistakes]
    return Run(config, tuple(rows))


def runs(depths, *, noises=(0.2, 0.3), seeds=(0, 1), data="digits", splits=SPLITS):
    """Return networks on S1 that separate from the given layer on, by L and split.

    d_min is 3 at every noise but the last, where it is 2.
    """
    first = [
        made(FIRST.replace(depth=L, split=split, seed=seed, data=data), at[split], 0.1 + 0.1 * split, range(20))
        for L, at in depths.items()
        for split in SPLITS
        for seed in seeds
    ]
    return first + [
        made(BOTH.replace(split=split, noise=noise, data=data), 2 if noise == max(noises) else 3)
        for split in splits
        for noise in noises
    ]


FLAT = {4: [1, 1, 1, 1], 6: [1, 1, 1, 3]}


def only(of):
    (found,) = named("bound-by-depth", of)
    return found


def bars(ax, label):
    """Return bottom and height of the bars of a term, by L."""
    (found,) = [container for container in ax.containers if container.get_label().startswith(label)]
    return [(round(bar.get_y(), 9), round(bar.get_height(), 9)) for bar in found]


def whiskers(ax, label):
    """Return (low, middle, high) of every point of a series with intervals."""
    (found,) = [container for container in ax.containers if container.get_label() == label]
    line, _, (segments,) = found
    ends = [segment[:, 1] for segment in segments.get_segments()]
    return [(low, middle, high) for (low, high), middle in zip(ends, line.get_ydata(), strict=True)]


def test_the_terms_stand_one_upon_the_other_by_depth_and_p():
    axes = only(runs(FLAT)).figure.axes
    assert [ax.get_title() for ax in axes] == ["p = 0.2", "p = 0.3, delta2 assumed 0"]
    low, high = axes
    assert [text.get_text() for text in low.get_xticklabels()] == ["4", "6"]
    assert bars(low, "(1 + alpha) p, exact") == [(0, 0.22)] * 2
    assert bars(high, "(1 + alpha) p, exact") == [(0, 0.33)] * 2
    # At p = .2, one split of four reaches d_min = 3 at L = 6; at p = .3, where d_min is 2, the same one.
    for ax, penalty in ((low, 0.22), (high, 0.33)):
        assert bars(ax, "first term, estimated") == [(penalty, 0), (penalty, 0.25)]
    # d_min is smaller at .3 than at .2 in every split, which is the event of delta2.
    assert bars(low, "delta2, estimated") == [(0.22, 1), (0.47, 1)]
    assert bars(high, "delta2, assumed") == [(0.33, 0), (0.58, 0)]


def test_the_sum_and_the_test_error_have_their_intervals():
    ax, _ = only(runs(FLAT)).figure.axes
    sums, tests = whiskers(ax, "the bound, delta1 = 0"), whiskers(ax, "measured test error")
    assert [middle for _, middle, _ in sums] == pytest.approx([1.22, 1.47])
    assert all(low < middle < high for low, middle, high in (sums[1], *tests))
    assert [middle for _, middle, _ in tests] == pytest.approx([0.25, 0.25])
    # t with three degrees of freedom, of .1, .2, .3, .4
    assert tests[0][2] - tests[0][1] == pytest.approx(3.182446 * 0.129099 / 2, rel=1e-5)


def test_an_estimated_delta1_is_an_empty_box_upon_the_others():
    ax, other = only(runs(FLAT)).figure.axes  # the same twenty mistakes at every initialisation: not uniform
    assert bars(ax, "delta1, if estimated") == [(1.22, 1), (1.47, 1)]
    assert bars(other, "delta1, if estimated")[0] == (0.33, 1)
    alone, _ = only(runs(FLAT, seeds=[0])).figure.axes
    assert not [one for one in alone.containers if "delta1, if" in one.get_label()]


def test_the_direction_of_the_error_and_the_settings_are_in_the_caption():
    caption = only(runs(FLAT)).caption
    for words in (DIRECTION, "digits, MLP-L-20, m = 200, n = 4 splits, eps = 0.05, alpha = 0.1", "delta1 is assumed 0"):
        assert words in caption


@pytest.mark.parametrize(("data", "guess"), [("digits", 0.9), ("shuffled:cifar100", 0.99), ("folder:/somewhere", None)])
def test_a_constant_guess_is_shown_where_the_number_of_classes_is_known(data, guess):
    ax, _ = only(runs(FLAT, data=data)).figure.axes
    shown = [line.get_ydata()[0] for line in ax.get_lines() if line.get_label() == "error of a constant guess"]
    assert shown == ([] if guess is None else [pytest.approx(guess)])


def test_there_is_a_figure_for_each_family_and_none_where_runs_are_missing():
    both = [*runs(FLAT), *runs(FLAT, data="shuffled:digits")]
    assert [one.caption.partition(",")[0] for one in named("bound-by-depth", both)] == ["digits", "shuffled:digits"]
    assert named("bound-by-depth", []) == []
    assert named("bound-by-depth", [run for run in runs(FLAT) if run.config.part == "first"]) == []
    assert named("bound-by-depth", runs(FLAT, splits=range(3))) == []


def test_every_panel_shows_its_bars_whole():
    growing = only(runs({4: [2, 2, 2, 2]}, noises=(0.2, 0.4))).figure.axes  # reaches d_min at .4 alone
    tops = [max(bar.get_y() + bar.get_height() for bar in ax.patches) for ax in growing]
    assert tops == pytest.approx([2.22, 2.44])
    assert all(ax.get_ylim()[1] > max(tops) for ax in growing)
