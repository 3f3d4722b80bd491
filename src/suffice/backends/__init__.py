"""Who produces tokens: one protocol, and what speaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suffice.core.lazy import exported

if TYPE_CHECKING:
    from suffice.backends.fake import FakeBackend, Fault, Script
    from suffice.backends.openai import OpenAIBackend
    from suffice.backends.pool import BackendPool
    from suffice.backends.protocol import Backend, Capabilities, Chunk

__all__ = [
    "Backend",
    "BackendPool",
    "Capabilities",
    "Chunk",
    "FakeBackend",
    "Fault",
    "OpenAIBackend",
    "Script",
]

__getattr__ = exported(
    __name__,
    {
        "suffice.backends.fake": ("FakeBackend", "Fault", "Script"),
        "suffice.backends.openai": ("OpenAIBackend",),
        "suffice.backends.pool": ("BackendPool",),
        "suffice.backends.protocol": ("Backend", "Capabilities", "Chunk"),
    },
)
