"""Effective depth and neural collapse: fused metrics, layer probes, training runs, and verdicts on claims."""

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
    "ClassMeasure",
    "ClassStats",
    "LayerReport",
    "Outcome",
    "Row",
    "Run",
    "RunConfig",
    "Store",
    "Verdict",
    "backend",
    "capture",
    "cdnv",
    "class_stats",
    "depth_profile",
    "directional_cdnv",
    "effective_depth",
    "equivalence",
    "grid",
    "interpolated_depth",
    "measure",
    "measure_layers",
    "nc1",
    "ncc",
    "ncc_accuracy",
    "superiority",
    "train",
    "trend",
]
