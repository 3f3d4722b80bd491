"""Runs tool calls: limits, timeouts, retries, and none beside another that it might disturb.

Calls of tools that are said to change nothing, or to change nothing more when repeated, run beside
each other, and are tried again where their server was lost. Every other call runs alone, in the
order asked for, and is never tried again: nobody knows what a lost call has done.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from suffice.core.decisions import ToolFailure
from suffice.core.errors import InputError
from suffice.executors.tool_book import CallEnded, StartCall
from suffice.tools.protocol import ToolLost, ToolResult
from suffice.tools.toolbox import Toolbox

logger = logging.getLogger("suffice.executors")

# Stopping a call waits so long for the tool to let go; then it is left behind.
CLOSE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolLimits:
    """What one call may take. None of these is a budget: that is of a whole request."""

    timeout_s: float = 30.0  # of one attempt
    retries: int = 1  # further attempts where a repeatable tool's server was lost
    retry_wait_s: float = 0.2
    result_chars: int = 16_000  # longer results are cut
    at_once: int = 16

    def __post_init__(self) -> None:
        for name in ("timeout_s", "result_chars", "at_once"):
            if not getattr(self, name) > 0:
                raise InputError(f"tools: {name} must be positive, got {getattr(self, name)}")
        for name in ("retries", "retry_wait_s"):
            if not getattr(self, name) >= 0:
                raise InputError(f"tools: {name} must be 0 or more, got {getattr(self, name)}")


class ToolTasks:
    """The calls of one request at work.

    `attempted` is told each time one goes to its tool, `ended` how each ended, in any order.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        limits: ToolLimits,
        *,
        attempted: Callable[[int], None],
        ended: Callable[[CallEnded], None],
    ) -> None:
        self._toolbox = toolbox
        self._limits = limits
        self._attempted = attempted
        self._ended = ended
        self._turns = _Turns(limits.at_once)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._left: set[asyncio.Task[ToolResult]] = set()

    def __bool__(self) -> bool:
        """Whether any call is at work."""
        return bool(self._tasks)

    def begin(self, start: StartCall) -> None:
        """Run a call as soon as its turn has come."""
        task = asyncio.create_task(self._run(start))
        self._tasks[start.call] = task
        task.add_done_callback(lambda _: self._tasks.pop(start.call, None))

    async def stop(self, *calls: int) -> None:
        """Stop calls, all at once."""
        tasks = {task for call in calls if (task := self._tasks.pop(call, None)) is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)

    async def stop_all(self) -> None:
        """Stop everything that is at work."""
        await self.stop(*self._tasks)

    async def _run(self, start: StartCall) -> None:
        if start.limit_s is None:
            self._ended(await self._attempts(start))
            return
        try:
            async with asyncio.timeout(start.limit_s):
                ended = await self._attempts(start)
        except TimeoutError:
            why = f"the time for tools ended after {start.limit_s:g} s"
            ended = CallEnded(call=start.call, failure="budget", message=why)
        self._ended(ended)

    async def _attempts(self, start: StartCall) -> CallEnded:
        """How the call ends, after as many attempts as it is allowed."""
        repeatable = self._toolbox.hints(start.action.tool).is_repeatable
        async with self._turns.turn(shared=repeatable):
            attempt = 0
            while True:
                attempt += 1
                self._attempted(start.call)
                ended = await self._attempt(start)
                lost = ended.failure == "lost" and repeatable
                if not lost or attempt > self._limits.retries:
                    return ended
                await asyncio.sleep(self._limits.retry_wait_s)

    async def _attempt(self, start: StartCall) -> CallEnded:
        action, limits = start.action, self._limits

        def failed(reason: ToolFailure, message: str) -> CallEnded:
            said = _cut(message, limits.result_chars)[0]
            return CallEnded(call=start.call, failure=reason, message=said)

        arguments = json.loads(action.arguments_json)
        task = asyncio.ensure_future(self._toolbox.call(action.tool, arguments))
        try:
            done, _ = await asyncio.wait({task}, timeout=limits.timeout_s)
        finally:
            if not task.done():
                await self._let_go(task)
        if not done:
            return failed("timeout", f"{action.tool} gave nothing within {limits.timeout_s:g} s")
        try:
            result = task.result()
        except ToolLost as error:
            return failed("lost", str(error))
        except asyncio.CancelledError:
            return failed("raised", f"{action.tool} cancelled itself")
        except Exception as error:  # noqa: BLE001 - somebody's code: it may raise anything
            return failed("raised", f"{type(error).__name__}: {error}")
        if result.is_error:
            return failed("raised", result.text)
        text, cut_from = _cut(result.text, limits.result_chars)
        return CallEnded(call=start.call, result=text, cut_from=cut_from)

    async def _let_go(self, task: asyncio.Task[ToolResult]) -> None:
        """Cancel a call; one that will not end is left behind, and its end is not missed."""
        task.cancel()
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        task.add_done_callback(_looked_at)
        await asyncio.wait({task}, timeout=CLOSE_S)
        if not task.done():
            logger.warning("a tool call goes on %g s after it was stopped", CLOSE_S)


class _Turns:
    """Shared turns run beside each other, at most so many; any other runs alone. In order."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._shared = 0
        self._alone = False
        self._queue: deque[tuple[bool, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def turn(self, *, shared: bool) -> AsyncIterator[None]:
        """Wait for a turn, and hold it."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((shared, mine))
        self._next()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._give_back(shared)
            else:
                self._queue = deque(each for each in self._queue if each[1] is not mine)
                self._next()
            raise
        try:
            yield
        finally:
            self._give_back(shared)

    def _give_back(self, shared: bool) -> None:
        if shared:
            self._shared -= 1
        else:
            self._alone = False
        self._next()

    def _next(self) -> None:
        while self._queue and not self._alone:
            shared, waiting = self._queue[0]
            if self._shared >= self._most if shared else self._shared:
                return
            self._queue.popleft()
            if waiting.done():
                continue  # cancelled meanwhile
            if shared:
                self._shared += 1
            else:
                self._alone = True
            waiting.set_result(None)


def _looked_at(task: asyncio.Task[ToolResult]) -> None:
    if not task.cancelled():
        task.exception()


def _cut(text: str, most: int) -> tuple[str, int | None]:
    """A text of at most `most` characters, and its length before where it was longer."""
    if len(text) <= most:
        return text, None
    return text[:most], len(text)
