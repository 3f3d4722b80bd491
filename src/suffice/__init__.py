"""Just enough compute: shapes, budgets and training for models that are served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suffice.core.lazy import exported

if TYPE_CHECKING:
    from suffice.architecture.catalog import load_shape
    from suffice.architecture.shape import Shape
    from suffice.backends.openai import OpenAIBackend
    from suffice.core.completions import Budget, Outcome
    from suffice.core.requests import Message, Request, Sampling
    from suffice.core.version import __version__
    from suffice.evals.trace_files import read_traces
    from suffice.executors.live import run, stream
    from suffice.policies.registry import parse_policy
    from suffice.recipes.calibrate.config import CalibrateConfig
    from suffice.recipes.calibrate.run import calibrate
    from suffice.recipes.design import DesignConfig, DesignResult, design

__all__ = [
    "Budget",
    "CalibrateConfig",
    "DesignConfig",
    "DesignResult",
    "Message",
    "OpenAIBackend",
    "Outcome",
    "Request",
    "Sampling",
    "Shape",
    "__version__",
    "calibrate",
    "design",
    "load_shape",
    "parse_policy",
    "read_traces",
    "run",
    "stream",
]

__getattr__ = exported(
    __name__,
    {
        "suffice.architecture.catalog": ("load_shape",),
        "suffice.architecture.shape": ("Shape",),
        "suffice.backends.openai": ("OpenAIBackend",),
        "suffice.core.completions": ("Budget", "Outcome"),
        "suffice.core.requests": ("Message", "Request", "Sampling"),
        "suffice.core.version": ("__version__",),
        "suffice.evals.trace_files": ("read_traces",),
        "suffice.executors.live": ("run", "stream"),
        "suffice.policies.registry": ("parse_policy",),
        "suffice.recipes.calibrate.config": ("CalibrateConfig",),
        "suffice.recipes.calibrate.run": ("calibrate",),
        "suffice.recipes.design": ("DesignConfig", "DesignResult", "design"),
    },
)
