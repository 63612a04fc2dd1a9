"""NC1 in every form against explicit d x d covariances, and the relations between the forms."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from literature import covariances, example, few, moments, orthogonal, seeds, simplex

from ncharness import (
    ClassStats,
    between_rank,
    between_trace,
    cdnv,
    class_separation,
    class_stats,
    directional_cdnv,
    fisher,
    fuzziness,
    kernel_nc1,
    measure,
    nc1,
    nc1_trace,
    one_sided_cdnv,
    strong_collapse,
    unit_rows,
    weak_collapse,
)

CONVENTIONS = list(itertools.product(("classes", "samples"), repeat=2))


def naive_nc1(x, y, **convention):
    sigma_w, sigma_b = covariances(x, y, **convention)
    return np.trace(sigma_w @ np.linalg.pinv(sigma_b, rcond=1e-10, hermitian=True))


def noisy(means, noise, seed=0, n=30):
    """n rows about each of the means, whose class means are exactly those: noise (d, d) shapes the cloud."""
    rng = np.random.default_rng(seed)
    cloud = rng.standard_normal((len(means), n, means.shape[1])) @ noise
    x = means[:, None] + cloud - cloud.mean(axis=1, keepdims=True)
    return x.reshape(-1, means.shape[1]), np.repeat(np.arange(len(means)), n)


# --- conventions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("centre", "weights"), CONVENTIONS)
@pytest.mark.parametrize("d", [3, 7, 40])
def test_nc1_of_every_convention_matches_explicit_covariances(centre, weights, d):
    x, y = example(d=d)
    found = measure(x, 2 * y, 10, gram=True)  # every other class is empty
    expected = naive_nc1(x, y, centre=centre, weights=weights)
    value = nc1(found.stats, found.gram, per_class=False, centre=centre, weights=weights)
    assert float(value) == pytest.approx(expected, rel=1e-8)
    per_class = nc1(found.stats, found.gram, centre=centre, weights=weights)
    assert float(per_class) == pytest.approx(expected / 5, rel=1e-8)


def test_conventions_differ_where_classes_are_imbalanced_and_only_there():
    for balanced in (False, True):
        x, y = example(balanced=balanced)
        found = measure(x, y, 5, gram=True)
        forms = [nc1(found.stats, found.gram, centre=c, weights=w) for c, w in CONVENTIONS]
        forms_trace = [nc1_trace(found.stats, centre=c, weights=w) for c, w in CONVENTIONS]
        for values in (forms, forms_trace):
            spread = float(max(values) - min(values)) / float(values[0])
            assert spread < 1e-12 if balanced else spread > 1e-3
        assert (float(nc1_trace(found.stats, within="classes")) == pytest.approx(float(forms_trace[0]))) == balanced


@pytest.mark.parametrize(("centre", "weights"), CONVENTIONS)
@pytest.mark.parametrize("within", ["classes", "samples"])
def test_the_trace_form_matches_explicit_covariances(centre, weights, within):
    x, y = example()
    sigma_w, sigma_b = covariances(x, y, centre=centre, weights=weights, within=within)
    stats = class_stats(x, 2 * y + 1, 11)
    value = nc1_trace(stats, centre=centre, weights=weights, within=within)
    assert float(value) == pytest.approx(np.trace(sigma_w) / np.trace(sigma_b), rel=1e-12)
    assert float(between_trace(stats, centre=centre, weights=weights)) == pytest.approx(np.trace(sigma_b), rel=1e-12)


def test_one_sided_and_unbiased_cdnv_match_loops():
    x, y = example()
    means, covs, counts = moments(x, y)
    stats = class_stats(x, y, 6)  # class 5 is empty
    matrix = one_sided_cdnv(stats, pairs=True)
    for i, j in itertools.permutations(range(5), 2):
        expected = np.trace(covs[i]) / ((means[i] - means[j]) ** 2).sum()
        assert float(matrix[i, j]) == pytest.approx(expected, rel=1e-12)
    assert matrix.diagonal().isnan().all()
    assert matrix[5].isnan().all()
    assert matrix[:, 5].isnan().all()
    assert float(one_sided_cdnv(stats)) == pytest.approx(float(matrix.nanmean()), rel=1e-12)
    variance = [np.trace(c) * n / (n - 1) for c, n in zip(covs, counts, strict=True)]
    pairs = list(itertools.combinations(range(5), 2))
    naive = [(variance[i] + variance[j]) / (2 * ((means[i] - means[j]) ** 2).sum()) for i, j in pairs]
    assert float(cdnv(stats, unbiased=True)) == pytest.approx(np.mean(naive), rel=1e-12)
    unbiased = cdnv(stats, pairs=True, unbiased=True)
    assert [float(unbiased[i, j]) for i, j in pairs] == pytest.approx(naive, rel=1e-12)


def test_a_class_of_one_row_has_no_unbiased_variance():
    stats = class_stats(np.array([[0.0], [1.0], [5.0]]), np.array([0, 0, 1]), 2)
    assert cdnv(stats, unbiased=True).isnan()
    assert float(cdnv(stats)) == pytest.approx(0.25 / (2 * 4.5**2))


def naive_separation(x, y):
    """Kornblith et al. by its double sums over samples."""
    x, y = np.asarray(x), np.asarray(y)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    rows = [unit[y == c] for c in np.unique(y)]
    within = np.mean([(1 - r @ r.T).mean() for r in rows])
    total = np.mean([[(1 - r @ s.T).mean() for s in rows] for r in rows])
    return 1 - within / total


@few
@given(seed=seeds, noise=st.sampled_from([1.0, 0.1]))
def test_class_separation_matches_its_double_sums(seed, noise):
    x, y = example(seed, noise=noise)
    found = class_separation(class_stats(unit_rows(x), 2 * y, 10))
    assert float(found) == pytest.approx(naive_separation(x, y), rel=1e-9)
    assert 0 <= found <= 1
    scaled = x * torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 10, (len(x), 1)))  # every row by itself
    assert float(class_separation(class_stats(unit_rows(scaled), y, 5))) == pytest.approx(float(found), rel=1e-9)
    shifted = class_stats(unit_rows(x + 3), y, 5)
    assert abs(float(class_separation(shifted)) - float(found)) > 1e-7


def test_class_separation_of_rows_without_direction_is_nan_and_collapsed_classes_give_one():
    x, y = example(noise=0.0)
    assert float(class_separation(class_stats(unit_rows(x), y, 5))) == pytest.approx(1, abs=1e-15)
    with pytest.warns(RuntimeWarning, match="class 0"):
        poisoned = class_stats(unit_rows(torch.tensor([[0.0, 0.0], [1.0, 0.0]])), torch.tensor([0, 1]), 2)
    assert class_separation(poisoned).isnan()
    assert class_separation(class_stats(unit_rows(torch.ones(4, 2)), torch.tensor([0, 0, 1, 1]), 2)).isnan()


@few
@given(seed=seeds, balanced=st.booleans())
def test_the_kernel_form_is_the_trace_form_of_the_features(seed, balanced):
    x, y = example(seed, balanced=balanced)
    assert float(kernel_nc1(x @ x.T, y, 7)) == pytest.approx(float(nc1_trace(class_stats(x, y, 7))), rel=1e-9)


@pytest.mark.parametrize(("centre", "weights"), CONVENTIONS)
def test_fisher_of_every_convention_matches_explicit_covariances(centre, weights):
    x, y = example()
    sigma_w, sigma_b = covariances(x, y, centre=centre, weights=weights)
    found = fisher(x, 2 * y, class_stats(x, 2 * y, 10), centre=centre, weights=weights)  # every other class is empty
    assert float(found) == pytest.approx(np.trace(np.linalg.solve(sigma_w, sigma_b)) / 5, rel=1e-9)


@few
@given(seed=seeds, d=st.integers(1, 12))
def test_fisher_is_the_same_after_any_invertible_map_and_nc1_is_not(seed, d):
    x, y = example(seed, d=d)
    rng = np.random.default_rng(seed)
    bend = orthogonal(d, seed % 1000) * rng.uniform(0.1, 3, d) @ orthogonal(d, seed % 1000 + 1)
    bent = x @ torch.from_numpy(bend) + 7

    def both(rows):
        found = measure(rows, y, 5, gram=True)
        return float(fisher(rows, y, found.stats)), float(found.nc1)

    (before, nc1_before), (after, nc1_after) = both(x), both(bent)
    assert after == pytest.approx(before, rel=1e-9)
    if d > 4:
        assert nc1_after != pytest.approx(nc1_before, rel=1e-6)


def test_fisher_of_white_noise_is_the_trace_of_what_is_between():
    means = simplex(4, 3, scale=2.0)
    x, y = noisy(means, np.eye(3), n=50)
    white = np.linalg.inv(np.linalg.cholesky(covariances(x, y)[0])).T
    stats = class_stats(x @ white, y, 4)
    assert float(fisher(x @ white, y, stats)) == pytest.approx(float(between_trace(stats)) / 4, rel=1e-12)


def test_fisher_leaves_out_what_varies_nowhere_and_is_infinite_where_only_the_means_differ():
    x, y = example()
    value = float(fisher(x, y, class_stats(x, y, 5)))
    still = torch.cat([x, torch.full((len(x), 2), 0.3)], dim=1)  # units that are always the same
    assert float(fisher(still, y, class_stats(still, y, 5))) == pytest.approx(value, rel=1e-9)
    told = torch.cat([x, y[:, None].double()], dim=1)  # and one that is the label
    assert fisher(told, y, class_stats(told, y, 5)) == torch.inf
    wide = torch.randn(20, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert fisher(wide, y[:20], class_stats(wide, y[:20], 5)) == torch.inf, "fewer rows than features"


def test_fisher_of_one_class_is_nan_and_its_arguments_are_checked(monkeypatch):
    x, y = example()
    assert fisher(x, 0 * y, class_stats(x, 0 * y, 3)).isnan()
    stats = class_stats(x, y, 5)
    with pytest.raises(ValueError, match=r"^features: expected 7 columns as in stats, got 6"):
        fisher(x[:, :6], y, stats)
    with pytest.raises(ValueError, match=r"^labels: expected values in \[0, 5\), got 5 at index 0"):
        fisher(x, y + 5, stats)
    with pytest.raises(ValueError, match=r"^centre: expected classes or samples, got 'none'"):
        fisher(x, y, stats, centre="none")
    monkeypatch.setattr("ncharness.metrics.nc1.MOST_FEATURES", 6)
    with pytest.raises(ValueError, match=r"^features: expected at most 6 columns, got 7"):
        fisher(x, y, stats)


# --- relations --------------------------------------------------------------------------------------------------------


@few
@given(seed=seeds, d=st.integers(1, 12), n_classes=st.integers(2, 8))
def test_fuzziness_is_nc1_without_the_1_over_c_where_classes_are_balanced(seed, d, n_classes):
    x, y = example(seed, d=d, n_classes=n_classes, n=10 * n_classes, balanced=True)
    found = measure(x, y, n_classes, gram=True)
    value = fuzziness(found.stats, found.gram)
    assert float(value) == pytest.approx(n_classes * float(found.nc1), rel=1e-7)


def test_fuzziness_of_imbalanced_classes_weighs_them_by_their_samples():
    x, y = example()
    found = measure(x, y, 5, gram=True)
    expected = naive_nc1(x, y, centre="samples", weights="samples")
    assert float(fuzziness(found.stats, found.gram)) == pytest.approx(expected, rel=1e-9)
    assert float(fuzziness(found.stats, found.gram)) != pytest.approx(5 * float(found.nc1), rel=1e-2)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_the_trace_form_of_a_simplex_is_a_multiple_of_cdnv(n_classes):
    x, y = noisy(simplex(n_classes, 12), np.eye(12))
    stats = class_stats(x, y, n_classes)
    stats.scatter[:] = stats.scatter.mean()  # one variance for all
    factor = 2 * n_classes / (n_classes - 1)
    assert float(nc1_trace(stats)) == pytest.approx(factor * float(cdnv(stats)), rel=1e-12)


@few
@given(seed=seeds)
def test_of_two_balanced_classes_the_trace_form_is_four_times_cdnv(seed):
    x, y = example(seed, n_classes=2, balanced=True)
    stats = class_stats(x, y, 2)
    assert float(nc1_trace(stats)) == pytest.approx(4 * float(cdnv(stats)), rel=1e-12)


def test_noise_across_the_class_means_is_seen_by_the_trace_form_alone():
    means, d = simplex(4, 10, scale=2.0), 10
    span = np.linalg.svd(means, full_matrices=False)[2][:3]
    across = np.eye(d) - span.T @ span
    x, y = noisy(means, 5 * across)
    found = measure(x, y, 4, gram=True)
    assert 0 <= float(found.nc1) < 1e-25
    assert float(nc1_trace(found.stats)) > 1


@few
@given(seed=seeds, d=st.sampled_from([4, 12]))
def test_an_invertible_map_keeps_nc1_only_where_means_span_everything(seed, d):
    x, y = example(seed, n_classes=5, d=d, balanced=True)
    rng = np.random.default_rng(seed)
    stretch = orthogonal(d, seed) * rng.uniform(0.2, 3.0, d)
    before, after = (float(measure(features, y, 5, gram=True).nc1) for features in (x, x @ torch.from_numpy(stretch)))
    if d == 4:
        assert after == pytest.approx(before, rel=1e-6)
    else:
        assert after != pytest.approx(before, rel=1e-3)


def forms(x, y, n_classes=5):
    found = measure(x, y, n_classes, gram=True)
    values = [nc1(found.stats, found.gram, centre=c, weights=w) for c, w in CONVENTIONS]
    values += [nc1(found.stats, found.gram, rank=n_classes - 1), fuzziness(found.stats, found.gram)]
    values += [nc1_trace(found.stats, centre=c, within=w) for c, w in CONVENTIONS]
    values += [cdnv(found.stats), cdnv(found.stats, unbiased=True), one_sided_cdnv(found.stats)]
    return torch.stack(values)


@few
@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100), order=st.permutations(range(5)))
def test_every_form_is_invariant_to_rotation_translation_scale_and_names(seed, scale, shift, order):
    x, y = example(seed, n=120)
    assume(bool((torch.bincount(y, minlength=5) > 1).all()))
    expected = forms(x, y)
    for moved in (x + shift, scale * x, x @ torch.from_numpy(orthogonal(7, seed))):
        torch.testing.assert_close(forms(moved, y), expected, rtol=1e-7, atol=0)
    torch.testing.assert_close(forms(x, torch.tensor(order)[y]), expected, rtol=1e-7, atol=0)


@few
@given(seed=seeds, offset=st.sampled_from([0.0, 10.0, 1e3]), noise=st.sampled_from([1e-2, 1e-4, 1e-6]))
def test_no_form_of_near_collapsed_float32_features_is_negative_or_far_off(seed, offset, noise):
    # The trace of a float32 pseudo-inverse went negative here in the code that many used.
    x, y = example(seed, offset=offset, noise=noise, d=20, balanced=True)
    x = x.float()
    exact = forms(x.double(), y)
    found = forms(x, y)
    assert (found >= 0).all()
    torch.testing.assert_close(found, exact, rtol=1e-2, atol=0)


@few
@given(seed=seeds)
def test_directional_is_at_most_one_sided(seed):
    x, y = example(seed)
    found = measure(x, y, 5, gram=True)
    along = directional_cdnv(found.stats, found.directional, pairs=True)
    full = one_sided_cdnv(found.stats, pairs=True)
    off = ~torch.eye(5, dtype=torch.bool)
    assert (along[off] <= full[off] * (1 + 1e-12)).all()


# --- held-out rows ----------------------------------------------------------------------------------------------------


@few
@given(seed=seeds, noise=st.sampled_from([0.05, 1.0, 3.0]))
def test_weak_and_strong_collapse_match_loops_and_weak_is_never_above(seed, noise):
    x, y = example(seed, noise=noise)
    held, labels = example(seed + 1, noise=noise)
    stats = class_stats(x, y, 5)
    means = moments(x, y)[0]
    sq = ((held.numpy()[:, None] - means) ** 2).sum(axis=2)
    between = np.trace(covariances(x, y)[1])
    strong, weak = strong_collapse(held, labels, stats), weak_collapse(held, stats)
    assert float(strong) == pytest.approx(sq[np.arange(80), labels].mean() / between, rel=1e-12)
    assert float(weak) == pytest.approx(sq.min(axis=1).mean() / between, rel=1e-12)
    assert weak <= strong


def test_on_the_training_set_strong_collapse_is_the_trace_form_and_weak_equals_it_where_ncc_is_perfect():
    x, y = example(noise=1e-3)
    found = measure(x, y, 5)
    assert found.ncc_accuracy == 1
    assert float(strong_collapse(x, y, found.stats)) == pytest.approx(float(nc1_trace(found.stats)), rel=1e-12)
    assert strong_collapse(x, y, found.stats) == weak_collapse(x, found.stats)
    x, y = example(noise=2.0)
    found = measure(x, y, 5)
    assert weak_collapse(x, found.stats) < strong_collapse(x, y, found.stats)


def test_a_held_out_row_that_is_not_finite_or_of_an_empty_class_makes_collapse_nan():
    x, y = example()
    stats = class_stats(x, y, 6)
    bad = x[:3].clone()
    bad[1, 2] = torch.nan
    assert weak_collapse(bad, stats).isnan()
    assert strong_collapse(bad, y[:3], stats).isnan()
    assert strong_collapse(x[:3], torch.tensor([0, 5, 1]), stats).isnan()
    assert weak_collapse(x[:3], stats).isfinite()


# --- degenerate means -------------------------------------------------------------------------------------------------


def merged(gap, n_classes=5, d=12, dtype=torch.float64):
    """Two of the class means `gap` apart; the rest a simplex. Noise of one size in every direction."""
    means = simplex(n_classes, d)
    step = np.linalg.svd(means)[2][-1]  # not in the span of the others
    means[1] = means[0] + gap * step
    x, y = noisy(means, 0.1 * np.eye(d), n=200)
    return torch.from_numpy(x).to(dtype), torch.from_numpy(y)


def test_means_that_coincide_lower_the_rank_and_are_no_false_collapse():
    for gap, rank in ((1.0, 4), (1e-3, 4), (0.0, 3)):
        x, y = merged(gap)
        found = measure(x, y, 5, gram=True)
        assert between_rank(found.stats) == rank
        if rank == 4:  # a close pair shows
            assert float(found.nc1) == pytest.approx(naive_nc1(x, y) / 5, rel=1e-6)
            assert float(nc1(found.stats, found.gram, rank=4)) == float(found.nc1)
            assert gap == 1.0 or float(found.nc1) > 1e3
        else:  # the cut-off hides it, the full rank does not, and says so
            with pytest.warns(RuntimeWarning, match="rank: of 4 directions .* only 3 stand out of rounding"):
                full = nc1(found.stats, found.gram, rank=4)
            assert full > 1e3 * found.nc1
    assert nc1(found.stats, found.gram, rank=3) == found.nc1


def test_without_any_variability_a_lost_direction_is_no_collapse_undone():
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]], dtype=torch.float64).repeat(4, 1)
    found = measure(x, torch.arange(3).repeat(4), 3, gram=True)
    with pytest.warns(RuntimeWarning, match="rank: of 2 directions .* only 1 stand out of rounding"):
        assert nc1(found.stats, found.gram, rank=2) == 0
    assert found.nc1 == 0


def test_equal_means_give_infinity_one_class_nan_and_empty_classes_are_left_out():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1])
    same = class_stats(x, y, 2)
    assert nc1_trace(same) == torch.inf
    assert kernel_nc1(x @ x.T, y, 2) == torch.inf
    still = torch.ones(4, 2, dtype=torch.float64)  # no variance either
    assert nc1_trace(class_stats(still, y, 2)) == kernel_nc1(still @ still.T, y, 2) == torch.inf
    assert one_sided_cdnv(class_stats(still, y, 2), pairs=True)[1, 0] == torch.inf
    assert between_rank(same) == 0
    assert (one_sided_cdnv(same, pairs=True)[0, 1], one_sided_cdnv(same)) == (torch.inf, torch.inf)
    single = measure(x, torch.zeros(4, dtype=torch.int64), 3, gram=True)
    for value in (
        nc1_trace(single.stats),
        kernel_nc1(x @ x.T, y * 0, 3),
        between_rank(single.stats),
        between_trace(single.stats),
        fuzziness(single.stats, single.gram),
        nc1(single.stats, single.gram, rank=1),
        class_separation(single.stats),
    ):
        assert value.isnan()
    assert nc1_trace(ClassStats.empty(3, 2)).isnan()


def test_more_classes_than_dimensions_have_the_rank_of_the_dimensions():
    x, y = example(d=3, n_classes=8, n=160)
    found = measure(x, y, 8, gram=True)
    assert between_rank(found.stats) == 3
    assert float(found.nc1) == pytest.approx(naive_nc1(x, y) / 8, rel=1e-8)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r"^gram: expected shape \(5, 5\), got \(4, 4\)", lambda s, g: nc1(s, g[:4, :4])),
        (r"^directional: expected shape \(5, 5\), got \(5, 4\)", lambda s, g: directional_cdnv(s, g[:, :4])),
        ("^centre: expected one of classes, samples, none, got 'median'", lambda s, _: nc1_trace(s, centre="median")),
        ("^centre: expected classes or samples, got 'none'", lambda s, g: nc1(s, g, centre="none")),
        ("^weights: expected one of classes, samples, got 'none'", lambda s, g: nc1(s, g, weights="none")),
        ("^within: expected one of classes, samples, got 'all'", lambda s, _: nc1_trace(s, within="all")),
        (r"^rank: expected an integer in \[1, 4\], got 5", lambda s, g: nc1(s, g, rank=5)),
        (r"^rank: expected an integer in \[1, 4\], got 0", lambda s, g: nc1(s, g, rank=0)),
        (r"^rank: expected an integer in \[1, 4\], got True", lambda s, g: nc1(s, g, rank=True)),
        (r"^kernel: expected shape \(n, n\), got \(5, 4\)", lambda _, g: kernel_nc1(g[:, :4], torch.arange(5), 5)),
        (r"^labels: expected values in \[0, 3\), got 3 at index 3", lambda _, g: kernel_nc1(g, torch.arange(5), 3)),
        (
            r"^labels: expected values in \[0, 5\), got 9 at index 0",
            lambda s, _: strong_collapse(np.ones((1, 7)), np.array([9]), s),
        ),
    ],
)
def test_bad_arguments_are_named(message, call):
    x, y = example()
    found = measure(x, y, 5, gram=True)
    with pytest.raises(ValueError, match=message):
        call(found.stats, found.gram)
