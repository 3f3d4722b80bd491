"""How much may be in flight, how long it may take, and what happens to the rest.

A call that finds every place taken waits in a bounded queue, smallest priority first, oldest
first among equals. A full queue, or a wait that passes its limit, is a 503 with an honest
Retry-After: the time that the calls ahead will take at the pace of the last ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from suffice.backends.retry import RetryConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """The exact-response cache; off at 0 bytes."""

    max_bytes: int = 0
    max_entry_bytes: int = 2**20
    ttl_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficConfig:
    """Limits of one process of the gateway."""

    max_running: int = 1024  # calls that are being answered at once
    max_waiting: int = 1024  # calls that wait for a place
    max_wait_s: float = 30.0
    header_s: float = 20.0  # from a connection's first byte to the end of a request's headers
    body_s: float = 120.0  # from there to the end of its body
    total_s: float | None = 3600.0  # the whole call
    drain_s: float = 30.0  # after SIGTERM, for what is in flight
    max_header_bytes: int = 64 * 2**10
    max_response_bytes: int = 256 * 2**20  # of one answer that is passed through
    retry: RetryConfig = field(default_factory=RetryConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
