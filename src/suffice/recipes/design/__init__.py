"""From a reference model to the shapes that serve fastest within its loss, with certificates."""

from suffice.recipes.design.config import DesignConfig
from suffice.recipes.design.result import DesignResult, Pick
from suffice.recipes.design.run import design

__all__ = ["DesignConfig", "DesignResult", "Pick", "design"]
