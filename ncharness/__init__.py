"""Effective depth and neural collapse: fused metrics, layer probes, training runs, and verdicts on claims."""

from ncharness.kernels.ops import backend
from ncharness.metrics.capture import capture
from ncharness.metrics.cdnv import cdnv, directional_cdnv, one_sided_cdnv
from ncharness.metrics.class_stats import ClassStats, class_stats
from ncharness.metrics.effective_depth import depth_profile, effective_depth, interpolated_depth, log_linearity
from ncharness.metrics.layers import LayerReport, measure_layers
from ncharness.metrics.measure import ClassMeasure, measure, ncc, ncc_accuracy, residual_gram
from ncharness.metrics.nc1 import (
    between_rank,
    between_trace,
    class_separation,
    fisher,
    fuzziness,
    kernel_nc1,
    nc1,
    nc1_trace,
    strong_collapse,
    unit_rows,
    weak_collapse,
)
from ncharness.metrics.nc2 import (
    discrimination,
    equiangularity,
    equinorm,
    etf_distance,
    etf_distance_floor,
    frame_distance,
    minority_cosine,
    minority_spread,
)
from ncharness.metrics.nc3_nc4 import (
    linear_predictions,
    margins,
    ncc_agreement,
    ncc_mismatch,
    normalised_margin,
    product_duality,
    self_duality,
    unconstrained_margin,
)
from ncharness.metrics.rank import classification_dimension, numerical_rank, stable_rank, subspace_alignment
from ncharness.store.run import Run
from ncharness.store.store import Store
from ncharness.studies.study import Study, study_grid
from ncharness.training.config import RunConfig, grid
from ncharness.training.loop import train
from ncharness.training.provenance import facts
from ncharness.training.rows import Row
from ncharness.verdicts.bound import Bound, Term, comparative_bound, mean_depth, minimal_depth
from ncharness.verdicts.claim import Check, Claim, Planned, Setting, digits_of_agreement, pivot, unfinished, unfitted
from ncharness.verdicts.networks import PAPER, PAPER_DEPTHS, SMALL
from ncharness.verdicts.power import detectable_share, power, seeds_needed
from ncharness.verdicts.terminal_phase import digits_over_phase, not_terminal, terminal_phase
from ncharness.verdicts.verdict import (
    INCONCLUSIVE,
    NOT_APPLICABLE,
    REFUTED,
    SUPPORTED,
    Outcome,
    Verdict,
    equivalence,
    holm,
    not_applicable,
    superiority,
    trend,
    weakest,
)

__version__ = str(facts()["version"])

__all__ = [
    "INCONCLUSIVE",
    "NOT_APPLICABLE",
    "PAPER",
    "PAPER_DEPTHS",
    "REFUTED",
    "SMALL",
    "SUPPORTED",
    "Bound",
    "Check",
    "Claim",
    "ClassMeasure",
    "ClassStats",
    "LayerReport",
    "Outcome",
    "Planned",
    "Row",
    "Run",
    "RunConfig",
    "Setting",
    "Store",
    "Study",
    "Term",
    "Verdict",
    "backend",
    "between_rank",
    "between_trace",
    "capture",
    "cdnv",
    "class_separation",
    "class_stats",
    "classification_dimension",
    "comparative_bound",
    "depth_profile",
    "detectable_share",
    "digits_of_agreement",
    "digits_over_phase",
    "directional_cdnv",
    "discrimination",
    "effective_depth",
    "equiangularity",
    "equinorm",
    "equivalence",
    "etf_distance",
    "etf_distance_floor",
    "fisher",
    "frame_distance",
    "fuzziness",
    "grid",
    "holm",
    "interpolated_depth",
    "kernel_nc1",
    "linear_predictions",
    "log_linearity",
    "margins",
    "mean_depth",
    "measure",
    "measure_layers",
    "minimal_depth",
    "minority_cosine",
    "minority_spread",
    "nc1",
    "nc1_trace",
    "ncc",
    "ncc_accuracy",
    "ncc_agreement",
    "ncc_mismatch",
    "normalised_margin",
    "not_applicable",
    "not_terminal",
    "numerical_rank",
    "one_sided_cdnv",
    "pivot",
    "power",
    "product_duality",
    "residual_gram",
    "seeds_needed",
    "self_duality",
    "stable_rank",
    "strong_collapse",
    "study_grid",
    "subspace_alignment",
    "superiority",
    "terminal_phase",
    "train",
    "trend",
    "unconstrained_margin",
    "unfinished",
    "unfitted",
    "unit_rows",
    "weak_collapse",
    "weakest",
]
