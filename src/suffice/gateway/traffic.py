"""How much may be in flight, how long it may take, and what happens to the rest.

A call that finds every place taken waits in a bounded queue, smallest priority first, oldest
first among equals. A full queue, or a wait that passes its limit, is a 503 with an honest
Retry-After: the time that the calls ahead will take at the pace of the last ones.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from dataclasses import dataclass, field
from itertools import count

from suffice.backends.retry import RetryConfig
from suffice.gateway.calls import Call
from suffice.gateway.errors import Refusal

# Weight of the newest call in the mean time of a call.
_NEWEST = 0.05


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
    stall_s: float = 60.0  # for a client that does not read what it is sent
    total_s: float | None = 3600.0  # the whole call
    drain_s: float = 30.0  # after SIGTERM, for what is in flight
    max_header_bytes: int = 64 * 2**10
    max_response_bytes: int = 256 * 2**20  # of one answer that is passed through
    retry: RetryConfig = field(default_factory=RetryConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)


class Place:
    """One call's place; a class, as a generator costs every call several microseconds."""

    __slots__ = ("_began_s", "_call", "_places")

    def __init__(self, places: Places, call: Call) -> None:
        self._places = places
        self._call = call
        self._began_s = 0.0

    async def __aenter__(self) -> None:
        await self._places.take(self._call)
        self._began_s = time.perf_counter()

    async def __aexit__(self, *_: object) -> None:
        self._places.give_back(time.perf_counter() - self._began_s)


class Places:
    """The places for calls that are being answered, and the queue before them."""

    def __init__(self, config: TrafficConfig) -> None:
        self.config = config
        self.running = 0
        self.waiting = 0
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self._mean_s = 1.0

    def taken(self, call: Call) -> Place:
        """A place for the length of a block; entering raises Refusal if there is none to be had."""
        return Place(self, call)

    async def take(self, call: Call) -> None:
        """Wait for a place."""
        if self.running < self.config.max_running and not self.waiting:
            self.running += 1
        else:
            began_s = time.perf_counter()
            await self._wait(call.priority)
            call.queued_s = time.perf_counter() - began_s

    def give_back(self, held_s: float) -> None:
        """The place of a call that took `held_s` is free."""
        self._mean_s += _NEWEST * (held_s - self._mean_s)
        self._leave()

    def retry_after_s(self) -> float:
        """Seconds until a call that came now would find a place, at the pace of the last ones."""
        return (self.waiting + 1) * self._mean_s / self.config.max_running

    async def _wait(self, priority: int) -> None:
        if self.waiting >= self.config.max_waiting:
            raise Refusal(
                f"{self.running} calls are being answered and {self.waiting} wait, as many as may: "
                "try again later",
                status=503, code="overloaded", kind="server_error",
                retry_after_s=self.retry_after_s(),
            )  # fmt: skip
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (priority, next(self._numbers), turn))
        self.waiting += 1
        try:
            async with asyncio.timeout(self.config.max_wait_s):
                await turn
        except TimeoutError:
            if self._granted(turn):
                self._leave()
            raise Refusal(
                f"no place became free within {self.config.max_wait_s:g} s: try again later",
                status=503, code="overloaded", kind="server_error",
                retry_after_s=self.retry_after_s(),
            ) from None  # fmt: skip
        except BaseException:  # the client left, or the process ends: raised again, nothing is kept
            if self._granted(turn):
                self._leave()
            raise
        finally:
            self.waiting -= 1

    def _leave(self) -> None:
        self.running -= 1
        while self._queue and self.running < self.config.max_running:
            _, _, turn = heapq.heappop(self._queue)
            if not turn.done():
                turn.set_result(None)
                self.running += 1

    @staticmethod
    def _granted(turn: asyncio.Future[None]) -> bool:
        return turn.done() and not turn.cancelled()
