"""Registry of the metrics that can be asked for by name.

Each name stands for the convention that its function follows by default. For the other conventions call the function on
the class statistics, Gram and directional sums of a `LayerReport`.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import torch
from torch import Tensor

from ncharness.kernels.distances import sq_distances_to
from ncharness.metrics.cdnv import cdnv, directional_cdnv
from ncharness.metrics.class_stats import ClassStats
from ncharness.metrics.nc1 import between_rank, between_trace, class_separation, fuzziness, nc1, nc1_trace
from ncharness.metrics.nc2 import discrimination, equiangularity, equinorm, etf_distance, frame_distance
from ncharness.metrics.nc3_nc4 import product_duality, self_duality
from ncharness.metrics.rank import stable_rank, subspace_alignment

RowFunction: TypeAlias = Callable[[Tensor, Tensor, ClassStats], "Tensor | float"]
"""A metric of one's own: features (n, d) of a batch, labels (n,), the training set's statistics of the layer.

Returns a number per row, (n,), or their mean over the batch; the metric is the mean over all rows of the data set. It
must not write to the features, which the network goes on with."""

Metric: TypeAlias = str | RowFunction


class Needs(Enum):
    """Quantities that a metric is computed from, which the sweeps over the data gather if some metric asks."""

    STATS = "class statistics of a layer"
    GRAM = "class statistics, Gram and directional variances of a layer"
    UNIT_ROWS = "class statistics of a layer's features at unit length"
    CLASSIFIER = "the classifier's weight (C, d) and the class statistics of a layer of d features"
    ROWS = "features, labels, nearest class centres and class statistics: a number per row"
    PREDICTIONS = "the network's predictions and a layer's nearest class centres"
    WEIGHT = "the classifier's weight alone"
    OUTPUTS = "the network's outputs"


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A metric that can be asked for by name: all that measuring, help texts and documentation know of it.

    Attributes:
        name: Name in `metrics=[...]` and in the rows of a run.
        needs: Quantities that it is computed from.
        function: Function of these, in the order in which `Needs` names them. None for PREDICTIONS and OUTPUTS, which
            the sweep computes itself. The metric of ROWS is the mean of its values over tr(Sigma_B).
        convention: Definition and convention, in Markdown.
        otherwise: Keywords and functions for other conventions, in Markdown.
        source: Papers.
        elsewhere: Names in other packages and papers, in Markdown.
    """

    name: str
    needs: Needs
    function: Callable[..., Tensor] | None
    convention: str
    otherwise: str = ""
    source: str = ""
    elsewhere: str = ""


def _top_nc1(stats: ClassStats, gram: Tensor, _: Tensor) -> Tensor:
    rank = max(min(int((stats.count > 0).sum()) - 1, stats.n_features), 1)
    return nc1(stats, gram, rank=rank)


def _stable_rank_of_means(stats: ClassStats) -> Tensor:
    return stable_rank(stats.mean[stats.count > 0], centre=True)


def _strong(x: Tensor, y: Tensor, _: Tensor, stats: ClassStats) -> Tensor:
    return sq_distances_to(x, stats.mean, y)


def _weak(x: Tensor, _: Tensor, nearest: Tensor, stats: ClassStats) -> Tensor:
    return sq_distances_to(x, stats.mean, nearest)


_PAPYAN, _ZHU = "Papyan et al. 2020", "Zhu et al. 2021"
_ETF = "‖MMᵀ/‖MMᵀ‖_F − P/√(C − 1)‖_F"

