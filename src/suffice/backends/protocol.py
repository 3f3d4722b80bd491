"""The contract of a backend: what it can do, and a stream of chunks that closing cancels."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from suffice.core.completions import Extras, FinishReason, TokenLogprob, Usage
from suffice.core.draw import Draw
from suffice.core.requests import ToolCall
from suffice.core.thinking import ModeTokens

# How an engine is told to think or not: a template variable, or the named effort.
ThinkingSwitch = Literal["enable_thinking", "thinking", "reasoning_effort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model as an upstream lists it: its name, and the whole card as JSON text."""

    id: str
    card_json: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend was found to support when it was probed, for one of its models."""

    models: tuple[str, ...] = ()  # all that it serves
    chat: bool = True  # answers chat completions; an embedding model does not
    logprobs: bool = False
    max_top_logprobs: int = 0  # most alternatives per token that it returns
    thinking_switch: ThinkingSwitch | None = None  # None: no switch, prefill is the only lever
    thinking_budget: bool = False  # honours `thinking_token_budget`
    mode_tokens: ModeTokens | None = None  # the model chooses by one of these whether it thinks
    prefill: bool = False  # continues an assistant turn that we began
    priority: bool = False
    tools: bool = True
    max_context_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of a stream. The last one carries `finish_reason`; `usage` is cumulative.

    `token_count` is None where the engine does not say how many tokens a chunk holds; the executor
    then counts one, and the final `usage` corrects it.
    """

    text: str = ""
    reasoning_text: str = ""
    token_count: int | None = None
    logprobs: Sequence[TokenLogprob] = ()  # sentinels included: consumers drop them
    confidences: Sequence[float] = ()  # nats per token, where a recording has no logprobs
    tool_calls: tuple[ToolCall, ...] = ()  # whole calls, put together by the backend
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    usage_refused: bool = False  # the engine told a usage that cannot be
    mode_bias_nats: float | None = None  # added to the log odds of thinking for this sample
    extras: Extras | None = None  # what else the server said


class Backend(Protocol):
    """Anything that turns a request into chunks.

    `stream` raises the BackendError that fits (UpstreamRefused, UpstreamTimeout,
    UpstreamDisconnected, MalformedStream, UpstreamRejected), also in the middle of a stream.
    Closing the generator (`aclose`, or cancelling the task that reads it) closes the connection,
    and the engine stops decoding; that has happened when `aclose` returns.
    """

    @property
    def name(self) -> str:
        """Name of the upstream on receipts and in metrics."""
        ...

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """What this backend supports for `model`, by default its first; found out once."""
        ...

    def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """Chunks of one sample."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class DrawsWhole(Protocol):
    """A backend that can be asked for an answer without a stream."""

    async def draw(self, draw: Draw) -> Chunk:
        """One sample as its only chunk. Raises a BackendError; cancelling stops the engine."""
        ...


@runtime_checkable
class ListsModels(Protocol):
    """A backend that can be asked again and again what it serves, without anything being loaded."""

    async def models(self) -> tuple[ModelCard, ...]:
        """What it serves now. Raises a BackendError."""
        ...
