"""Record a dataset against a server: so many samples a question, resumable, at a bounded rate."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from suffice.backends.protocol import Backend
from suffice.core.errors import (
    BackendError,
    InputError,
    LacksCapability,
    UnknownName,
    UpstreamRejected,
)
from suffice.core.requests import Message, Request, Tool
from suffice.evals.datasets import Item
from suffice.evals.extract import VERSION
from suffice.evals.traces.columns import TraceInformation
from suffice.evals.traces.files import TraceWriter
from suffice.evals.traces.trace_set import Question, Trace, TraceKey
from suffice.recipes.record.config import RecordConfig, RecordingProgress, RecordingResult
from suffice.recipes.record.sample import SampleJob, draw
from suffice.recipes.record.trial import (
    MOST_WITHOUT_RIGHT,
    TRIAL_QUESTIONS,
    NothingRight,
    RecordingTrial,
    check_some_right,
)
from suffice.recipes.record.unchanged import check_unchanged

# A group is written after so long even if it is small: a kill loses no more than this.
FLUSH_S = 60.0
# Failures in a row, of different samples, after which the server counts as gone.
GIVE_UP_AFTER = 20


async def record(
    items: Sequence[Item],
    backend: Backend,
    out: Path,
    config: RecordConfig,
    *,
    tell: Callable[[RecordingProgress], None] = lambda _: None,
    tried: Callable[[RecordingTrial], None] = lambda _: None,
) -> RecordingResult:
    """Draw what `out` lacks. Ends whole, or keeps every group but the current one.

    Before anything is sent, questions that `out` holds already must be the same as there. Ten
    questions go first, and `tried` hears how they went. Raises NothingRight if none of the first
    twenty answers is right, and the server's error once it fails repeatedly; what was drawn is
    kept.
    """
    check_unchanged(items, out)
    model = await _model(backend, config)
    information = TraceInformation(
        description=config.description,
        source=config.source,
        licence=config.licence,
        server=config.server,
        servers={model: config.server or backend.name},
        modes={config.mode.name: config.mode.description},
        token_counts="engine",
        extraction=VERSION,
        top_logprobs=config.sampling.top_logprobs,
    )
    with TraceWriter(out, information) as writer:
        try:
            return await _drawn(items, backend, writer, model, config, tell, tried)
        except NothingRight:
            writer.close()  # a whole file, that can be looked at and judged again
            raise


async def collect(
    items: Sequence[Item],
    backend: Backend,
    config: RecordConfig,
    *,
    tell: Callable[[RecordingProgress], None] = lambda _: None,
) -> list[Trace]:
    """The same without a file, and so without pyarrow: for what one process draws and uses.

    Raises the server's error also for a single sample that fails for good.
    """
    kept = _Kept()
    model = await _model(backend, config)
    found = await _drawn(items, backend, kept, model, replace(config, trial=False), tell)
    if not found.complete:
        raise InputError(f"{found.progress.failed} samples failed: {found.progress.last_error}")
    return kept.traces


class _Writer(Protocol):
    """What a recording needs of a trace file."""

    @property
    def known(self) -> Collection[TraceKey]:
        """Keys that it has already."""
        ...

    def add(self, trace: Trace) -> None:
        """Take in one more."""
        ...

    def flush(self) -> None:
        """Make safe what it has."""
        ...


class _Kept:
    """Traces in memory."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.known: frozenset[TraceKey] = frozenset()

    def add(self, trace: Trace) -> None:
        self.traces.append(trace)

    def flush(self) -> None:
        pass


async def _drawn(  # noqa: PLR0917 - its two callers have all of it in hand
    items: Sequence[Item],
    backend: Backend,
    writer: _Writer,
    model: str,
    config: RecordConfig,
    tell: Callable[[RecordingProgress], None],
    tried: Callable[[RecordingTrial], None] = lambda _: None,
) -> RecordingResult:
    jobs = [
        key
        for item in items
        for key in (
            TraceKey(*item.question.key, model, config.mode.name, n) for n in range(config.samples)
        )
    ]
    progress = RecordingProgress(total=len(jobs), known=sum(key in writer.known for key in jobs))
    tell(progress)
    recorder = _Recorder(backend, writer, config, progress, tell)
    if config.trial and progress.known == 0:
        await _trial(items, model, config, recorder, tried)
    await recorder.run(_draws(items, model, config, recorder))
    return RecordingResult(progress, progress.failed == 0)


async def _trial(
    items: Sequence[Item],
    model: str,
    config: RecordConfig,
    recorder: _Recorder,
    tried: Callable[[RecordingTrial], None],
) -> None:
    """One sample of each of the first ten questions; of ten more if none was right."""
    once = replace(config, samples=1)
    recorder.first = []
    await recorder.run(_draws(items[:TRIAL_QUESTIONS], model, once, recorder))
    first = RecordingTrial(
        model=model,
        traces=tuple(recorder.first),
        left=len(items) * config.samples - len(recorder.first),
        concurrency=config.concurrency,
        rate_per_s=config.rate_per_s,
    )
    tried(first)
    if first.judged and not first.right:
        more = items[TRIAL_QUESTIONS:MOST_WITHOUT_RIGHT]
        await recorder.run(_draws(more, model, once, recorder))
        check_some_right(model, recorder.first)
    recorder.first = None


