"""Fitting laws to tables of runs."""

from suffice.architecture.fitting.estimates import CoefficientEstimate
from suffice.architecture.fitting.evaluation import (
    Evaluation,
    RankCorrelation,
    ScaleEvaluation,
    rank_correlation,
)
from suffice.architecture.fitting.fit import (
    Fit,
    HoldoutResult,
    fit,
)
from suffice.architecture.fitting.problem import shape_clusters
from suffice.architecture.fitting.solve import METHODS, Method

__all__ = [
    "METHODS",
    "CoefficientEstimate",
    "Evaluation",
    "Fit",
    "HoldoutResult",
    "Method",
    "RankCorrelation",
    "ScaleEvaluation",
    "fit",
    "rank_correlation",
    "shape_clusters",
]
