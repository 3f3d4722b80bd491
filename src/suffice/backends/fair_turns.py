"""How many bytes of streams are looked at in one turn of the event loop, all streams together.

Looking at a stream's bytes takes time, and everyone else waits for it. One stream gives way after a
piece; but a hundred that flood do so one after the other in the same turn. Here a turn has its
bytes, and who finds them taken has the next turns, in the order of coming.
"""

from __future__ import annotations

import asyncio
from collections import deque

# Some milliseconds of work in one turn, where events are small and a policy reads them; a request
# of somebody else takes three to six turns.
TURN_BYTES = 32 * 2**10
# Less is no flood, and never waits: a stream that is read token by token is what it was.
SMALL_BYTES = 8 * 2**10


class FairTurns:
    """The bytes of one event loop's turns."""

    def __init__(self, most: int = TURN_BYTES) -> None:
        self._most = most
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def take(self, size: int) -> None:
        """Come back in a turn that has room for a piece of so many bytes."""
        if size < SMALL_BYTES:
            return
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a loop of before is over, and who waited there with it
            self._loop, self._used = loop, 0
            self._waiting.clear()
        if not self._waiting and self._used < self._most:
            self._count(size, loop)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append((size, turn))
        await turn

    def _count(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        if not self._used:
            loop.call_soon(self._next_turn, loop)
        self._used += size

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        self._used = 0
        while self._waiting and self._used < self._most:
            size, turn = self._waiting.popleft()
            if not turn.done():  # who left meanwhile takes nothing
                self._count(size, loop)
                turn.set_result(None)


# Of this process: its loop's turns are everyone's.
TURNS = FairTurns()
