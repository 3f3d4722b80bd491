"""What tests need and the package itself never imports: a scripted engine on a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suffice.core.lazy import exported

if TYPE_CHECKING:
    from suffice.backends.fake import FakeBackend, Fault, Script
    from suffice.testing.fake_engine import FakeEngine, Reply, Talents

__all__ = [
    "FakeBackend",
    "FakeEngine",
    "Fault",
    "Reply",
    "Script",
    "Talents",
]

__getattr__ = exported(
    __name__,
    {
        "suffice.backends.fake": ("FakeBackend", "Fault", "Script"),
        "suffice.testing.fake_engine": ("FakeEngine", "Reply", "Talents"),
    },
)