def _draws(
    items: Sequence[Item], model: str, config: RecordConfig, recorder: _Recorder
) -> Iterator[SampleJob]:
    """What is still to be drawn; a question's samples follow each other, for its prefix cache."""
    for item in items:
        request = _request(item.question, model, config)
        for sample in range(config.samples):
            key = TraceKey(*item.question.key, model, config.mode.name, sample)
            if key in recorder.writer.known or key in recorder.given_up:
                continue
            seed = config.sampling.seed
            yield SampleJob(
                question=item.question,
                check=item.check,
                request=request,
                sampling=replace(config.sampling, seed=None if seed is None else seed + sample),
                thinking=config.mode.thinking,
                mode=config.mode.name,
                sample=sample,
            )


def _request(question: Question, model: str, config: RecordConfig) -> Request:
    messages = list(question.messages)
    if config.mode.suffix:
        at = max((i for i, turn in enumerate(messages) if turn.role == "user"), default=None)
        if at is None:
            raise InputError(f"question {question.name!r} has no user turn for the mode's suffix")
        messages[at] = Message(role="user", content=messages[at].text + config.mode.suffix)
    if config.completions and len(messages) != 1:
        raise InputError(
            f"question {question.name!r} has {len(messages)} turns: /v1/completions takes one"
        )
    return Request(
        messages=tuple(messages),
        model=model,
        tools=_tools(question),
        answer_format=question.answer_format,
        completion_only=config.completions,
    )


def _tools(question: Question) -> tuple[Tool, ...]:
    functions = (entry["function"] for entry in json.loads(question.tools_json or "[]"))
    return tuple(
        Tool(
            name=function["name"],
            description=function.get("description"),
            parameters_json=json.dumps(function.get("parameters", {})),
        )
        for function in functions
    )


async def _model(backend: Backend, config: RecordConfig) -> str:
    able = await backend.capabilities(config.model)
    if config.sampling.top_logprobs and not able.logprobs:
        raise LacksCapability(
            f"{backend.name} gives no logprobs: record without them (--top-logprobs 0)"
        )
    if config.model is None:
        if not able.models:
            raise InputError(f"{backend.name} lists no model: name one with --model")
        return able.models[0]
    if able.models and config.model not in able.models:
        known = f"(served: {', '.join(able.models)})"
        raise UnknownName.of("model", config.model, able.models, known)
    return config.model


class _Recorder:
    """So many streams at a time, started no faster than the rate."""

    def __init__(
        self,
        backend: Backend,
        writer: _Writer,
        config: RecordConfig,
        progress: RecordingProgress,
        tell: Callable[[RecordingProgress], None],
    ) -> None:
        self._backend, self.writer, self._config = backend, writer, config
        self.first: list[Trace] | None = None  # of a trial, as they come
        self.given_up: set[TraceKey] = set()  # samples that failed, in this run
        self._progress, self._tell = progress, tell
        self._next_start_s = 0.0
        self._in_a_row = 0
        self._flushed_s = time.monotonic()

    async def run(self, draws: Iterator[SampleJob]) -> None:
        """Draw everything; raises once the server keeps failing."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._config.concurrency):
                    group.create_task(self._work(draws))
        except BaseExceptionGroup as group_error:
            # Raised again, whatever it is: one server, one reason, and the group has ended the
            # other workers already.
            raise group_error.exceptions[0] from None

    async def _work(self, draws: Iterator[SampleJob]) -> None:
        for job in draws:  # one iterator for all workers: each sample is taken once
            trace = await self._patiently(job)
            if trace is not None:
                self._keep(trace)
            self._tell(self._progress)

    async def _patiently(self, job: SampleJob) -> Trace | None:
        for attempt in range(self._config.retries + 1):
            await self._wait_for_turn()
            try:
                trace = await draw(self._backend, job)
            except BackendError as error:
                self._progress.last_error = str(error)
                hopeless = isinstance(error, UpstreamRejected) and error.status in (400, 413, 422)
                if hopeless or attempt == self._config.retries:
                    self._progress.failed += 1
                    self.given_up.add(
                        TraceKey(*job.question.key, job.request.model, job.mode, job.sample)
                    )
                    self._in_a_row += 1
                    if self._in_a_row >= GIVE_UP_AFTER:
                        raise
                    return None
                await asyncio.sleep(min(30.0, 0.5 * 2**attempt))
            else:
                self._in_a_row = 0
                return trace
        return None

    async def _wait_for_turn(self) -> None:
        if self._config.rate_per_s is None:
            return
        now_s = time.monotonic()
        start_s = max(now_s, self._next_start_s)
        self._next_start_s = start_s + 1.0 / self._config.rate_per_s
        await asyncio.sleep(start_s - now_s)

    def _keep(self, trace: Trace) -> None:
        self.writer.add(trace)
        if self.first is not None:
            self.first.append(trace)
        self._progress.drawn += 1
        self._progress.tokens += trace.completion_tokens or 0
        self._progress.judged += trace.correct is not None
        self._progress.correct += trace.correct is True
        if time.monotonic() - self._flushed_s > FLUSH_S:
            self.writer.flush()
            self._flushed_s = time.monotonic()
