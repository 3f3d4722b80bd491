"""One sample in flight: what was asked for it, and what it has given so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from suffice.backends.message_fields import joined
from suffice.backends.protocol import Chunk
from suffice.core.completions import (
    Completion,
    Extras,
    FinishReason,
    SampleRecord,
    TokenLogprob,
    Usage,
)
from suffice.core.decisions import ChunkSeen, Purpose
from suffice.core.draw import Draw
from suffice.core.requests import Message, ToolCall
from suffice.core.series import DrawnLogprobs, Floats
from suffice.executors.turns_baseline import prompt_chars

# Text that came without a count: up to this size it is a token, beyond it so many bytes are one.
ONE_TOKEN_BYTES = 24
BYTES_PER_TOKEN = 4


def guess_tokens(size_bytes: int) -> int:
    """Tokens of a piece of text that came without a count: one if it is small."""
    if size_bytes <= ONE_TOKEN_BYTES:
        return int(size_bytes > 0)
    return round(size_bytes / BYTES_PER_TOKEN)


Status = Literal["running", "finished", "cancelled", "failed"]
PromptKey = tuple[str, tuple[Message, ...], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Command: start this sample. `draw.sampling.max_tokens` is what the budget grants it."""

    sample: int
    draw: Draw
    purpose: Purpose
    final: bool
    shown: str = ""  # the end of `draw.prefill` that is part of the answer
    plain: bool = True  # the request as it came, but for model and think block
    whole: bool = False  # nobody looks at it before its end, nor takes it back

    @property
    def prompt_chars(self) -> int:
        """Characters of what it reads; 0 if it is the request as it came, without tools."""
        request = self.draw.request
        if self.plain and not request.tools:
            return 0
        return prompt_chars(request.messages, request.tools)

    @property
    def prompt_key(self) -> PromptKey:
        """What decides its prompt tokens."""
        return self.draw.model, self.draw.request.messages, self.draw.prefill


