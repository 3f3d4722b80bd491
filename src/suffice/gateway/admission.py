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
from typing import Annotated

from annotated_types import Ge, Gt

from suffice.backends.retry import RetryConfig
from suffice.core.settings import STRICT, About
from suffice.gateway.calls import Call
from suffice.gateway.wire.errors import Refusal

# Weight of the newest call in the mean time of a call.
_NEWEST = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """The exact-response cache; off at 0 bytes."""

    __pydantic_config__ = STRICT
    max_bytes: Annotated[int, Ge(0), About("of whole answers that are kept; 0: no cache")] = 0
    max_entry_bytes: Annotated[int, Gt(0), About("of one answer")] = 2**20
    ttl_s: Annotated[float, Gt(0), About("an answer is kept so long")] = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficConfig:
    """Limits of one process of the gateway."""

    __pydantic_config__ = STRICT
    max_running: Annotated[int, Ge(1), About("calls that are answered at once")] = 1024
    max_waiting: Annotated[int, Ge(0), About("calls that wait for a place")] = 1024
    max_connections: Annotated[
        int, Ge(1), About("connections of clients at once; also bounded by half of ulimit -n")
    ] = 8192
    max_wait_s: Annotated[float, Ge(0), About("how long they wait; then 503 overloaded")] = 30.0
    header_s: Annotated[
        float, Gt(0), About("from a connection's first byte to the end of a request's headers")
    ] = 20.0
    body_s: Annotated[float, Gt(0), About("from there to the end of its body")] = 120.0
    stall_s: Annotated[float, Gt(0), About("for a client that does not read what it is sent")] = (
        60.0
    )
    total_s: Annotated[float | None, Gt(0), About("the whole call", example=3600)] = 3600.0
    drain_s: Annotated[float, Ge(0), About("after SIGTERM, for calls in flight")] = 30.0
    max_header_bytes: Annotated[int, Ge(1024), About("of a request's headers")] = 64 * 2**10
    max_response_bytes: Annotated[
        int, Gt(0), About("of an upstream's answer; a policy's samples hold as much together")
    ] = 256 * 2**20
    ask_usage: Annotated[
        bool,
        About("ask engines for the usage of streams that pass through; the client does not see it"),
    ] = False
    priority_by_age: Annotated[
        bool,
        About(
            "a policy's samples carry the time of their request as `priority`, for engines that "
            "schedule by it (vLLM: --scheduling-policy priority); later waves then keep its place"
        ),
    ] = False
    max_values: Annotated[
        int, Ge(1000), About("values in a request's JSON; each may take a hundred times its bytes")
    ] = 1_000_000
    max_names: Annotated[
        int, Ge(1000), About("names of fields among them; each takes as long as ten numbers")
    ] = 150_000
    max_messages: Annotated[int, Ge(1), About("turns of a conversation that a policy answers")] = (
        10_000
    )
    max_parts: Annotated[
        int, Ge(1), About("content parts and tool calls in all its turns together")
    ] = 20_000
    max_tools: Annotated[int, Ge(1), About("tools that come with it")] = 2_000
    max_policy_bytes: Annotated[int, Ge(256), About("of a request's suffice object")] = 16 * 2**10
    retry: RetryConfig = field(default_factory=RetryConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)


class Place:
    """One call's place; a class, as a generator costs every call several microseconds."""

    __slots__ = ("_began_s", "_call", "_places")

    def __init__(self, places: ConcurrencyLimit, call: Call) -> None:
        self._places = places
        self._call = call
        self._began_s = 0.0

    async def __aenter__(self) -> None:
        await self._places.take(self._call)
        self._began_s = time.perf_counter()

    async def __aexit__(self, *_: object) -> None:
        self._places.give_back(time.perf_counter() - self._began_s)


class ConcurrencyLimit:
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
