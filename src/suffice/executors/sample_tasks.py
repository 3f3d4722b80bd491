"""The tasks of one request: one a sample, all feeding one mailbox that the loop reads."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache, partial

from suffice.backends.protocol import Backend, Chunk, DrawsWhole
from suffice.backends.reached import hearing
from suffice.core.completions import Completion
from suffice.core.draw import Draw
from suffice.core.errors import BackendError, UpstreamDisconnected, without_frames
from suffice.core.requests import Request
from suffice.executors.events import Failed
from suffice.executors.mailbox import Mailbox
from suffice.executors.running_sample import Launch
from suffice.executors.tool_book import CallEnded

logger = logging.getLogger("suffice.executors")

# The comparable key of a completion, None where there is none (suffice.evals.extract has these);
# may be a coroutine function, for extractors that compare in a worker.
Extract = Callable[[Completion], str | Awaitable[str | None] | None]
# A verifier's or reward function's score; may be a coroutine function.
Score = Callable[[Request, Completion], float | Awaitable[float]]

# Chunks waiting to be handled; a slow reader slows the upstreams down instead of filling memory.
QUEUE_CHUNKS = 256
# A stream that has ended needs this long at most to hand its connection back; closing one that has
# not, this long at most.
DRAIN_S = 0.2
CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class SampleJudged:
    """A finished sample's answer and score are known."""

    sample: int
    answer: str | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Crashed:
    """A bug in a task, not a fault of an upstream: the loop raises it."""

    error: Exception


Item = tuple[int, Chunk] | Failed | SampleJudged | Crashed | CallEnded
Reach = Callable[[int, bool], None]


class SampleTasks:
    """Starts, reads and closes samples; whatever comes of them is put into `box`."""

    def __init__(self, backend: Backend, score: Score | None, reach: Reach) -> None:
        self.box: Mailbox[Item] = Mailbox(QUEUE_CHUNKS)
        self._backend = backend
        self._score = score
        self._reach = reach
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._draining: set[asyncio.Task[None]] = set()
        draw = getattr(backend, "draw", None) if draws_whole(type(backend)) else None
        self._draw_of: Callable[[Draw], Awaitable[Chunk]] | None = draw

    def __bool__(self) -> bool:
        """Whether any sample is still at work."""
        return bool(self._tasks)

    @property
    def samples(self) -> tuple[int, ...]:
        """Samples at work, in the order in which they were begun."""
        return tuple(self._tasks)

    @property
    def can_draw_whole(self) -> bool:
        """Whether the backend can be asked for an answer without a stream."""
        return self._draw_of is not None

    def begin(self, launch: Launch, *, unstreamed: bool) -> None:
        """Ask the backend for a sample."""
        coming = self._draw(launch) if unstreamed else self._pump(launch)
        self._tasks[launch.sample] = asyncio.create_task(coming)

    def judge(
        self,
        request: Request,
        sample: int,
        completion: Completion,
        found: str | Awaitable[str | None] | None,
    ) -> None:
        """Wait for the answer and the score of a finished sample."""
        task = asyncio.create_task(self._judge(request, sample, completion, found))
        if inspect.iscoroutine(found):
            # A task that is cancelled before its first step would never await it.
            task.add_done_callback(lambda _: found.close())
        self._tasks[sample] = task

    def forget(self, sample: int) -> None:
        """A sample's task has nothing more to give."""
        self._tasks.pop(sample, None)

    def drain(self, sample: int) -> None:
        """A stream is about to end by itself; left alone, its connection can be used again."""
        self._draining.add(self._tasks.pop(sample))

    async def stop(self, *samples: int) -> list[int]:
        """Close samples' streams, all at once; those that were still open."""
        if not samples:
            return []
        tasks = {each: self._tasks.pop(each) for each in samples if each in self._tasks}
        still_open = [sample for sample, task in tasks.items() if task.cancel()]
        await _closed(set(tasks.values()))
        return still_open

    async def stop_all(self) -> None:
        """Close every stream; those that are about to end get a moment for it."""
        if not (self._tasks or self._draining):
            return
        if self._draining:
            await asyncio.wait(self._draining, timeout=DRAIN_S)
        tasks = {*self._tasks.values(), *self._draining}
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await _closed(tasks)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # already reported through the mailbox

    async def drawn(self, launch: Launch) -> Item:
        """One sample's whole answer, or what came instead of it."""
        assert self._draw_of is not None
        try:
            with hearing(partial(self._reach, launch.sample)):
                chunk = await self._draw_of(launch.draw)
        except BackendError as error:
            return Failed(sample=launch.sample, error=without_frames(error))
        except Exception as error:  # noqa: BLE001 - a bug, not a fault: the reader raises it
            return Crashed(error)
        return launch.sample, chunk

    async def _draw(self, launch: Launch) -> None:
        """Put one sample's whole answer into the mailbox."""
        self.box.put_now(await self.drawn(launch))

    async def _pump(self, launch: Launch) -> None:
        """Read one sample's stream into the mailbox."""
        try:
            chunks = self._backend.stream(launch.draw)
            complete = False
            with hearing(partial(self._reach, launch.sample)):
                async with aclosing(chunks):
                    async for chunk in chunks:
                        complete = complete or chunk.finish_reason is not None
                        await self.box.put((launch.sample, chunk))
            if not complete:
                raise UpstreamDisconnected(
                    f"upstream {self._backend.name} ended the stream without a finish reason"
                )
        except BackendError as error:
            await self.box.put(Failed(sample=launch.sample, error=without_frames(error)))
        except Exception as error:  # a bug, not a fault: the reader raises it
            await self.box.put(Crashed(error))
            raise

    async def _judge(
        self,
        request: Request,
        sample: int,
        completion: Completion,
        found: str | Awaitable[str | None] | None,
    ) -> None:
        try:
            answer = await found if inspect.isawaitable(found) else found
            value: float | None = None
            if self._score is not None:
                score = self._score(request, completion)
                value = await score if inspect.isawaitable(score) else score
        except Exception as error:
            await self.box.put(Crashed(error))
            raise
        await self.box.put(SampleJudged(sample, answer, value))


@lru_cache(maxsize=64)
def draws_whole(kind: type[Backend]) -> bool:
    """Whether a backend can be asked for an answer without a stream; slow to find out, so once."""
    return issubclass(kind, DrawsWhole)


async def _closed(tasks: set[asyncio.Task[None]]) -> None:
    """Wait until cancelled tasks have ended, and say so if they do not."""
    if not tasks:
        return
    _, stuck = await asyncio.wait(tasks, timeout=CLOSE_S)
    if stuck:
        logger.warning("%d streams are still open %g s after closing them", len(stuck), CLOSE_S)