METRICS: dict[str, MetricSpec] = {
    spec.name: spec
    for spec in (
        MetricSpec(
            name="nc1_trace",
            needs=Needs.STATS,
            function=nc1_trace,
            convention="tr Σ_W / tr Σ_B",
            otherwise='`centre=`, `weights=`, `within="classes"`; `kernel_nc1` from a Gram matrix',
            source="Tirer et al. 2023; C_l of Wang et al. 2023",
            elsewhere='ÑC1, `covariance_ratio(metric="quotient")`, C_l',
        ),
        MetricSpec(
            name="cdnv_unbiased",
            needs=Needs.STATS,
            function=lambda stats: cdnv(stats, unbiased=True),
            convention="CDNV with 1/(n − 1); `cdnv`, with 1/n and factor 1/2, is always measured",
            otherwise="`one_sided_cdnv`, `pairs=True`",
            source="Galanti et al. 2021, 2022",
        ),
        MetricSpec(
            name="between_rank",
            needs=Needs.STATS,
            function=between_rank,
            convention="rank of the centred class means, as `nc1` keeps it",
            otherwise="`numerical_rank` of any matrix",
        ),
        MetricSpec(
            name="between_stable_rank",
            needs=Needs.STATS,
            function=_stable_rank_of_means,
            convention="‖M‖²_F / ‖M‖²₂ of the centred class means",
            otherwise="`stable_rank` of any matrix",
        ),
        MetricSpec(
            name="etf_distance",
            needs=Needs.STATS,
            function=etf_distance,
            convention=f"{_ETF} of class means about their mean",
            otherwise='`centre="samples"`, `"none"`; `etf_distance_floor` for d < C − 1',
            source=_ZHU,
            elsewhere="`simplex_etf_error`, structure error, NC2",
        ),
        MetricSpec(
            name="frame_distance",
            needs=Needs.STATS,
            function=frame_distance,
            convention="the same against an orthogonal frame, of means that are not centred",
            otherwise="`unit=True`, `centre=`",
            source="Tirer & Bruna 2022",
        ),
        MetricSpec(
            name="equinorm",
            needs=Needs.STATS,
            function=equinorm,
            convention="std / mean of the norms of centred class means, std with 1/(C − 1)",
            otherwise='`spread="biased"`, `"log"`; `centre=`',
            source=_PAPYAN,
        ),
        MetricSpec(
            name="equiangularity",
            needs=Needs.STATS,
            function=equiangularity,
            convention="mean of |cos + 1/(C − 1)| over pairs of centred class means",
            otherwise='`over="max"`, `"signed"`; `centre=`',
            source=_PAPYAN,
        ),
        MetricSpec(
            name="equiangularity_std",
            needs=Needs.STATS,
            function=lambda stats: equiangularity(stats, over="std"),
            convention="standard deviation of these cosines",
            otherwise="`centre=`",
            source=_PAPYAN,
        ),
        MetricSpec(
            name="discrimination",
            needs=Needs.STATS,
            function=discrimination,
            convention="D_l = 1 − max cos(μ_i, μ_j), not centred",
            otherwise='`centre="classes"`',
            source="Wang et al. 2023",
        ),
        MetricSpec(
            name="nc1",
            needs=Needs.GRAM,
            function=lambda stats, gram, _: nc1(stats, gram),
            convention="tr(Σ_W Σ_B⁺) / C; mean of class means; 1/n; directions under 1e-12 of the largest cut off",
            otherwise='`per_class=False`, `centre="samples"`, `weights="samples"`, `rank=`',
            source=f"{_PAPYAN}; {_ZHU}",
            elsewhere='within-class variability, `covariance_ratio(metric="pinv")`, `covariance_pinv`, '
            "`collapse_metric`",
        ),
        MetricSpec(
            name="nc1_top",
            needs=Needs.GRAM,
            function=_top_nc1,
            convention="the same on exactly the C − 1 leading directions, with a warning where one is rounding",
            otherwise="`nc1(..., rank=)`",
            source="the code of Papyan et al., Parker et al. (there without 1/C)",
        ),
        MetricSpec(
            name="fuzziness",
            needs=Needs.GRAM,
            function=lambda stats, gram, _: fuzziness(stats, gram),
            convention="tr(SS_w SS_b⁺): sample mean, classes by their samples, no 1/C",
            otherwise="`nc1(...)`",
            source="He & Su 2022",
            elsewhere="separation fuzziness D, the law of data separation",
        ),
        MetricSpec(
            name="directional_cdnv",
            needs=Needs.GRAM,
            function=lambda stats, _, directional: directional_cdnv(stats, directional),
            convention="variance along the line between two means, over ordered pairs",
            otherwise="`pairs=True`",
            source="Luthra et al. 2026",
            elsewhere="directional CDNV, decision-axis variance",
        ),
        MetricSpec(
            name="class_separation",
            needs=Needs.UNIT_ROWS,
            function=class_separation,
            convention="R² = 1 − d_within / d_total of cosine distances, self-pairs included; not centred",
            source="Kornblith et al. 2021",
            elsewhere="R² of Kornblith et al., cosine class separation",
        ),
        MetricSpec(
            name="self_duality",
            needs=Needs.CLASSIFIER,
            function=self_duality,
            convention="‖W/‖W‖_F − M/‖M‖_F‖²_F; W as it is",
            otherwise="`squared=False`, `centre=`",
            source=_PAPYAN,
            elsewhere="`self_duality_error`, NC3",
        ),
        MetricSpec(
            name="self_duality_centred",
            needs=Needs.CLASSIFIER,
            function=lambda weight, stats: self_duality(weight, stats, centre_weight=True),
            convention="the same, W about its mean row",
            otherwise="`squared=False`, `centre=`",
            source=_PAPYAN,
        ),
        MetricSpec(
            name="product_duality",
            needs=Needs.CLASSIFIER,
            function=product_duality,
            convention="‖WMᵀ/‖WMᵀ‖_F − P/√(C − 1)‖_F; W as it is",
            otherwise="`centre=`",
            source=f"{_ZHU}; Zhou et al. 2022",
            elsewhere="`self_duality_error`, NC3",
        ),
        MetricSpec(
            name="product_duality_centred",
            needs=Needs.CLASSIFIER,
            function=lambda weight, stats: product_duality(weight, stats, centre_weight=True),
            convention="the same, W about its mean row",
            otherwise="`centre=`",
            source=f"{_ZHU}; Zhou et al. 2022",
        ),
        MetricSpec(
            name="subspace_alignment",
            needs=Needs.CLASSIFIER,
            function=subspace_alignment,
            convention="mean cosine between the top C right singular vectors of W and the span of the means, not "
            "centred",
            otherwise='`centre="classes"`, `rank=`',
            source="Rangamani et al. 2023",
        ),
        MetricSpec(
            name="strong_collapse",
            needs=Needs.ROWS,
            function=_strong,
            convention="mean ‖x − μ‖² / tr Σ_B about the training mean of the row's class",
            otherwise="the estimator is ours: the paper leaves it open",
            source="Hui et al. 2022",
            elsewhere="test collapse",
        ),
        MetricSpec(
            name="weak_collapse",
            needs=Needs.ROWS,
            function=_weak,
            convention="the same about the training mean of the nearest class",
            otherwise="the estimator is ours: the paper leaves it open",
            source="Hui et al. 2022",
            elsewhere="test collapse",
        ),
        MetricSpec(
            name="ncc_mismatch",
            needs=Needs.PREDICTIONS,
            function=None,
            convention="share of rows that the network, its bias included, and the nearest centre label differently",
            otherwise="`ncc_agreement`; `linear_predictions` without bias",
            source=_PAPYAN,
        ),
        MetricSpec(
            name="classifier_etf_distance",
            needs=Needs.WEIGHT,
            function=lambda weight: etf_distance(weight, centre="none"),
            convention="NC2 of W's rows as they are",
            source=f"{_ZHU}; Zhou et al. 2022",
        ),
        MetricSpec(
            name="classifier_etf_distance_centred",
            needs=Needs.WEIGHT,
            function=etf_distance,
            convention="NC2 of W's rows about their mean",
            source=f"{_ZHU}; Zhou et al. 2022",
        ),
        MetricSpec(
            name="classifier_equinorm",
            needs=Needs.WEIGHT,
            function=lambda weight: equinorm(weight, centre="none"),
            convention="`equinorm` of W's rows as they are",
            otherwise="keywords as of `equinorm`",
            source=_PAPYAN,
        ),
        MetricSpec(
            name="classifier_equiangularity",
            needs=Needs.WEIGHT,
            function=lambda weight: equiangularity(weight, centre="none"),
            convention="`equiangularity` of W's rows as they are",
            otherwise="keywords as of `equiangularity`",
            source=_PAPYAN,
        ),
        MetricSpec(
            name="classifier_stable_rank",
            needs=Needs.WEIGHT,
            function=stable_rank,
            convention="‖W‖²_F / ‖W‖²₂ of W as it is",
            otherwise="keywords as of `stable_rank`",
        ),
        MetricSpec(
            name="margin",
            needs=Needs.OUTPUTS,
            function=None,
            convention="least of z_y − max z_j over the training rows",
            otherwise="`normalised_margin` (by norm or by layers), `unconstrained_margin`",
            source="Lyu & Li 2019; Ji et al. 2021",
        ),
    )
}
"""Every metric that can be asked for by name, each declared once, in the order of the table of the documentation."""