@dataclass(slots=True, kw_only=True)
class RunningSample:
    """The growing sample; `tokens` is the best count so far, the engine's own where it says."""

    launch: Launch
    prompt_bound: int
    began_s: float
    tokens: int = 0
    uncounted_bytes: int = 0  # text that came without a count of its tokens
    usage: Usage | None = None
    usage_refused: bool = False
    unstreamed: bool = False  # nothing of it is seen before its end
    finish_reason: FinishReason | None = None
    status: Status = "running"
    answer: str | None = None
    score: float | None = None
    reason: str | None = None
    first_s: float | None = None
    ended_s: float | None = None
    mode_bias_nats: float | None = None
    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    _drawn: DrawnLogprobs | None = None  # a recording's, which come in one piece
    _tool_calls: list[ToolCall] = field(default_factory=list)
    _confidences: list[Sequence[float]] = field(default_factory=list)  # piece by piece
    _extras: list[Extras] = field(default_factory=list)
    _completion: Completion | None = None  # as of the last chunk

    def add(self, chunk: Chunk, now_s: float) -> ChunkSeen:
        """Book a chunk; gives the evidence it is."""
        pieces = len(self._confidences)
        drawn = self.book(chunk, now_s)
        return ChunkSeen(
            sample=self.launch.sample,
            text=chunk.text,
            reasoning_text=chunk.reasoning_text,
            tokens=drawn,
            confidences=self._confidences[-1] if len(self._confidences) > pieces else (),
        )

    def book(self, chunk: Chunk, now_s: float) -> int:
        """Book a chunk; gives the tokens it held."""
        self._completion = None
        said = chunk.text or chunk.reasoning_text or chunk.tool_calls
        tokens = chunk.token_count
        if tokens is None:
            tokens = self._count(chunk)
        if self.first_s is None and (said or tokens):
            self.first_s = now_s
        self.tokens += tokens
        self.usage_refused = self.usage_refused or chunk.usage_refused
        if chunk.usage is not None:
            self.usage = chunk.usage
            self.tokens = chunk.usage.completion_tokens
        if chunk.text:
            self._text.append(chunk.text)
        if chunk.reasoning_text:
            self._reasoning.append(chunk.reasoning_text)
        if isinstance(chunk.logprobs, DrawnLogprobs):
            self._drawn = chunk.logprobs
        elif chunk.logprobs:
            self._logprobs.extend(chunk.logprobs)
        if chunk.tool_calls:
            self._tool_calls.extend(chunk.tool_calls)
        self._extras.extend((chunk.extras,) if chunk.extras is not None else ())
        if chunk.mode_bias_nats is not None:
            self.mode_bias_nats = chunk.mode_bias_nats
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason
        confidences = chunk.confidences
        if not confidences and chunk.logprobs and self._drawn is None:
            k = self.launch.draw.sampling.top_logprobs or 20
            found = (token.confidence(k) for token in chunk.logprobs)
            confidences = tuple(value for value in found if value is not None)
        if confidences:
            self._confidences.append(confidences)
        return tokens

    def _count(self, chunk: Chunk) -> int:
        """Tokens of a chunk that came without a count."""
        if chunk.usage is not None:
            return max(0, chunk.usage.completion_tokens - self.tokens)
        if chunk.logprobs:
            return len(chunk.logprobs)
        text = chunk.text + chunk.reasoning_text
        size_bytes = len(text.encode(errors="surrogatepass"))
        tokens = max(guess_tokens(size_bytes), 1 if text or chunk.tool_calls else 0)
        self.uncounted_bytes += max(0, size_bytes - tokens)
        return tokens

    def end(self, status: Status, now_s: float, reason: str | None) -> None:
        """Close the book on it."""
        self.status, self.ended_s = status, now_s
        self.reason = reason if reason is not None else self.reason

    @property
    def reserved_tokens(self) -> int:
        """Completion tokens that it has drawn or still may draw under its grant."""
        granted = self.launch.draw.sampling.max_tokens
        return (
            self.tokens
            if granted is None or self.status != "running"
            else max(granted, self.tokens)
        )

    @property
    def most_tokens(self) -> int:
        """Completion tokens that it may have drawn: the engine's count, else no more than bytes."""
        if self.usage is not None:
            return self.tokens
        granted = self.launch.draw.sampling.max_tokens
        most = self.tokens + self.uncounted_bytes
        return most if granted is None else max(self.tokens, min(granted, most))

    @property
    def overran(self) -> bool:
        """Whether it has drawn more than it was granted."""
        granted = self.launch.draw.sampling.max_tokens
        return granted is not None and self.tokens > granted

    @property
    def text(self) -> str:
        """The answer's text so far, prefill included, preface not."""
        return self.launch.shown + "".join(self._text)

    @property
    def confidences(self) -> Sequence[float]:
        """Token confidences so far, in nats."""
        pieces = self._confidences
        if not pieces:
            return ()
        if any(isinstance(piece, Floats) for piece in pieces):
            return pieces[0] if len(pieces) == 1 else Floats(np.concatenate(pieces))
        return tuple(value for piece in pieces for value in piece)

    @property
    def spoke(self) -> bool:
        """Whether the model has said anything yet."""
        return bool(self._text or self._reasoning or self._tool_calls)

    @property
    def measured_usage(self) -> Usage:
        """The engine's usage, or the tokens counted if the stream ended before it came."""
        if self.usage is not None:
            return self.usage
        return Usage(completion_tokens=self.tokens)

    def completion(self) -> Completion:
        """What it has given so far, as a completion."""
        if self._completion is None:
            self._completion = self._completed()
        return self._completion

    def forget_completion(self) -> None:
        """Its count has changed."""
        self._completion = None

    def _completed(self) -> Completion:
        return Completion(
            text=self.text,
            finish_reason=self.finish_reason or "cancelled",
            usage=self.measured_usage,
            model=self.launch.draw.model,
            reasoning_text="".join(self._reasoning) or None,
            tool_calls=tuple(self._tool_calls),
            logprobs=tuple(self._logprobs) if self._drawn is None else self._drawn,
            prefill=self.launch.shown,
            extras=_joined(self._extras),
        )

    def record(self) -> SampleRecord:
        """The receipt's line about it."""
        return SampleRecord(
            sample=self.launch.sample,
            model=self.launch.draw.model,
            purpose=self.launch.purpose,
            status="cancelled" if self.status == "running" else self.status,
            usage=self.measured_usage,
            plain=self.launch.plain,
            prompt_chars=self.launch.prompt_chars,
            told=self.usage is not None,
            usage_refused=self.usage_refused,
            thinking=self.launch.draw.thinking,
            mode_bias_nats=self.mode_bias_nats,
            answer=self.answer,
            score=self.score,
            confidence=float(np.mean(np.concatenate(self._confidences)))
            if self._confidences
            else None,
            reason=self.reason,
            ttft_s=None if self.first_s is None or self.unstreamed else self.first_s - self.began_s,
            e2e_s=0.0 if self.ended_s is None else self.ended_s - self.began_s,
        )


def _joined(extras: list[Extras]) -> Extras | None:
    """What else the server said, over all chunks."""
    if len(extras) < 2:
        return extras[0] if extras else None
    return joined(extras)
