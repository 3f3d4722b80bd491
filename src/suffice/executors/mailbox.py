"""A queue between the tasks of one request and the one loop that reads it, in few operations."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """At most `most` items wait; whoever puts more waits for room. One reader."""

    __slots__ = ("_items", "_loop", "_most", "_reader", "_room")

    def __init__(self, most: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._items: deque[T] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._room: deque[asyncio.Future[None]] = deque()

    def put_now(self, item: T) -> None:
        """Put an item in whether there is room or not: for those that come one per sample."""
        self._items.append(item)
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)

    async def put(self, item: T) -> None:
        """Put an item in, once there is room."""
        while len(self._items) >= self._most:
            room = self._loop.create_future()
            self._room.append(room)
            await room
        self.put_now(item)

    def take(self) -> T | None:
        """The next item, None if there is none."""
        if not self._items:
            return None
        item = self._items.popleft()
        while self._room and len(self._items) < self._most:
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
                break
        return item

    async def wait(self, limit_s: float | None = None) -> None:
        """Until an item is there, or so many seconds have passed."""
        if self._items:
            return
        reader = self._reader = self._loop.create_future()
        timer = None
        if limit_s is not None:
            timer = self._loop.call_later(max(0.0, limit_s), _wake, reader)
        try:
            await reader
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()


def _wake(reader: asyncio.Future[None]) -> None:
    if not reader.done():
        reader.set_result(None)
