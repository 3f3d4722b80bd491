"""A backend that plays scripts: deterministic streams and faults, for tests and demonstrations."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from suffice.backends.protocol import Capabilities, Chunk
from suffice.backends.reached import tell_reached
from suffice.core.completions import FinishReason, TokenLogprob, Usage
from suffice.core.draw import Draw
from suffice.core.errors import (
    InputError,
    MalformedStream,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import Sampling, ToolCall

FaultKind = Literal["refused", "timeout", "disconnected", "malformed", "rejected", "hang"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong, after how many chunks. "hang" waits until it is cancelled."""

    kind: FaultKind
    after_chunks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One stream, token by token.

    `confidences` (nats, one per token, the last repeated) become log-probabilities when the request
    asks for them. `delay_s` passes before every token. A `max_tokens` shorter than the script ends
    it with finish reason "length", as an engine would.
    """

    tokens: tuple[str, ...]
    reasoning_tokens: tuple[str, ...] = ()
    confidences: tuple[float, ...] = (1.0,)
    delay_s: float = 0.0
    finish_reason: FinishReason = "stop"
    fault: Fault | None = None
    prompt_tokens: int = 10
    tool_calls: tuple[ToolCall, ...] = ()  # at the end; the finish reason is then tool_calls

    @classmethod
    def of(
        cls,
        text: str,
        *,
        confidences: tuple[float, ...] = (1.0,),
        delay_s: float = 0.0,
        fault: Fault | None = None,
        tool_calls: tuple[ToolCall, ...] = (),
    ) -> Script:
        """A script of `text`, one token per word with the space before it."""
        words = text.split(" ")
        tokens = tuple(word if i == 0 else f" {word}" for i, word in enumerate(words))
        return cls(
            tokens=tokens, confidences=confidences, delay_s=delay_s, fault=fault,
            finish_reason="tool_calls" if tool_calls else "stop", tool_calls=tool_calls,
        )  # fmt: skip


@dataclass(slots=True)
class FakeTraffic:
    """What a fake backend has seen: every call, and how streams ended."""

    calls: list[Draw] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    tokens: int = 0


# The script of the n-th call, counted from 0.
Director = Callable[[int, Draw], Script]

ABLE = Capabilities(
    models=("fake",),
    logprobs=True,
    max_top_logprobs=20,
    thinking_switch="enable_thinking",
    thinking_budget=True,
    prefill=True,
    priority=True,
    max_context_tokens=8192,
)


class FakeBackend:
    """Plays `scripts` in the order of calls, the last one again and again, or asks a director."""

    def __init__(
        self,
        scripts: Sequence[Script] | Director,
        *,
        capabilities: Capabilities = ABLE,
        name: str = "fake",
    ) -> None:
        if not callable(scripts) and not scripts:
            raise InputError("a fake backend needs at least one script")
        self._scripts = scripts
        self._capabilities = capabilities
        self._name = name
        self.traffic = FakeTraffic()
        self.closed = False

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """The capabilities it was given."""
        return self._capabilities

    async def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """The next script's chunks, one token each."""
        script = self._script_of(draw)
        traffic = self.traffic
        traffic.calls.append(draw)
        traffic.running += 1
        traffic.most_running = max(traffic.most_running, traffic.running)
        ending = "cancelled"
        if script.fault is None or script.fault.kind != "refused":
            tell_reached()
        try:
            async for chunk in self._play(script, draw.sampling):
                traffic.tokens += chunk.token_count or 0
                if chunk.finish_reason is not None:
                    ending = "finished"
                yield chunk
        except (
            UpstreamRefused, UpstreamTimeout, UpstreamDisconnected, MalformedStream,
            UpstreamRejected,
        ):  # fmt: skip
            ending = "failed"
            raise
        finally:
            traffic.running -= 1
            setattr(traffic, ending, getattr(traffic, ending) + 1)

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def _script_of(self, draw: Draw) -> Script:
        number = len(self.traffic.calls)
        if callable(self._scripts):
            return self._scripts(number, draw)
        return self._scripts[min(number, len(self._scripts) - 1)]

    async def _play(self, script: Script, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        pieces = [(token, True) for token in script.reasoning_tokens]
        pieces += [(token, False) for token in script.tokens]
        limit = len(pieces) if sampling.max_tokens is None else sampling.max_tokens
        for number, (token, reasoning) in enumerate(pieces[:limit]):
            await self._fail_if_due(script.fault, number)
            await asyncio.sleep(script.delay_s)
            yield Chunk(
                text="" if reasoning else token,
                reasoning_text=token if reasoning else "",
                token_count=1,
                logprobs=_logprobs(script, number, token, sampling.top_logprobs),
            )
        await self._fail_if_due(script.fault, len(pieces))
        shown = min(limit, len(pieces))
        yield Chunk(
            token_count=0,
            tool_calls=script.tool_calls if limit >= len(pieces) else (),
            finish_reason="length" if limit < len(pieces) else script.finish_reason,
            usage=Usage(
                prompt_tokens=script.prompt_tokens,
                completion_tokens=shown,
                reasoning_tokens=min(shown, len(script.reasoning_tokens)),
            ),
        )

    async def _fail_if_due(self, fault: Fault | None, number: int) -> None:
        if fault is None or fault.after_chunks != number:
            return
        match fault.kind:
            case "refused":
                raise UpstreamRefused(f"{self._name} refuses the connection")
            case "timeout":
                raise UpstreamTimeout(f"{self._name} sent nothing for 60 s")
            case "disconnected":
                raise UpstreamDisconnected(f"{self._name} closed the connection")
            case "malformed":
                raise MalformedStream(f"{self._name} sent an event that is not JSON")
            case "rejected":
                raise UpstreamRejected(f"{self._name} answered 503: overloaded", status=503)
            case "hang":
                await asyncio.Event().wait()


def _logprobs(
    script: Script, number: int, token: str, top_logprobs: int | None
) -> tuple[TokenLogprob, ...]:
    if top_logprobs is None:
        return ()
    confidence = script.confidences[min(number, len(script.confidences) - 1)]
    # Equal alternatives at minus the wanted confidence: their negated mean is that confidence.
    others = tuple((f"alternative {k}", -confidence) for k in range(top_logprobs))
    return (TokenLogprob(token=token, logprob=math.log(0.5), top=others),)
