"""Answering with a policy: every choice is one run of it, streamed as soon as that is safe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from suffice.backends.protocol import Backend, Chunk
from suffice.core.completions import Budget, CostModel, Outcome
from suffice.core.decisions import AnyPolicy
from suffice.core.requests import Request
from suffice.executors import live
from suffice.executors.live import Extract, Score
from suffice.executors.tool_calls import ToolLimits
from suffice.gateway.connection.client import event_of
from suffice.gateway.wire.requests import NO_BUDGET
from suffice.gateway.wire.responses import Renderer
from suffice.tools.toolbox import Toolbox

# Sample i of a request is drawn with seed + i; choices stay apart by more than any policy draws.
SEED_STRIDE = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that one answer needs."""

    policy: AnyPolicy
    request: Request
    backend: Backend
    budget: Budget
    extract: Extract | None
    cost_model: CostModel
    choices: int
    score: Score | None = None
    happened: Callable[[int, live.Event], None] | None = None  # told of every event of each choice
    reached: dict[int, set[int]] = field(default_factory=dict)  # by choice: samples with an engine
    compare: Callable[[Outcome], Outcome] | None = None  # adds what the baseline would cost
    audited: Callable[[Outcome], None] | None = None  # told what an audit's baseline answered
    unstreamed_tokens: int = 0  # samples of at most so many may be asked for without a stream
    toolbox: Toolbox | None = None  # tools that are run here
    limits: ToolLimits | None = None

    @property
    def model(self) -> str:
        """The model that the question goes to."""
        return self.request.model

    def compared(self, outcome: Outcome) -> Outcome:
        """The outcome beside what the baseline would have cost."""
        return outcome if self.compare is None else self.compare(outcome)

    def choice(self, index: int) -> Request:
        """The request of one choice: the same question with seeds of its own."""
        sampling = self.request.sampling
        if sampling.seed is None:
            return self.request
        seeded = replace(sampling, seed=sampling.seed + index * SEED_STRIDE)
        return replace(self.request, sampling=seeded)

    def events(self, index: int) -> AsyncGenerator[live.Event, None]:
        """Events of one choice."""
        events = live.stream(
            self.policy,
            self.choice(index),
            self.backend,
            budget=share(self.budget, self.choices),
            extract=self.extract,
            score=self.score,
            cost_model=self.cost_model,
            reached=self.reached.setdefault(index, set()),
            unstreamed_tokens=self.unstreamed_tokens,
            toolbox=self.toolbox,
            limits=self.limits,
        )
        if self.happened is None:
            return events
        return _told(index, events, self.happened)


def share(budget: Budget, choices: int) -> Budget:
    """One choice's part of a request's budget; time passes for all of them alike."""
    if choices == 1:
        return budget
    tokens, samples = budget.completion_tokens, budget.samples
    return Budget(
        completion_tokens=None if tokens is None else tokens // choices,
        samples=None if samples is None else samples // choices,
        elapsed_s=budget.elapsed_s,
        usd=None if budget.usd is None else budget.usd / choices,
        tool_calls=budget.tool_calls,  # tools are run for one choice alone
        tool_s=budget.tool_s,
    )


def tighter(a: Budget, b: Budget) -> Budget:
    """The smaller of two budgets, limit by limit."""
    if a is NO_BUDGET or b is NO_BUDGET:
        return b if a is NO_BUDGET else a

    def least(x: float | None, y: float | None) -> Any:
        return min((value for value in (x, y) if value is not None), default=None)

    return Budget(
        completion_tokens=least(a.completion_tokens, b.completion_tokens),
        samples=least(a.samples, b.samples),
        elapsed_s=least(a.elapsed_s, b.elapsed_s),
        usd=least(a.usd, b.usd),
        tool_calls=least(a.tool_calls, b.tool_calls),
        tool_s=least(a.tool_s, b.tool_s),
    )


async def outcomes(job: Job) -> list[Outcome]:
    """The outcome of every choice; one that fails ends the others."""
    if job.choices == 1:
        return [await _outcome(job, 0)]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_outcome(job, index)) for index in range(job.choices)]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def frames(job: Job, renderer: Renderer, found: list[Outcome]) -> AsyncGenerator[bytes, None]:
    """Server-sent events of the answer, without the final [DONE]; outcomes are put into `found`."""
    choices = [_choice(job, index, renderer, found) for index in range(job.choices)]
    async with aclosing(merge(choices)) as objects:
        async for item in objects:
            yield event_of(item)
    if renderer.ask.include_usage:
        yield event_of(renderer.usage(found))


