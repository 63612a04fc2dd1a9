"""NC1, within-class variability against the distance between classes: every form of it that papers use."""

import warnings

import torch
from torch import Tensor

from ncharness.kernels import ops
from ncharness.kernels.arguments import Array, as_features, as_labels, as_rows, check_choice, check_labels
from ncharness.kernels.distances import sq_distances_to
from ncharness.metrics.cdnv import check_square
from ncharness.metrics.class_stats import ClassStats
from ncharness.metrics.linalg import Centre, Weights, centred, measurable, row_norms, shares, undefined

NC1_RTOL = 1e-12
"""Eigenvalues of the Gram of the centred class means below this share of the largest count as zero."""

MOST_FEATURES = 8192
"""The widest features that `fisher` takes: its covariance has d^2 entries, half a gigabyte here."""


def nc1(
    stats: ClassStats,
    gram: Tensor,
    *,
    per_class: bool = True,
    centre: Centre = "classes",
    weights: Weights = "classes",
    rank: int | None = None,
) -> Tensor:
    """Within-class variability NC1 = tr(Sigma_W pinv(Sigma_B)) / C (Papyan, Han & Donoho 2020, with the 1/C).

    Sigma_W = (1/n) sum (x - m_y)(x - m_y)^T over all rows; Sigma_B = (1/C) sum (m_c - g)(m_c - g)^T over the classes
    that have rows, g the mean of their means. `gram` (C, C) is that of `measure`. With A the (d, C) centred means,
    NC1 = tr(gram pinv(A^T A)^2), so that no (d, d) matrix is needed; directions of A^T A below NC1_RTOL of its largest
    eigenvalue are cut off. Never negative. NaN with fewer than two classes or a class mean that is not finite.

    Where papers disagree: `per_class=False` leaves out the 1/C (the notebook of Papyan et al., Parker et al.);
    `centre="samples"` takes the mean of the samples for g (Zhu et al. 2021); `weights="samples"` weighs classes by
    n_c/n in Sigma_B (He & Su). `rank` keeps that many leading directions, C - 1 as an SVD cut there does, and warns
    (RuntimeWarning) where one of them is below the cut-off: with class means that nearly coincide the pseudo-inverse
    reports a false collapse, this a large or infinite number, and `between_rank` says which it is.
    """
    check_square("gram", gram, stats)
    filled = stats.count > 0
    if centre == "none":
        raise ValueError("centre: expected classes or samples, got 'none': Sigma_B is a covariance")
    means, share = centred(stats, centre), shares(stats, weights)
    n = means.shape[0]
    if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= max(n - 1, 1)):
        raise ValueError(f"rank: expected an integer in [1, {max(n - 1, 1)}], got {rank!r}")
    if not measurable(means):
        return undefined(means)
    within = gram[filled][:, filled]
    if centre == "samples":  # t_c - sum_k (n_k/n) t_k are the scores about the mean of the samples
        about = torch.eye(n, dtype=torch.float64, device=means.device) - shares(stats, "samples")[:, None]
        within = about.T @ within @ about
    scale = (n * share).sqrt()
    within, means = scale[:, None] * within * scale, scale[:, None] * means
    between = means @ means.T
    if not measurable(between):  # too large to square
        return undefined(means)
    values, vectors = torch.linalg.eigh(between)
    kept = clear = values > NC1_RTOL * values[-1]
    if rank is not None:
        if int(kept.sum()) < rank:
            warnings.warn(
                f"rank: of {rank} directions between the class means only {int(kept.sum())} stand out of rounding",
                RuntimeWarning,
                stacklevel=2,
            )
        kept = torch.arange(n, device=means.device) >= n - rank
    along = (vectors * (within @ vectors)).sum(dim=0).clamp_min(0.0)  # v_k^T G v_k, at least 0 as G is a Gram
    ratios = along[kept] / values[kept].clamp_min(0.0).square()
    # Below the cut-off both are rounding, and a 0 there says nothing, unless there is no variability at all.
    lost = ~clear[kept] & bool(within.any())
    total: Tensor = torch.where(along[kept] == 0, torch.where(lost, torch.inf, 0.0), ratios).sum()
    return total if per_class else n * total


