"""Run a coroutine on a clock that jumps: waits take no time, and their lengths are exact.

For whatever waits by the event loop alone (`asyncio.sleep`, timeouts). Threads, processes and
sockets have a time of their own and do not belong in it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Clock = Callable[[], float]


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, the clock is put forward."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout is not None and timeout > 0:
            self.now_s += timeout
        return found


def run_in_virtual_time(work: Callable[[Clock], Coroutine[Any, Any, T]]) -> T:
    """The result of `work(clock)`, where every wait of the loop moves `clock` (seconds, from 0)."""
    selector = _JumpingSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now_s  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(work(loop.time))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