ALIASES = {
    "`cdnv`": "class-distance normalised variance, `variability_cdnv`",
    "`ncc`, `ncc_accuracy`": "nearest class centre, nearest centroid, NCM, NC4 against labels",
    "`ncc_agreement`": "`clf_ncc_agreement` (there without the bias)",
}
"""Names elsewhere of functions that are no metrics by name."""


def names(*needs: Needs) -> tuple[str, ...]:
    """Return the names of the metrics that need one of these, or of all metrics."""
    return tuple(spec.name for spec in METRICS.values() if not needs or spec.needs in needs)


def markdown_table() -> str:
    """Return the table of the metrics with their conventions, for the documentation."""
    head = ("metric", "definition and convention", "other conventions", "source")
    lines = [(f"`{spec.name}`", spec.convention, spec.otherwise, spec.source) for spec in METRICS.values()]
    return markdown_grid(head, lines)


def markdown_aliases() -> str:
    """Return the table of the names that metrics have in other packages and papers, for the documentation."""
    lines = [(f"`{spec.name}`", spec.elsewhere) for spec in METRICS.values() if spec.elsewhere]
    return markdown_grid(("name here", "elsewhere"), [*ALIASES.items(), *lines])


def markdown_grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; bars inside cells are escaped."""
    body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in (head, *lines)]
    return "\n".join([body[0], f"|{'|'.join('---' for _ in head)}|", *body[1:]])


def check_names(names: Iterable[str]) -> None:
    """Raise ValueError, with close matches, unless all are names of METRICS and each is there once."""
    seen: set[str] = set()
    for name in names:
        if name in ("cdnv", "ncc_error"):
            raise ValueError(f"metrics: {name} is measured of every layer anyway; leave it out")
        if not isinstance(name, str) or name not in METRICS:
            close = difflib.get_close_matches(str(name), METRICS, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(METRICS)}"
            raise ValueError(f"metrics: expected names of metrics, got {name!r}; {hint}")
        if name in seen:
            raise ValueError(f"metrics: {name} is named twice")
        seen.add(name)


@dataclass(frozen=True)
class Wanted:
    """Metrics that were asked for, in their order: names, and functions of one's own by their names."""

    names: tuple[str, ...] = ()
    functions: tuple[tuple[str, RowFunction], ...] = ()

    @classmethod
    def of(cls, metrics: Sequence[Metric]) -> "Wanted":
        """Sort names from functions; TypeError or ValueError for anything else, and for two of one name."""
        if isinstance(metrics, str):
            raise TypeError(f"metrics: expected a sequence of names and functions, got the string {metrics!r}")
        names = [metric for metric in metrics if isinstance(metric, str)]
        check_names(names)
        functions: dict[str, RowFunction] = {}
        for metric in metrics:
            if isinstance(metric, str):
                continue
            if not callable(metric):
                raise TypeError(f"metrics: expected names and functions, got a {type(metric).__name__}")
            name = getattr(metric, "__name__", type(metric).__name__)
            if name in METRICS:
                raise ValueError(f"metrics: {name} is a metric of ncharness; ask for it by its name {name!r}")
            if name in functions:
                raise ValueError(f"metrics: two functions are called {name}; give them names of their own")
            functions[name] = metric
        return cls(tuple(names), tuple(functions.items()))

    def needing(self, *needs: Needs) -> list[MetricSpec]:
        """Return the metrics asked for that need one of these, in the order asked."""
        return [METRICS[name] for name in self.names if METRICS[name].needs in needs]

    def values(self, needs: Needs, *given: object) -> dict[str, float]:
        """Return the metrics asked for that need these quantities, which are given."""
        return {spec.name: float(_function(spec)(*given)) for spec in self.needing(needs)}