def between_rank(stats: ClassStats, *, centre: Centre = "classes") -> Tensor:
    """The number of directions between class means that `nc1` keeps, a float64 scalar in [0, C - 1].

    Fewer than C - 1 where d < C - 1, or where class means coincide or are collinear, and then a small NC1 need not mean
    collapse. NaN with fewer than two classes or a class mean that is not finite.
    """
    means = centred(stats, centre)
    between = means @ means.T
    if not measurable(between):
        return undefined(means)
    values: Tensor = torch.linalg.eigvalsh(between)
    return (values > NC1_RTOL * values[-1]).sum().double()


def fuzziness(stats: ClassStats, gram: Tensor) -> Tensor:
    """Separation fuzziness D = tr(SS_w pinv(SS_b)) of He & Su (arXiv:2210.17020), in [0, inf).

    SS_b = (1/n) sum_c n_c (m_c - g)(m_c - g)^T about the mean g of the samples, without 1/C: `nc1` by another
    convention, and C times it where classes are balanced. `gram` is that of `measure`.
    """
    return nc1(stats, gram, per_class=False, centre="samples", weights="samples")


def nc1_trace(
    stats: ClassStats,
    *,
    centre: Centre = "classes",
    weights: Weights = "classes",
    within: Weights = "samples",
) -> Tensor:
    """The trace form of NC1: tr(Sigma_W) / tr(Sigma_B), in [0, inf] (Tirer, Huang & Niles-Weed 2023).

    The C_l of Wang et al. (arXiv:2311.02960). No larger or smaller than `nc1` in general: it counts variability in
    every direction, the pseudo-inverse only that between class means. `centre` and `weights` are those of Sigma_B as in
    `nc1`; `within="classes"` averages the class covariances in place of all rows. inf where class means are equal, NaN
    with fewer than two classes.
    """
    check_choice("within", within, ("classes", "samples"))
    between = between_trace(stats, centre=centre, weights=weights)
    variance = stats.variance[stats.count > 0]
    value = (shares(stats, within) * variance).sum() / between
    return torch.where(between == 0, torch.inf, value)


def between_trace(stats: ClassStats, *, centre: Centre = "classes", weights: Weights = "classes") -> Tensor:
    """tr(Sigma_B), the mean squared distance of class means from the global mean; NaN with fewer than two classes."""
    means = centred(stats, centre)
    if means.shape[0] < 2:
        return undefined(means)
    return (shares(stats, weights) * means.square().sum(dim=1)).sum()


def kernel_nc1(kernel: Array, labels: Array, n_classes: int) -> Tensor:
    """`nc1_trace` of features known by their Gram matrix alone: kernel (n, n), k_ij = <phi(x_i), phi(x_j)>.

    Kothapalli & Tirer (arXiv:2406.02105), for features of any dimension: traces are sums of kernel entries, so that
    they lose digits to cancellation where features lie far from 0. Empty classes are left out.
    """
    k = as_rows(kernel, "kernel")
    if k.shape[0] != k.shape[1]:
        raise ValueError(f"kernel: expected shape (n, n), got {tuple(k.shape)}")
    y = as_labels(labels, k).long()
    check_labels(y, n_classes)
    member = torch.nn.functional.one_hot(y, n_classes).double()
    member = member[:, member.sum(dim=0) > 0]
    count = member.sum(dim=0)
    if len(count) < 2:
        return undefined(k)
    means = member.T @ k @ member / count[:, None] / count  # <mu_c, mu_c'>
    within = (k.diagonal().sum() - (count * means.diagonal()).sum()) / len(y)
    between = means.diagonal().mean() - means.mean()
    return torch.where(between == 0, torch.inf, within / between)


