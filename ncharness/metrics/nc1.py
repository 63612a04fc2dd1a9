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
    """Within-class variability NC1 = tr(Sigma_W pinv(Sigma_B)) / C.

    Sigma_W = (1/n) sum (x - m_y)(x - m_y)^T over all rows. Sigma_B = (1/C) sum (m_c - g)(m_c - g)^T over the classes
    that
    have rows, with g the mean of their means. With A the (d, C) centred means, NC1 = tr(gram pinv(A^T A)^2), so that no
    (d, d)
    matrix is needed. Directions of A^T A below NC1_RTOL of its largest eigenvalue are cut off.

    Args:
        stats: Class statistics.
        gram: Gram (C, C) of `measure(..., gram=True)`.
        per_class: Whether to divide by C. The notebook of Papyan et al. and Parker et al. do not.
        centre: Global mean g: mean of the class means (`classes`, Papyan et al.) or of the samples (`samples`, Zhu et
            al.).
        weights: Weights of classes in Sigma_B: 1/C each (`classes`) or n_c/n (`samples`, He & Su).
        rank: Number of leading directions to keep, such as C - 1 for an SVD cut there.

    Returns:
        Scalar float64 in [0, inf]. NaN with fewer than two classes, or a class mean that is not finite.

    Raises:
        ValueError: A Gram of another shape, or a rank that is not there.

    Warns:
        RuntimeWarning: One of the `rank` directions is below the cut-off. Where class means nearly coincide, the
            pseudo-inverse reports a false collapse, and `rank` a large or infinite number. `between_rank` tells which
            it is.

    References:
        Papyan, Han & Donoho 2020 (arXiv:2008.08186); Zhu et al. 2021 (arXiv:2105.02375).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> found = nc.measure(features, labels, 2, gram=True)
        >>> round(float(nc.nc1(found.stats, found.gram)), 6)  # rows vary at right angles to the line between the means
        0.0
        >>> found = nc.measure(torch.tensor([[0.0], [2.0], [4.0], [6.0]]), labels, 2, gram=True)
        >>> round(float(nc.nc1(found.stats, found.gram)), 6)  # Sigma_W = 1, Sigma_B = 4, C = 2
        0.125
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
    """Number of directions between class means that `nc1` keeps.

    It is below C - 1 where d < C - 1, or where class means coincide or are collinear. Then a small NC1 need not mean
    collapse.

    Args:
        stats: Class statistics.
        centre: Global mean, as in `nc1`.

    Returns:
        Scalar float64 in [0, C - 1]. NaN with fewer than two classes or a class mean that is not finite.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> float(nc.between_rank(stats))
        1.0
    """
    means = centred(stats, centre)
    between = means @ means.T
    if not measurable(between):
        return undefined(means)
    values: Tensor = torch.linalg.eigvalsh(between)
    return (values > NC1_RTOL * values[-1]).sum().double()


def fuzziness(stats: ClassStats, gram: Tensor) -> Tensor:
    """Separation fuzziness D = tr(SS_w pinv(SS_b)).

    SS_b = (1/n) sum_c n_c (m_c - g)(m_c - g)^T about the mean g of the samples, without 1/C. It is `nc1` by another
    convention, and C times it where classes are balanced.

    Args:
        stats: Class statistics.
        gram: Gram (C, C) of `measure(..., gram=True)`.

    Returns:
        Scalar float64 in [0, inf).

    References:
        He & Su (arXiv:2210.17020).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> found = nc.measure(torch.tensor([[0.0], [2.0], [4.0], [6.0]]), labels, 2, gram=True)
        >>> round(float(nc.fuzziness(found.stats, found.gram)), 6)  # 1 / 4
        0.25
    """
    return nc1(stats, gram, per_class=False, centre="samples", weights="samples")


def nc1_trace(
    stats: ClassStats,
    *,
    centre: Centre = "classes",
    weights: Weights = "classes",
    within: Weights = "samples",
) -> Tensor:
    """Trace form of NC1: tr(Sigma_W) / tr(Sigma_B).

    It counts variability in every direction, the pseudo-inverse of `nc1` only that between class means. Neither is
    larger in
    general.

    Args:
        stats: Class statistics.
        centre: Global mean g: mean of the class means (`classes`, Papyan et al.) or of the samples (`samples`, Zhu et
            al.).
        weights: Weights of classes in Sigma_B: 1/C each (`classes`) or n_c/n (`samples`, He & Su).
        within: Sigma_W over all rows (`samples`), or the average of the class covariances (`classes`).

    Returns:
        Scalar float64 in [0, inf]; inf where class means are equal, NaN with fewer than two classes.

    References:
        Tirer, Huang & Niles-Weed 2023; C_l of Wang et al. (arXiv:2311.02960).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> float(nc.nc1_trace(stats))  # 1 / 4
        0.25
    """
    check_choice("within", within, ("classes", "samples"))
    between = between_trace(stats, centre=centre, weights=weights)
    variance = stats.variance[stats.count > 0]
    value = (shares(stats, within) * variance).sum() / between
    return torch.where(between == 0, torch.inf, value)


def between_trace(stats: ClassStats, *, centre: Centre = "classes", weights: Weights = "classes") -> Tensor:
    """tr(Sigma_B), the mean squared distance of class means from the global mean.

    Args:
        stats: Class statistics.
        centre: Global mean g: mean of the class means (`classes`, Papyan et al.) or of the samples (`samples`, Zhu et
            al.).
        weights: Weights of classes in Sigma_B: 1/C each (`classes`) or n_c/n (`samples`, He & Su).

    Returns:
        Scalar float64; NaN with fewer than two classes.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> float(nc.between_trace(stats))
        4.0
    """
    means = centred(stats, centre)
    if means.shape[0] < 2:
        return undefined(means)
    return (shares(stats, weights) * means.square().sum(dim=1)).sum()


def kernel_nc1(kernel: Array, labels: Array, n_classes: int) -> Tensor:
    """Compute `nc1_trace` of features that are known by their kernel matrix alone.

    The features may have any dimension. Traces are sums of kernel entries, so that digits are lost to cancellation
    where
    features lie far from 0. Empty classes are left out.

    Args:
        kernel: Gram matrix (n, n), k_ij = <phi(x_i), phi(x_j)>.
        labels: Integers (n,) in [0, n_classes).
        n_classes: Number of classes.

    Returns:
        Scalar float64 in [0, inf].

    Raises:
        ValueError: A kernel that is not square, or labels out of range.

    References:
        Kothapalli & Tirer (arXiv:2406.02105).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> round(float(nc.kernel_nc1(features @ features.T, labels, 2)), 6)
        0.25
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
    """Fisher ratio tr(pinv(Sigma_W) Sigma_B) / C, with the inverse on the side within classes.

    It is large where `nc1` is small, and unlike it the same after any invertible linear map of the features. A
    direction in
    which nothing varies within classes (an eigenvalue of Sigma_W below NC1_RTOL of its largest) is left out where class
    means
    agree in it too, as in a unit that is always 0. Where they do not agree, the ratio is inf. With fewer than d + C
    rows it
    says nothing.

    Args:
        features: Rows (n, d), at most MOST_FEATURES columns: Sigma_W is a (d, d) matrix in float64.
        labels: Integers (n,).
        stats: Class statistics of these very rows.
        centre: Global mean g: mean of the class means (`classes`, Papyan et al.) or of the samples (`samples`, Zhu et
            al.).
        weights: Weights of classes in Sigma_B: 1/C each (`classes`) or n_c/n (`samples`, He & Su).

    Returns:
        Scalar float64 in [0, inf]. NaN with fewer than two classes or rows that are not finite.

    Raises:
        ValueError: More than MOST_FEATURES columns, or statistics of another width.

    References:
        Zarka, Guth & Mallat (arXiv:2012.10424).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features, labels = torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([0, 0, 1, 1])
        >>> round(float(nc.fisher(features, labels, nc.class_stats(features, labels, 2))), 6)  # 4 / 1 / 2
        2.0
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
    """Scale each row to length 1.

    Args:
        features: Rows (n, d).

    Returns:
        Rows (n, d) float64. A row of zeros has no direction and becomes NaN.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> nc.unit_rows(torch.tensor([[3.0, 4.0]])).tolist()
        [[0.6, 0.8]]
    """
    x = as_features(features).double()
    return x / row_norms(x)[:, None]


def class_separation(unit_stats: ClassStats) -> Tensor:
    """Class separation R^2 = 1 - d_within / d_total of cosine distances.

    d_within is the mean over classes of the mean of 1 - cos(x_i, x_j) over pairs of one class. d_total is that over
    pairs of
    classes. Both have every row paired with itself, as in the paper. The mean cosine distance in a class is the
    variance of
    its unit rows, so that nothing is lost to cancellation. The measure is not invariant to translation.

    Args:
        unit_stats: Class statistics of `unit_rows(features)`.

    Returns:
        Scalar float64 in [0, 1]. NaN with fewer than two classes, or where all rows point one way.

    References:
        Kornblith et al. (arXiv:2010.16402).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> rows = nc.unit_rows(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]))
        >>> float(nc.class_separation(nc.class_stats(rows, torch.tensor([0, 0, 1, 1]), 2)))
        1.0
    """
    within = unit_stats.variance[unit_stats.count > 0].mean()
    between = between_trace(unit_stats)
    return between / (within + between)


def strong_collapse(features: Array, labels: Array, stats: ClassStats) -> Tensor:
    """Strong collapse of held-out rows: mean ||x - mu_y||^2 / tr(Sigma_B).

    mu_y is the training mean of the row's class. The paper asks whether test samples collapse to the means of their own
    classes and leaves the estimator open. This one is `nc1_trace` with held-out rows about training means.

    Args:
        features: Held-out rows (n, d).
        labels: Integers (n,).
        stats: Class statistics of the training set.

    Returns:
        Scalar float64 in [0, inf].

    References:
        Hui, Belkin & Nakkiran (arXiv:2202.08384).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> float(nc.strong_collapse(torch.tensor([[1.0, 4.0]]), torch.tensor([0]), stats))  # 16 / 4
        4.0
    """
    x = as_features(features)
    y = as_labels(labels, x)
    check_labels(y, stats.n_classes)
    return sq_distances_to(x, stats.mean, y).mean() / between_trace(stats)


def weak_collapse(features: Array, stats: ClassStats) -> Tensor:
    """Weak collapse of held-out rows: mean min_c ||x - mu_c||^2 / tr(Sigma_B).

    It is `strong_collapse` without regard to labels, and so never above it.

    Args:
        features: Held-out rows (n, d).
        stats: Class statistics of the training set.

    Returns:
        Scalar float64 in [0, inf].

    References:
        Hui, Belkin & Nakkiran (arXiv:2202.08384).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> float(nc.weak_collapse(torch.tensor([[1.0, 3.0]]), stats))  # 1 / 4
        0.25
    """
    x = as_features(features)
    return sq_distances_to(x, stats.mean, ops.class_scores(x, None, stats.mean)[0]).mean() / between_trace(stats)