async def _told(
    index: int,
    events: AsyncGenerator[live.Event, None],
    happened: Callable[[int, live.Event], None],
) -> AsyncGenerator[live.Event, None]:
    async with aclosing(events):
        async for event in events:
            happened(index, event)
            yield event


async def _outcome(job: Job, index: int) -> Outcome:
    told = job.happened
    outcome = await live.run(
        job.policy,
        job.choice(index),
        job.backend,
        budget=share(job.budget, job.choices),
        extract=job.extract,
        score=job.score,
        cost_model=job.cost_model,
        reached=job.reached.setdefault(index, set()),
        unstreamed_tokens=job.unstreamed_tokens,
        happened=None if told is None else partial(told, index),
        toolbox=job.toolbox,
        limits=job.limits,
    )
    return job.compared(outcome)


async def _choice(
    job: Job, index: int, renderer: Renderer, found: list[Outcome]
) -> AsyncGenerator[dict[str, Any], None]:
    """Chunk objects of one choice. A sample that is known to be the answer is shown as it comes;
    otherwise the accepted one is replayed, piece by piece, once it is known."""
    seen: dict[int, list[Chunk]] = {}
    models: dict[int, str] = {}
    shown: int | None = None
    async with aclosing(job.events(index)) as events:
        async for event in events:
            match event:
                case live.Launched(launch=launch):
                    first = [Chunk(text=launch.shown)] if launch.shown else []
                    seen[launch.sample], models[launch.sample] = first, launch.draw.model
                case live.Streamed(sample=sample, chunk=chunk, final=final):
                    seen[sample].append(chunk)
                    if final and shown in (None, sample):
                        if shown is None:
                            renderer = renderer.answered_by(models[sample])
                            if renderer.ask.chat:
                                yield renderer.role(index)
                        shown = sample
                        for piece in _take(seen[sample]):
                            yield renderer.piece(index, piece)
                case live.Settled(outcome=settled):
                    outcome = job.compared(settled)
                    found.append(outcome)
                    if shown is None:
                        renderer = renderer.answered_by(outcome.completion.model)
                        if renderer.ask.chat:
                            yield renderer.role(index)
                        for piece in replay(outcome, seen.get(outcome.sample, [])):
                            yield renderer.piece(index, piece)
                    yield renderer.end(index, outcome)


def replay(outcome: Outcome, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The accepted sample's chunks as they came, or its text whole if the policy rewrote it."""
    completion = outcome.completion
    if "".join(chunk.text for chunk in chunks) == completion.text:
        return [chunk for chunk in chunks if _says(chunk)]
    return [
        Chunk(
            text=completion.text,
            reasoning_text=completion.reasoning_text or "",
            tool_calls=completion.tool_calls,
        )
    ]


def _take(chunks: list[Chunk]) -> list[Chunk]:
    taken = [chunk for chunk in chunks if _says(chunk)]
    chunks.clear()
    return taken


def _says(chunk: Chunk) -> bool:
    if chunk.text or chunk.reasoning_text or chunk.tool_calls or chunk.logprobs:
        return True
    return chunk.extras is not None and chunk.finish_reason is None


async def merge(
    sources: Sequence[AsyncGenerator[dict[str, Any], None]],
) -> AsyncGenerator[dict[str, Any], None]:
    """Items of several generators as they come; the first error ends all of them."""
    if len(sources) == 1:
        async with aclosing(sources[0]) as only:
            async for item in only:
                yield item
        return
    queue: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue(maxsize=64)

    async def pump(source: AsyncGenerator[dict[str, Any], None]) -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    await queue.put(item)
            await queue.put(None)
        except Exception as error:  # noqa: BLE001 - carried to the reader, which raises it
            await queue.put(error)

    tasks = [asyncio.create_task(pump(source)) for source in sources]
    try:
        left = len(tasks)
        while left:
            taken = await queue.get()
            if isinstance(taken, Exception):
                raise taken
            if taken is None:
                left -= 1
            else:
                yield taken
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
