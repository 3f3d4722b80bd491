"""The live loop: carries a session's commands out against a backend, and cancels for real.

    async for event in stream(policy, request, backend): …      every chunk as it comes
    outcome = await run(policy, request, backend)               only the result

Leaving the loop early (closing the generator, cancelling the task that iterates it) closes every
upstream stream before it returns.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from suffice.backends.protocol import Backend, Capabilities, Chunk
from suffice.core.completions import (
    Budget,
    CostModel,
    Outcome,
    count_tokens_only,
)
from suffice.core.decisions import AnyPolicy
from suffice.core.requests import Request
from suffice.executors.capability_check import able
from suffice.executors.events import (
    Event,
    Failed,
    Finished,
    Launched,
    Settled,
    Stopped,
    Streamed,
    ToolEnded,
    ToolStarted,
    ToolStopped,
)
from suffice.executors.one_sample import OneSample, allows_one
from suffice.executors.running_sample import Launch
from suffice.executors.sample_tasks import Crashed, Extract, Item, SampleJudged, SampleTasks, Score
from suffice.executors.session import Command, Session, Stop
from suffice.executors.tool_book import CallEnded, StartCall, StopCall
from suffice.executors.tool_calls import ToolLimits, ToolTasks
from suffice.tools.toolbox import Toolbox

__all__ = [
    "Event",
    "Extract",
    "Failed",
    "Finished",
    "Launched",
    "Score",
    "Settled",
    "Stopped",
    "Streamed",
    "run",
    "stream",
]

TICK_S = 0.25
Happened = Callable[[Event], None]


async def run(
    policy: AnyPolicy,
    request: Request,
    backend: Backend,
    *,
    budget: Budget | None = None,
    extract: Extract | None = None,
    score: Score | None = None,
    cost_model: CostModel = count_tokens_only,
    reached: set[int] | None = None,
    unstreamed_tokens: int = 0,
    happened: Happened | None = None,
    toolbox: Toolbox | None = None,
    limits: ToolLimits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """The outcome of `request` under `policy`; `happened` is told of every event.

    The request gets the tools of `toolbox` beside its own; their calls are run here, within
    `limits`.

    Nothing is shown while it comes: what is not streamed for the policy's sake, nor for the
    budget's, is asked for whole (see `stream`).
    """
    capabilities = await able(policy, request, backend, scored=score is not None)
    if score is None and toolbox is None and (budget is None or allows_one(budget)):
        bounds = capabilities.logprobs, unstreamed_tokens
        one = OneSample.of(policy, request, backend, *bounds)
        if one is not None:
            return await one.settle(
                extract=extract, cost_model=cost_model, reached=reached,
                happened=happened or _ignored, clock=clock,
            )  # fmt: skip
    loop = _Loop(
        policy, request, backend, capabilities, budget=budget, extract=extract, score=score,
        cost_model=cost_model, reached=reached, unstreamed_tokens=unstreamed_tokens, shown=False,
        toolbox=toolbox, limits=limits, clock=clock,
    )  # fmt: skip
    return await loop.settle(happened)


async def stream(
    policy: AnyPolicy,
    request: Request,
    backend: Backend,
    *,
    budget: Budget | None = None,
    extract: Extract | None = None,
    score: Score | None = None,
    cost_model: CostModel = count_tokens_only,
    tick_s: float = TICK_S,
    clock: Callable[[], float] = time.monotonic,
    reached: set[int] | None = None,
    unstreamed_tokens: int = 0,
    shown: bool = True,
    toolbox: Toolbox | None = None,
    limits: ToolLimits | None = None,
) -> AsyncGenerator[Event, None]:
    """Events of `request` under `policy`, the last one `Settled`.

    `reached` is told the numbers of the samples whose request is with an engine. Samples of at most
    `unstreamed_tokens` are asked for without a stream where policy and budget act on nothing before
    their end; nor is one that is `shown` while it comes. Raises BudgetTooSmall, LacksCapability, or
    the upstream's error if every sample failed.
    """
    capabilities = await able(policy, request, backend, scored=score is not None)
    loop = _Loop(
        policy, request, backend, capabilities, budget=budget, extract=extract, score=score,
        cost_model=cost_model, tick_s=tick_s, clock=clock, reached=reached,
        unstreamed_tokens=unstreamed_tokens, shown=shown, toolbox=toolbox, limits=limits,
    )  # fmt: skip
    async with aclosing(loop.events()) as events:
        async for event in events:
            yield event


class _Loop:
    """One request: what its tasks bring goes to the session, and its commands to them."""

    def __init__(
        self,
        policy: AnyPolicy,
        request: Request,
        backend: Backend,
        capabilities: Capabilities,
        *,
        budget: Budget | None,
        extract: Extract | None,
        score: Score | None,
        cost_model: CostModel,
        reached: set[int] | None,
        unstreamed_tokens: int,
        shown: bool,
        toolbox: Toolbox | None,
        limits: ToolLimits | None,
        tick_s: float = TICK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = Session(
            policy, request if toolbox is None else toolbox.equip(request), budget=budget,
            cost_model=cost_model, logprobs=capabilities.logprobs,
            reached=set() if reached is None else reached,
        )  # fmt: skip
        self._unstreamed_tokens = unstreamed_tokens
        self._shown = shown
        self._tasks = SampleTasks(backend, score, self._session.reach)
        self._tools = ToolTasks(
            toolbox or Toolbox(()), limits or ToolLimits(), attempted=self._session.attempt_call,
            ended=self._tasks.box.put_now,
        )  # fmt: skip
        self._extract = extract
        self._is_scored = score is not None
        self._tick_s = tick_s
        self._clock = clock
        self._final: set[int] = set()
        self._waited_s = 0.0
        self._began_s = clock()
        self._next_tick_s = self._began_s + tick_s
        # Nothing but ends of samples matters: neither policy nor budget looks at the clock.
        self._is_timeless = self._session.policy.waits_for_ends and not self._session.needs_tokens
        self._may_draw_here = False
        self._here: Launch | None = None  # the only sample in flight, drawn in the loop's own task

    async def events(self) -> AsyncGenerator[Event, None]:
        """Every event as it comes."""
        try:
            events = await self._begin()
            while True:
                paused_s = self._clock()
                for event in events:
                    yield event
                self._waited_s += self._clock() - paused_s  # the reader's time, not ours
                if self._session.decided:
                    break
                events = await self._turn()
            stopped, settled = await self._end()
            for event in (*stopped, settled):
                yield event
        finally:
            await self._close()

    async def settle(self, happened: Happened | None) -> Outcome:
        """The outcome, without a reader in between."""
        self._may_draw_here = self._is_timeless
        tell: Happened = happened or _ignored
        try:
            events = await self._begin()
            while True:
                for event in events:
                    tell(event)
                if self._session.decided:
                    break
                events = await self._turn()
            stopped, settled = await self._end()
            for event in stopped:
                tell(event)
            tell(settled)
            return settled.outcome
        finally:
            await self._close()

    async def _begin(self) -> list[Event]:
        return await self._carry_out(self._session.start(self._began_s))

    async def _turn(self) -> list[Event]:
        """What the next thing that happens leads to."""
        item = await self._next_item()
        now_s = self._clock()
        events: list[Event] = []
        if item is not None:
            events, commands = await self._handle(item, now_s)
            if commands:
                events += await self._carry_out(commands)
        if not self._is_timeless and (now_s >= self._next_tick_s or self._is_late(now_s)):
            self._next_tick_s = now_s + self._tick_s
            if not self._session.decided:
                events += await self._carry_out(self._session.tick(now_s))
        return events

    async def _end(self) -> tuple[list[Event], Settled]:
        stopped: list[Event] = [
            Stopped(sample=each) for each in await self._tasks.stop(*self._tasks.samples)
        ]
        now_s = self._clock()
        overhead_s = max(0.0, now_s - self._began_s - self._waited_s)
        return stopped, Settled(outcome=self._session.outcome(now_s, overhead_s=overhead_s))

    async def _close(self) -> None:
        await self._tools.stop_all()
        await self._tasks.stop_all()

    def _is_late(self, now_s: float) -> bool:
        deadline_s = self._session.deadline_s
        return deadline_s is not None and now_s >= deadline_s

    async def _next_item(self) -> Item | None:
        """The next thing that happened, or None when it is time for a tick."""
        item = self._tasks.box.take()
        if item is not None:
            return item
        before_s = self._clock()
        try:
            if self._here is not None:
                launch, self._here = self._here, None
                return await self._tasks.drawn(launch)
            await self._tasks.box.wait(None if self._is_timeless else self._wait_s(before_s))
            return self._tasks.box.take()
        finally:
            self._waited_s += self._clock() - before_s

    def _wait_s(self, now_s: float) -> float:
        """Seconds until the next tick or the end of the time budget."""
        deadline_s = self._session.deadline_s
        until_s = self._next_tick_s if deadline_s is None else min(self._next_tick_s, deadline_s)
        return until_s - now_s

    async def _handle(self, item: Item, now_s: float) -> tuple[list[Event], list[Command]]:
        match item:
            case Crashed():
                raise item.error
            case Failed():
                return [item], self._session.fail(item.sample, item.error, now_s)
            case CallEnded():
                return [ToolEnded(ended=item)], self._session.end_call(item, now_s)
            case SampleJudged():
                return self._finish(item.sample, item.answer, item.score, now_s)
            case (sample, chunk):
                return await self._take(sample, chunk, now_s)

    async def _take(
        self, sample: int, chunk: Chunk, now_s: float
    ) -> tuple[list[Event], list[Command]]:
        if not self._session.is_running(sample):
            return [], []
        events: list[Event] = [Streamed(sample=sample, chunk=chunk, final=sample in self._final)]
        commands: list[Command] = []
        if self._session.is_unstreamed(sample):
            self._session.book(sample, chunk, now_s)
            self._tasks.forget(sample)
        else:
            commands = self._session.chunk(sample, chunk, now_s)
            if self._session.decided or not self._session.is_complete(sample):
                return events, commands
            if chunk.finish_reason is None:
                # It drew more than its grant: the engine will not end it.
                await self._tasks.stop(sample)
            else:
                self._tasks.drain(sample)
        completion = self._session.completion_of(sample)
        found = None if self._extract is None else self._extract(completion)
        if not self._is_scored and not inspect.isawaitable(found):
            ended, more = self._finish(sample, found, None, now_s)
            return events + ended, commands + more
        self._tasks.judge(self._session.request, sample, completion, found)
        return events, commands

    def _finish(
        self, sample: int, answer: str | None, score: float | None, now_s: float
    ) -> tuple[list[Event], list[Command]]:
        if not self._session.is_complete(sample):
            return [], []  # cancelled while it was being judged
        self._tasks.forget(sample)
        completion = self._session.completion_of(sample)
        event = Finished(sample=sample, completion=completion, answer=answer, score=score)
        return [event], self._session.finish(sample, now_s, answer=answer, score=score)

    async def _carry_out(self, commands: list[Command]) -> list[Event]:
        stops = [command.sample for command in commands if isinstance(command, Stop)]
        events: list[Event] = []
        if stops:
            events = [Stopped(sample=sample) for sample in await self._tasks.stop(*stops)]
        events += await self._carry_out_calls(commands)
        for command in commands:
            if not isinstance(command, Launch) or command.sample in stops:
                continue  # asked for and taken back in one breath: never sent
            if command.final:
                self._final.add(command.sample)
            unstreamed = self._comes_whole(command)
            if unstreamed:
                self._session.unstreamed(command.sample)
            alone = len(commands) == 1 and not self._tasks and not self._tools
            if unstreamed and self._may_draw_here and alone:
                self._here = command
            else:
                self._tasks.begin(command, unstreamed=unstreamed)
            events.append(Launched(launch=command, unstreamed=unstreamed))
        return events

    async def _carry_out_calls(self, commands: list[Command]) -> list[Event]:
        stops = [command.call for command in commands if isinstance(command, StopCall)]
        events: list[Event] = [ToolStopped(call=call) for call in stops]
        await self._tools.stop(*stops)
        for command in commands:
            if isinstance(command, StartCall) and command.call not in stops:
                self._tools.begin(command)
                events.append(ToolStarted(action=command.action))
        return events

    def _comes_whole(self, launch: Launch) -> bool:
        """Whether a sample may be asked for without a stream, which spares work per token."""
        most = launch.draw.sampling.max_tokens
        return (
            launch.whole
            and most is not None
            and most <= self._unstreamed_tokens
            and not (launch.final and self._shown)
            and not self._session.needs_tokens
            and self._tasks.can_draw_whole
        )


def _ignored(event: Event) -> None:
    del event
