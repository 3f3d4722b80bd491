"""What tests need and the package itself never imports: a scripted engine on a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suffice.core.lazy import exported

if TYPE_CHECKING:
    from suffice.backends.fake import FakeBackend, Fault, Script
    from suffice.testing.fake_engine import FakeEngine
    from suffice.testing.fake_replies import Reply, Talents
    from suffice.testing.policy_conformance import PolicyConformance, check_policy

__all__ = [
    "FakeBackend",
    "FakeEngine",
    "Fault",
    "PolicyConformance",
    "Reply",
    "Script",
    "Talents",
    "check_policy",
]

__getattr__ = exported(
    __name__,
    {
        "suffice.backends.fake": ("FakeBackend", "Fault", "Script"),
        "suffice.testing.fake_engine": ("FakeEngine",),
        "suffice.testing.fake_replies": ("Reply", "Talents"),
        "suffice.testing.policy_conformance": ("PolicyConformance", "check_policy"),
    },
)
