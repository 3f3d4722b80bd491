"""Outcomes and chunks as OpenAI's response objects, for both endpoints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from suffice.backends.protocol import Chunk
from suffice.backends.tool_calls import tool_call_json
from suffice.backends.wire import logprob_json
from suffice.core.completions import Completion, Extras, Outcome, TokenLogprob, Usage
from suffice.gateway.calls import IDS
from suffice.gateway.wire.receipt import receipt, summed, usage_json
from suffice.gateway.wire.requests import Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Renderer:
    """What every object of one response shares."""

    ask: Ask
    id: str
    created: int
    model: str  # who answers; until that is known, what was asked for

    @classmethod
    def of(cls, ask: Ask) -> Renderer:
        """A renderer with a fresh id."""
        prefix = "chatcmpl" if ask.chat else "cmpl"
        return cls(
            ask=ask,
            id=f"{prefix}-{IDS.getrandbits(96):024x}",
            created=int(time.time()),
            model=ask.request.model,
        )

    def answered_by(self, model: str) -> Renderer:
        """The renderer of a choice, once it is known which model answers it."""
        return self if model in ("", self.model) else replace(self, model=model)

    def whole(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """The response object of a request that does not stream."""
        usage = summed(outcomes)
        extras = outcomes[0].completion.extras
        named = self.answered_by(outcomes[0].completion.model)
        return {
            **named._head("chat.completion" if self.ask.chat else "text_completion"),
            **({} if extras is None else orjson.loads(extras.response_json)),
            "choices": [self._choice(i, o.completion) for i, o in enumerate(outcomes)],
            "usage": usage_json(usage),
            "suffice": receipt(outcomes),
        }

    def role(self, index: int) -> dict[str, Any]:
        """The first chunk of a choice."""
        return self._chunk(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, chunk: Chunk) -> dict[str, Any]:
        """A chunk of text, thoughts or tool calls."""
        logprobs = self._logprobs(chunk.logprobs)
        if not self.ask.chat:
            return _with(self._text_chunk(index, chunk.text, logprobs), chunk.extras)
        delta: dict[str, Any] = {}
        if chunk.text:
            delta["content"] = chunk.text
        delta |= _thoughts(chunk.reasoning_text)
        if chunk.tool_calls:
            calls = [tool_call_json(call) for call in chunk.tool_calls]
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)]
        return _with(self._chunk(index, delta, logprobs=logprobs), chunk.extras)

    def end(self, index: int, outcome: Outcome) -> dict[str, Any]:
        """The last chunk of a choice, with its receipt."""
        reason = _finish_reason(outcome.completion)
        if self.ask.chat:
            last = self._chunk(index, {}, finish_reason=reason)
        else:
            last = self._text_chunk(index, "", None, finish_reason=reason)
        return last | {"suffice": receipt([outcome], first=index)}

    def usage(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """The chunk without choices that ends a stream which asked for its usage."""
        usage = sum((outcome.usage for outcome in outcomes), Usage())
        kind = "chat.completion.chunk" if self.ask.chat else "text_completion"
        named = self.answered_by(outcomes[0].completion.model)
        return {**named._head(kind), "choices": [], "usage": usage_json(usage)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _choice(self, index: int, completion: Completion) -> dict[str, Any]:
        logprobs = self._logprobs(completion.logprobs)
        common = {"index": index, "logprobs": logprobs, "finish_reason": completion.finish_reason}
        extras = completion.extras or _NO_EXTRAS
        common |= orjson.loads(extras.choice_json)
        if not self.ask.chat:
            return {**common, "text": completion.text}
        message: dict[str, Any] = {
            "role": "assistant",
            "content": completion.text or (None if completion.tool_calls else ""),
            "refusal": None,
            **_thoughts(completion.reasoning_text or ""),
        }
        if completion.tool_calls:
            message["tool_calls"] = [tool_call_json(call) for call in completion.tool_calls]
        return {**common, "message": _as_it_came(message, extras)}

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {
            "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason,
        }  # fmt: skip
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _text_chunk(
        self,
        index: int,
        text: str,
        logprobs: dict[str, Any] | None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {
            "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason,
        }  # fmt: skip
        return {**self._head("text_completion"), "choices": [choice]}

    def _logprobs(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """Log-probabilities if the client asked for them; a policy may have asked for more."""
        if not self.ask.wants_logprobs or not logprobs:
            return None
        wanted = self.ask.request.sampling.top_logprobs or 0
        kept = [replace(entry, top=entry.top[:wanted]) for entry in logprobs]
        if self.ask.chat:
            return {"content": [logprob_json(entry) for entry in kept]}
        written = [logprob_json(entry) for entry in kept]
        return {
            "tokens": [entry["token"] for entry in written],
            "token_logprobs": [entry["logprob"] for entry in written],
            "top_logprobs": [
                {top["token"]: top["logprob"] for top in entry["top_logprobs"]} for entry in written
            ],
        }


_NO_EXTRAS = Extras()


def _as_it_came(message: dict[str, Any], extras: Extras) -> dict[str, Any]:
    """A message, or a delta, with what the server said besides."""
    if extras.message_json == "{}":
        return message
    more: dict[str, Any] = orjson.loads(extras.message_json)
    if isinstance(more.get("content"), list):
        # The thoughts are among its parts already.
        message = {n: each for n, each in message.items() if n not in _THOUGHTS}
    return {**message, **more}


def _with(chunk: dict[str, Any], extras: Extras | None) -> dict[str, Any]:
    """A stream's object with what the server said besides."""
    if extras is None:
        return chunk
    (choice,) = chunk["choices"]
    if "delta" in choice:
        choice = {**choice, "delta": _as_it_came(choice["delta"], extras)}
    more = orjson.loads(extras.choice_json)
    more.pop("finish_reason", None)  # the last object of the choice has it
    return {**chunk, **orjson.loads(extras.response_json), "choices": [{**choice, **more}]}


def _finish_reason(completion: Completion) -> str:
    """The server's own word for it, where it has one."""
    own = orjson.loads((completion.extras or _NO_EXTRAS).choice_json).get("finish_reason")
    return own if isinstance(own, str) else completion.finish_reason


_THOUGHTS = ("reasoning", "reasoning_content")


def _thoughts(text: str) -> dict[str, str]:
    """Reasoning under both names that clients look for."""
    return {"reasoning": text, "reasoning_content": text} if text else {}
