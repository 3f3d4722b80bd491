"""The gateway's own OpenAPI description."""

from __future__ import annotations

from typing import Any


def description() -> dict[str, Any]:
    """OpenAPI 3.1."""
    return {"openapi": "3.1.0"}
