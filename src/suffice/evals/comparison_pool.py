"""Workers that compare expressions for many clients at once, without holding up the event loop.

A comparison may take seconds of a core, and a client decides how many there are. So each has a time
limit, each request a sum of them, and each client at most all workers but one: there is always one
for somebody else. Clients take turns; within one, first come, first served.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from suffice.evals.equivalence import Comparing
from suffice.evals.math_process import START_S, MathProcess, WorkerLost, WorkerMissing, question

logger = logging.getLogger("suffice.evals")

# A worker that does not start is tried again after so long.
AGAIN_S = 5.0
# The log says this often that comparisons were given up.
TELL_S = 60.0

Start = Callable[[], MathProcess]


@dataclass(eq=False, slots=True)
class _Job:
    client: str
    a: str
    b: str
    done: asyncio.Future[bool | None] = field(repr=False)


class ComparisonPool:
    """`workers` processes, started when the first comparison comes."""

    def __init__(
        self,
        *,
        workers: int,
        limit_s: float,
        request_s: float,
        memory_bytes: int,
        start: Start | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit_s` is for one comparison, `request_s` for all of one request, waiting included."""
        self.limit_s = limit_s
        self.request_s = request_s
        self.given_up = 0  # comparisons that were not done in time
        self._most = max(1, workers - 1)  # of one client
        self._workers = workers
        self._start = start or (lambda: MathProcess(limit_s=limit_s, memory_bytes=memory_bytes))
        self._clock = clock
        self._idle: list[MathProcess] = []
        self._all: set[MathProcess] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs: set[_Job] = set()  # asked for and not done
        self._queues: dict[str, deque[_Job]] = {}  # the client whose turn is next comes first
        self._running: Counter[str] = Counter()
        self._closed = False
        self._begun = False
        self._told_s = -math.inf

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes of the workers, also of those that are starting."""
        return tuple(worker.pid for worker in self._all)

    @property
    def running(self) -> int:
        """Comparisons that workers are busy with."""
        return self._running.total()

    @property
    def waiting(self) -> int:
        """Comparisons that wait for a worker."""
        return sum(map(len, self._queues.values()))

    def comparing(self, client: str) -> Comparing:
        """For one request of `client`: None once its time is used up."""
        left_s = self.request_s

        async def compare(a: str, b: str) -> bool | None:
            nonlocal left_s
            if left_s <= 0:
                return None
            began_s = self._clock()
            try:
                return await self._compare(client, a, b, left_s)
            finally:
                left_s -= self._clock() - began_s

        return compare

    async def _compare(self, client: str, a: str, b: str, limit_s: float) -> bool | None:
        loop = asyncio.get_running_loop()
        self._begin(loop)
        job = _Job(client, a, b, loop.create_future())
        self._jobs.add(job)
        self._queues.setdefault(client, deque()).append(job)
        self._dispatch()
        try:
            async with asyncio.timeout(limit_s):
                found = await job.done
        except TimeoutError:
            found = None
        finally:
            self._forget(job)
        if found is None:
            self._tell()
        return found

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._begun:
            self._begun = True
            for _ in range(self._workers):
                self._keep(loop.create_task(self._work()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        """Start a worker, and make it one of the idle."""
        while not self._closed:
            try:
                worker = await self._started()
            except WorkerMissing:
                logger.error("expressions cannot be compared: math-verify is not installed")
                return
            except (OSError, WorkerLost) as error:
                logger.warning("a worker that compares expressions does not start: %r", error)
                await asyncio.sleep(AGAIN_S)
                continue
            self._idle.append(worker)
            self._dispatch()
            return

    async def _started(self) -> MathProcess:
        worker = self._start()
        self._all.add(worker)
        try:
            worker.check_start(await self._line(worker, START_S))
        except BaseException:  # cancellation too: raised again, no process is left behind
            self._lose(worker)
            raise
        return worker

    async def _line(self, worker: MathProcess, limit_s: float) -> bytes:
        worker.socket.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit_s):
                said = await loop.sock_recv(worker.socket, 64)
        except (TimeoutError, OSError):
            said = b""
        if not said:
            raise WorkerLost
        return said.strip()

    def _dispatch(self) -> None:
        """Give idle workers to the clients whose turn it is."""
        loop = asyncio.get_running_loop()
        while self._idle and not self._closed:
            job = self._next()
            if job is None:
                return
            self._running[job.client] += 1
            self._keep(loop.create_task(self._run(self._idle.pop(), job)))

    def _next(self) -> _Job | None:
        for client in tuple(self._queues):
            queue = self._queues[client]
            while queue and queue[0].done.done():
                queue.popleft()
            if not queue:
                del self._queues[client]
            elif self._running[client] < self._most:
                job = queue.popleft()
                del self._queues[client]  # to the end of the turns
                if queue:
                    self._queues[client] = queue
                return job
        return None

    def _forget(self, job: _Job) -> None:
        job.done.cancel()
        self._jobs.discard(job)
        queue = self._queues.get(job.client)
        if queue is not None and job in queue:
            queue.remove(job)
            if not queue:
                del self._queues[job.client]

    async def _run(self, worker: MathProcess, job: _Job) -> None:
        """One comparison; the worker is busy even if whoever asked has left meanwhile."""
        found: bool | None = None
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(worker.socket, question(job.a, job.b))
            found = await self._line(worker, self.limit_s) == b"1"
        except (WorkerLost, OSError):
            self._lose(worker)
        finally:
            self._running[job.client] -= 1
            if not self._running[job.client]:
                del self._running[job.client]
            if not job.done.done():
                job.done.set_result(found)
        if found is None:
            await self._work()
        else:
            self._idle.append(worker)
            self._dispatch()

    def _lose(self, worker: MathProcess) -> None:
        worker.kill()
        self._all.discard(worker)

    def _tell(self) -> None:
        self.given_up += 1
        now_s = self._clock()
        if now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            logger.warning(
                "a comparison of expressions was given up after %g s (a request's: %g s): such "
                "answers count as different (%d so far)",
                self.limit_s, self.request_s, self.given_up,
            )  # fmt: skip

    async def aclose(self) -> None:
        """End every worker."""
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for worker in tuple(self._all):
            self._lose(worker)
        self._idle.clear()
        for job in self._jobs:
            if not job.done.done():
                job.done.set_result(None)
