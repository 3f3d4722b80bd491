"""Carry a policy's actions out against a backend, within the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suffice.core.lazy import exported

if TYPE_CHECKING:
    from suffice.executors.live import (
        Failed,
        Finished,
        Launched,
        Settled,
        Stopped,
        Streamed,
        run,
        stream,
    )

__all__ = [
    "Failed",
    "Finished",
    "Launched",
    "Settled",
    "Stopped",
    "Streamed",
    "run",
    "stream",
]

__getattr__ = exported(
    __name__,
    {
        "suffice.executors.live": (
            "Failed",
            "Finished",
            "Launched",
            "Settled",
            "Stopped",
            "Streamed",
            "run",
            "stream",
        ),
    },
)
