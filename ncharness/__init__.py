"""Effective depth and neural collapse: fused metrics, layer probes, training runs, and verdicts on claims."""

from ncharness.bound import Bound, Term, comparative_bound, mean_depth, minimal_depth
from ncharness.config import RunConfig, grid
from ncharness.depth import depth_profile, effective_depth, interpolated_depth
from ncharness.metrics import ClassMeasure, cdnv, directional_cdnv, measure, nc1, ncc, ncc_accuracy
from ncharness.ops import backend
from ncharness.probe import LayerReport, capture, measure_layers
from ncharness.provenance import facts
from ncharness.record import Row, Run
from ncharness.stats import ClassStats, class_stats
from ncharness.store import Store
from ncharness.train import train
from ncharness.verdict import Outcome, Verdict, equivalence, superiority, trend

__version__ = str(facts()["version"])

__all__ = [
    "Bound",
    "ClassMeasure",
    "ClassStats",
    "LayerReport",
    "Outcome",
    "Row",
    "Run",
    "RunConfig",
    "Store",
    "Term",
    "Verdict",
    "backend",
    "capture",
    "cdnv",
    "class_stats",
    "comparative_bound",
    "depth_profile",
    "directional_cdnv",
    "effective_depth",
    "equivalence",
    "grid",
    "interpolated_depth",
    "mean_depth",
    "measure",
    "measure_layers",
    "minimal_depth",
    "nc1",
    "ncc",
    "ncc_accuracy",
    "superiority",
    "train",
    "trend",
]
