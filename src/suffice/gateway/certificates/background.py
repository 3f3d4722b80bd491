"""Work that goes on beside answers, and ends with the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


class BackgroundRuns:
    """Tasks that nobody waits for; whoever takes this base starts them with `start`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.ending = False

    def start(self, run: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Begin a run; it is held until it is over."""
        task = asyncio.create_task(run)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settled(self) -> None:
        """Wait until every run that has begun is over."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def aclose(self) -> None:
        """Break off what is running: its cost is booked, and it counts for nothing else."""
        self.ending = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
