"""Turns of two samples on one event loop are counted once each, and closing reaches the inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from suffice.backends.protocol import Capabilities, Chunk
from suffice.compose.model_clock import ModelClock


class Steps:
    """A backend whose every turn advances a clock by a second."""

    name = "steps"

    def __init__(self) -> None:
        self.now_s = 0.0
        self.closed = 0

    def clock(self) -> float:
        return self.now_s

    async def capabilities(self, model: str | None = None) -> Capabilities:
        return Capabilities(models=("steps",))

    async def stream(self, draw: Any) -> AsyncGenerator[Chunk, None]:
        try:
            for _ in range(3):
                self.now_s += 1.0
                await asyncio.sleep(0)  # the other sample's turn
                self.now_s += 1.0
                yield Chunk(text="x")
        finally:
            self.closed += 1

    async def aclose(self) -> None: ...


async def _read(backend: ModelClock, most: int = 99) -> int:
    count = 0
    stream = backend.stream(None)  # type: ignore[arg-type]
    async for _ in stream:
        count += 1
        if count == most:
            break
    await stream.aclose()
    return count


def test_every_turn_counts_once() -> None:
    inner = Steps()
    clock = ModelClock(inner, inner.clock)

    async def both() -> list[int]:
        return list(await asyncio.gather(_read(clock), _read(clock)))

    assert asyncio.run(both()) == [3, 3]
    assert clock.spent_s == inner.now_s == 12.0
    assert inner.closed == 2


def test_a_stream_that_is_closed_closes_the_inner_one() -> None:
    inner = Steps()
    clock = ModelClock(inner, inner.clock)
    assert asyncio.run(_read(clock, most=1)) == 1
    assert clock.spent_s == 2.0
    assert inner.closed == 1


def test_cancelling_reaches_the_inner_stream() -> None:
    inner = Steps()
    clock = ModelClock(inner, inner.clock)

    async def cut() -> None:
        task = asyncio.create_task(_read(clock))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cut())
    assert inner.closed == 1
