"""Trying again: which errors are worth it, on which upstream, after how long.

Only what has shown nothing of an answer yet may be tried again. Other upstreams are tried at once,
the same ones after a wait that doubles and is drawn at random, so that many callers that failed
together do not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from annotated_types import Ge, Le

from suffice.core.errors import (
    BackendError,
    InputError,
    MalformedStream,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
    without_frames,
)
from suffice.core.settings import STRICT, About

T = TypeVar("T")

# What a server says when another moment, or another server, may do better.
_TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504)
# Its verdict on our key or on a model that it lacks: another server may think otherwise.
_ELSEWHERE = (401, 402, 403, 404)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """How often a request is tried and how long to wait in between.

    `attempts` counts the first one, on each upstream. The n-th wait is drawn between half and all
    of `base_s` · 2^(n-1), at most `longest_s`. An upstream's Retry-After up to `longest_s` is
    heeded; one that asks for more is not tried again, and the client learns what it asked for.
    """

    __pydantic_config__ = STRICT
    attempts: Annotated[int, Ge(1), Le(20), About("tries on each upstream, the first included")] = 3
    base_s: Annotated[float, Ge(0), About("the first wait; the next ones double")] = 0.1
    longest_s: Annotated[float, Ge(0), About("the longest wait, and Retry-After heeded")] = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base_s < 0 or self.longest_s < 0:
            raise InputError("retry: attempts must be at least 1, waits not negative")


_RNG = random.Random()


class Attempts(Generic[T]):
    """The order in which upstreams are tried for one request.

    Try `attempts.upstream`; on an error, `attempts.failed(error)` gives the seconds to wait before
    the next try, or raises the error that the client should see.
    """

    def __init__(
        self,
        upstreams: Sequence[T],
        config: RetryConfig,
        *,
        streamed: bool = True,
        rng: random.Random | None = None,
    ) -> None:
        """An answer that is not `streamed` is not asked for again after a time-out: whatever was
        silent for so long was at work, and another upstream would begin it anew."""
        self._streamed = streamed
        self._config = config
        self._left = list(upstreams)
        self._again: list[T] = []
        self._round = 1
        self._asked_s = 0.0  # the longest Retry-After of this round
        self._rng = rng or _RNG
        self.retries = 0
        self._worst: BackendError | None = None

    @property
    def upstream(self) -> T:
        """The one to try now."""
        return self._left[0]

    def failed(self, error: BackendError) -> float:
        """Book a failure of the current upstream; seconds to wait before the next attempt.

        Raises the error that describes the whole if nothing is left to try.
        """
        error = without_frames(error)
        current = self._left.pop(0)
        here, elsewhere = _worth(error, self._streamed)
        if not (here or elsewhere):
            raise error
        self._worst = _more_telling(self._worst, error)
        asked_s = error.retry_after_s if isinstance(error, UpstreamRejected) else None
        if here and (asked_s is None or asked_s <= self._config.longest_s):
            self._again.append(current)
            self._asked_s = max(self._asked_s, asked_s or 0.0)
        self.retries += 1
        if self._left:
            return 0.0
        if not self._again or self._round >= self._config.attempts:
            raise self._worst
        longest_s = min(self._config.longest_s, self._config.base_s * 2.0 ** (self._round - 1))
        wait_s = max(self._asked_s, longest_s * self._rng.uniform(0.5, 1.0))
        self._left, self._again, self._asked_s = self._again, [], 0.0
        self._round += 1
        return wait_s


def _worth(error: BackendError, streamed: bool) -> tuple[bool, bool]:
    """Whether to try again on the same upstream, and whether on another."""
    match error:
        case UpstreamRejected(status=status):
            return status in _TRANSIENT, status in _TRANSIENT or status in _ELSEWHERE
        case UpstreamRefused() | UpstreamDisconnected():
            return True, True
        case UpstreamUnreachable():
            return False, True
        case UpstreamTimeout():
            return False, streamed
        case MalformedStream():
            return False, True  # it has cost its time once already; it will not learn to speak
        case _:
            return False, False


def _more_telling(a: BackendError | None, b: BackendError) -> BackendError:
    """Of two failures the one that says more: an upstream's own words before its silence."""
    if a is None or isinstance(b, UpstreamRejected) or not isinstance(a, UpstreamRejected):
        return b
    return a
