"""One sample from a stream of chunks to a trace."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from suffice.backends.protocol import Backend, Chunk
from suffice.backends.tool_calls import tool_call_json
from suffice.core.completions import Completion, FinishReason, TokenLogprob, Usage
from suffice.core.draw import Draw
from suffice.core.errors import UpstreamDisconnected
from suffice.core.requests import Request, Sampling, ToolCall
from suffice.core.thinking import Thinking
from suffice.evals.grading import Check
from suffice.evals.traces.trace_set import HalfArray, Question, Trace

# Largest magnitude that a half float holds; impossible tokens (-9999, -inf) are kept as this.
LEAST_HALF = -65504.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleJob:
    """One sample to draw: sample number `sample` of a question, as a request."""

    question: Question
    check: Check
    request: Request
    sampling: Sampling
    thinking: Thinking | None
    mode: str
    sample: int


@dataclass(slots=True)
class _Heard:
    """What a stream has said so far."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    first_s: float | None = None
    tokens: int = 0

    def add(self, chunk: Chunk, now_s: float) -> None:
        """Take in a chunk."""
        said = chunk.text or chunk.reasoning_text or chunk.tool_calls
        if self.first_s is None and said:
            self.first_s = now_s
        self.tokens += chunk.token_count or len(chunk.logprobs) or (1 if said else 0)
        self.text.append(chunk.text)
        self.reasoning.append(chunk.reasoning_text)
        self.logprobs.extend(chunk.logprobs)
        self.tool_calls.extend(chunk.tool_calls)
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.usage = chunk.usage or self.usage


async def draw(backend: Backend, job: SampleJob) -> Trace:
    """Draw one sample whole and check it; raises the backend's error."""
    heard = _Heard()
    began_s = time.monotonic()
    chunks = backend.stream(
        Draw(job.request, job.sampling, model=job.request.model, thinking=job.thinking)
    )
    async with aclosing(chunks):
        async for chunk in chunks:
            heard.add(chunk, time.monotonic())
    ended_s = time.monotonic()
    if heard.finish_reason is None:
        raise UpstreamDisconnected("the stream ended without a finish reason")
    usage = heard.usage or Usage(completion_tokens=heard.tokens)
    completion = Completion(
        text="".join(heard.text),
        finish_reason=heard.finish_reason,
        usage=usage,
        model=job.request.model,
        reasoning_text="".join(heard.reasoning) or None,
        tool_calls=tuple(heard.tool_calls),
    )
    verdict = await asyncio.to_thread(job.check, completion)  # it may ask SymPy
    k = job.sampling.top_logprobs or 0
    return Trace(
        question=job.question,
        model=job.request.model,
        mode=job.mode,
        sample=job.sample,
        text=completion.text,
        reasoning_text=completion.reasoning_text,
        tool_calls_json=_calls_json(completion.tool_calls),
        finish_reason=completion.finish_reason,
        prompt_tokens=usage.prompt_tokens or None,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        answer=verdict.answer,
        correct=verdict.correct,
        score=verdict.score,
        tokens=tuple(entry.token for entry in heard.logprobs),
        logprobs=_half([entry.logprob for entry in heard.logprobs]),
        confidences=_half(_confidences(heard.logprobs, k)) if k else _half([]),
        ttft_s=None if heard.first_s is None else heard.first_s - began_s,
        e2e_s=ended_s - began_s,
        sampling_json=sampling_json(job),
    )


def sampling_json(job: SampleJob) -> str:
    """How the sample was drawn, as the JSON object of its row; what was left open is left out."""
    sampling = job.sampling
    named: dict[str, Any] = {
        field.name: getattr(sampling, field.name) for field in fields(sampling)
    }
    named["stop"] = list(sampling.stop) or None
    if job.request.completion_only:
        named["endpoint"] = "completions"
    return json.dumps({name: value for name, value in named.items() if value is not None})


def _confidences(entries: list[TokenLogprob], k: int) -> list[float]:
    found = (entry.confidence(k) for entry in entries)
    return [float("nan") if value is None else value for value in found]


def _half(values: list[float]) -> HalfArray:
    return np.maximum(np.asarray(values, dtype=np.float64), LEAST_HALF).astype(np.float16)


def _calls_json(calls: tuple[ToolCall, ...]) -> str | None:
    return json.dumps([tool_call_json(call) for call in calls]) if calls else None