def _function(spec: MetricSpec) -> Callable[..., Tensor]:
    assert spec.function is not None, f"{spec.name} is computed in the sweep"
    return spec.function


def layer_values(
    wanted: Wanted,
    stats: ClassStats,
    *,
    gram: Tensor | None,
    directional: Tensor | None,
    unit_stats: ClassStats | None,
    weight: Tensor | None,
) -> dict[str, float]:
    """Return the metrics asked for of one layer's training rows, except the means over rows."""
    values = wanted.values(Needs.STATS, stats)
    if gram is not None and directional is not None:
        values |= wanted.values(Needs.GRAM, stats, gram, directional)
    if unit_stats is not None:
        values |= wanted.values(Needs.UNIT_ROWS, unit_stats)
    if weight is not None:
        if weight.shape[1] == stats.n_features:
            values |= wanted.values(Needs.CLASSIFIER, weight, stats)
        else:
            values |= {spec.name: float("nan") for spec in wanted.needing(Needs.CLASSIFIER)}
    return values


def row_sum(wanted: Wanted, x: Tensor, y: Tensor, nearest: Tensor, stats: ClassStats) -> dict[str, Tensor]:
    """Return the sums over one batch of the metrics that are numbers per row, as float64 scalars."""
    sums = {spec.name: _function(spec)(x, y, nearest, stats).sum() for spec in wanted.needing(Needs.ROWS)}
    return sums | {name: _summed(name, function(x, y, stats), x) for name, function in wanted.functions}


def row_means(wanted: Wanted, sums: dict[str, Tensor], n_rows: int, stats: ClassStats) -> dict[str, float]:
    """Return the metrics that are means over rows, from their sums over all batches."""
    scaled = {spec.name for spec in wanted.needing(Needs.ROWS)}
    scale = between_trace(stats) if scaled else torch.ones(())
    return {name: float(total / n_rows / (scale if name in scaled else 1.0)) for name, total in sums.items()}


def _summed(name: str, value: object, x: Tensor) -> Tensor:
    given = value if isinstance(value, Tensor) else torch.as_tensor(value, device=x.device)
    if given.shape == (len(x),):
        return given.double().sum()
    if given.shape == ():
        return given.double() * len(x)
    raise ValueError(
        f"metrics: expected {name} to return a number per row, shape ({len(x)},), or their mean, "
        f"got shape {tuple(given.shape)}"
    )
