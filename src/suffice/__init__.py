"""Just enough compute: shapes, budgets and training for models that are served."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suffice.architecture.catalog import load_shape
    from suffice.architecture.shape import Shape
    from suffice.recipes.design import DesignConfig, DesignResult, design

__version__ = "0.1.0"

# Resolved on first use, so that `import suffice` costs a few milliseconds.
_EXPORTS = {
    "DesignConfig": "suffice.recipes.design",
    "DesignResult": "suffice.recipes.design",
    "Shape": "suffice.architecture.shape",
    "design": "suffice.recipes.design",
    "load_shape": "suffice.architecture.catalog",
}

__all__ = ["DesignConfig", "DesignResult", "Shape", "__version__", "design", "load_shape"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'suffice' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
