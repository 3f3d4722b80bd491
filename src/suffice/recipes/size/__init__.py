"""How many devices, in which layout, serve a model at a rate within limits."""

from suffice.recipes.size.config import SizeConfig
from suffice.recipes.size.result import Sized, SizeResult
from suffice.recipes.size.run import size

__all__ = ["SizeConfig", "SizeResult", "Sized", "size"]