def fisher(
    features: Array, labels: Array, stats: ClassStats, *, centre: Centre = "classes", weights: Weights = "classes"
) -> Tensor:
    """Fisher ratio tr(pinv(Sigma_W) Sigma_B) / C, in [0, inf]: the inverse on the side within classes.

    Zarka, Guth & Mallat (arXiv:2012.10424). Large where `nc1` is small, and unlike it the same after any invertible
    linear map of the features. `stats` are those of these very rows; `centre` and `weights` as in `nc1`, Sigma_W over
    all rows. A direction in which nothing varies within classes (an eigenvalue of Sigma_W below NC1_RTOL of its
    largest) is left out where class means agree in it too, as in a unit that is always 0, and makes the ratio inf where
    they do not: with fewer than d + C rows it says nothing. NaN with fewer than two classes or rows that are not
    finite. Needs Sigma_W, (d, d) in float64: ValueError above MOST_FEATURES features.
    """
    x = as_features(features)
    y = as_labels(labels, x).long()
    check_labels(y, stats.n_classes)
    if x.shape[1] != stats.n_features:
        raise ValueError(f"features: expected {stats.n_features} columns as in stats, got {x.shape[1]}")
    if x.shape[1] > MOST_FEATURES:
        raise ValueError(f"features: expected at most {MOST_FEATURES} columns, got {x.shape[1]}")
    if centre == "none":
        raise ValueError("centre: expected classes or samples, got 'none': Sigma_B is a covariance")
    means = centred(stats, centre)
    residuals = x.double() - stats.mean[y]
    within = residuals.T @ residuals / max(len(residuals), 1)
    if not (measurable(means) and bool(within.isfinite().all())):
        return undefined(means)
    means = shares(stats, weights).sqrt()[:, None] * means
    values, vectors = torch.linalg.eigh(within)
    along = (means @ vectors).square().sum(dim=0)
    varies = values > NC1_RTOL * values[-1]
    if along[~varies].sum() > NC1_RTOL * along.sum():
        return torch.full_like(along[0], torch.inf)
    total: Tensor = (along[varies] / values[varies]).sum()
    return total / len(means)


def unit_rows(features: Array) -> Tensor:
    """(n, d) float64: each row at length 1; a row of zeros has no direction and becomes NaN."""
    x = as_features(features).double()
    return x / row_norms(x)[:, None]


def class_separation(unit_stats: ClassStats) -> Tensor:
    """Class separation R^2 = 1 - d_within / d_total of Kornblith et al. (arXiv:2010.16402), in [0, 1].

    d_within is the mean over classes of the mean of 1 - cos(x_i, x_j) over pairs of one class, d_total that over pairs
    of classes, both with every i paired with itself, as in the paper. `unit_stats` are the class statistics of
    `unit_rows(features)`, which give it without cancellation: the mean cosine distance in a class is the variance of
    its unit rows. Not invariant to translation. NaN with fewer than two classes, or where all rows point one way.
    """
    within = unit_stats.variance[unit_stats.count > 0].mean()
    between = between_trace(unit_stats)
    return between / (within + between)


def strong_collapse(features: Array, labels: Array, stats: ClassStats) -> Tensor:
    """Strong collapse of held-out rows: mean ||x - mu_y||^2 / tr(Sigma_B), mu_y the training mean of its class.

    Hui, Belkin & Nakkiran (arXiv:2202.08384) ask whether test samples collapse to the means of their own classes; the
    paper leaves the estimator open, this one is `nc1_trace` with held-out rows about training means. `stats` are those
    of the training set. A float64 scalar in [0, inf].
    """
    x = as_features(features)
    y = as_labels(labels, x)
    check_labels(y, stats.n_classes)
    return sq_distances_to(x, stats.mean, y).mean() / between_trace(stats)


def weak_collapse(features: Array, stats: ClassStats) -> Tensor:
    """Weak collapse of held-out rows: mean min_c ||x - mu_c||^2 / tr(Sigma_B), to whichever training mean is nearest.

    As `strong_collapse` (Hui, Belkin & Nakkiran) without regard to labels, and so never above it.
    """
    x = as_features(features)
    return sq_distances_to(x, stats.mean, ops.class_scores(x, None, stats.mean)[0]).mean() / between_trace(stats)
