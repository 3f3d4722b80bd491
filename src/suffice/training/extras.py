"""What training needs beyond the core install."""

from __future__ import annotations

from importlib.util import find_spec

from suffice.core.errors import MissingExtra


def require_torch() -> None:
    """Raise MissingExtra unless torch and transformers are installed."""
    for package in ("torch", "transformers"):
        if find_spec(package) is None:
            raise MissingExtra.of(package, "train", "training a ladder")
