"""Just enough compute: shapes, budgets and training for models that are served."""

from __future__ import annotations

from suffice.core.lazy import explain_old_names, exported

TYPE_CHECKING = False  # typing's own would be half of what this import costs
if TYPE_CHECKING:
    from suffice.architecture.catalog import load_model, load_shape
    from suffice.architecture.model import Model
    from suffice.architecture.shape import Shape
    from suffice.backends.openai import OpenAIBackend
    from suffice.core.completions import Budget, Outcome
    from suffice.core.requests import Message, Request, Sampling
    from suffice.core.version import __version__
    from suffice.evals.traces.files import read_traces
    from suffice.executors.live import run, stream
    from suffice.hardware import load_hardware
    from suffice.policies.registry import parse_policy
    from suffice.recipes.calibrate.config import CalibrateConfig
    from suffice.recipes.calibrate.run import calibrate
    from suffice.recipes.design import DesignConfig, DesignResult, design
    from suffice.recipes.size import SizeConfig, SizeResult, size
    from suffice.throughput.analytic import Prediction, predict
    from suffice.throughput.serving import Serving
    from suffice.throughput.workload import Workload

__all__ = [
    "Budget",
    "CalibrateConfig",
    "DesignConfig",
    "DesignResult",
    "Message",
    "Model",
    "OpenAIBackend",
    "Outcome",
    "Prediction",
    "Request",
    "Sampling",
    "Serving",
    "Shape",
    "SizeConfig",
    "SizeResult",
    "Workload",
    "__version__",
    "calibrate",
    "design",
    "load_hardware",
    "load_model",
    "load_shape",
    "parse_policy",
    "predict",
    "read_traces",
    "run",
    "size",
    "stream",
]

__getattr__ = exported(
    __name__,
    {
        "suffice.architecture.catalog": ("load_model", "load_shape"),
        "suffice.architecture.model": ("Model",),
        "suffice.architecture.shape": ("Shape",),
        "suffice.backends.openai": ("OpenAIBackend",),
        "suffice.core.completions": ("Budget", "Outcome"),
        "suffice.core.requests": ("Message", "Request", "Sampling"),
        "suffice.core.version": ("__version__",),
        "suffice.evals.traces.files": ("read_traces",),
        "suffice.executors.live": ("run", "stream"),
        "suffice.policies.registry": ("parse_policy",),
        "suffice.recipes.calibrate.config": ("CalibrateConfig",),
        "suffice.recipes.calibrate.run": ("calibrate",),
        "suffice.hardware": ("load_hardware",),
        "suffice.recipes.design": ("DesignConfig", "DesignResult", "design"),
        "suffice.recipes.size": ("SizeConfig", "SizeResult", "size"),
        "suffice.throughput.analytic": ("Prediction", "predict"),
        "suffice.throughput.serving": ("Serving",),
        "suffice.throughput.workload": ("Workload",),
    },
)
explain_old_names()
