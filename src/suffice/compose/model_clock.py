"""CPU time of a model that answers in this process, without that of the gateway around it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

from suffice.backends.protocol import Backend, Capabilities, Chunk
from suffice.core.draw import Draw


class ModelClock:
    """A backend that adds up what the backend inside it computes, in seconds of its thread.

    Samples of one request take turns on one event loop: each turn is measured by itself, so that
    nothing is counted twice and no waiting is counted.
    """

    def __init__(self, inner: Backend, clock: Callable[[], float] = time.thread_time) -> None:
        self._inner = inner
        self._clock = clock
        self.spent_s = 0.0

    @property
    def name(self) -> str:
        """The inner backend's."""
        return self._inner.name

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """The inner backend's."""
        return await self._inner.capabilities(model)

    async def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """The inner backend's chunks; closing closes it."""
        chunks = self._inner.stream(draw)
        try:
            while True:
                try:
                    chunk = await _Turns(anext(chunks), self)
                except StopAsyncIteration:
                    return
                yield chunk
        finally:
            await chunks.aclose()

    async def aclose(self) -> None:
        """Close the inner backend."""
        await self._inner.aclose()

    def timed(self, step: Callable[[Any], Any], value: Any) -> Any:
        """One turn, measured."""
        began = self._clock()
        try:
            return step(value)
        finally:
            self.spent_s += self._clock() - began


class _Turns:
    """An awaitable whose turns on the event loop are measured one by one."""

    def __init__(self, inner: Awaitable[Chunk], clock: ModelClock) -> None:
        self._inner = inner
        self._clock = clock

    def __await__(self) -> Generator[Any, Any, Chunk]:
        turns: Any = self._inner.__await__()
        step, value = turns.send, None
        while True:
            try:
                waits_for = self._clock.timed(step, value)
            except StopIteration as end:
                found: Chunk = end.value
                return found
            try:
                value = yield waits_for
                step = turns.send
            except BaseException as error:  # noqa: BLE001 - cancelled: the inner one must hear it
                step, value = turns.throw, error
