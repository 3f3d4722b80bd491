"""What a chat completion says, whole or chunk by chunk, in the few kinds that protocols know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from suffice.backends.tool_calls import CallFragments, calls_of
from suffice.core.completions import Usage
from suffice.core.requests import ToolCall
from suffice.gateway.answer_facts import usage_in

Json = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class ChatAnswer:
    """One choice of a chat completion; of several, the first is meant."""

    model: str = ""
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    stop_sequence: str | None = None  # vLLM says which one it was
    usage: Usage | None = None
    logprobs: list[Any] = field(default_factory=list)
    receipt: Any = None  # `suffice`, where a policy answered


def answer_of(whole: Mapping[str, Any]) -> ChatAnswer:
    """A whole chat completion. Raises TypeError if it is none."""
    choices = whole.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise TypeError("no choice")
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise TypeError("no message")
    found = ChatAnswer(
        model=_text(whole.get("model")),
        text=text_of(message.get("content")),
        reasoning=reasoning_of(message),
        refusal=_text(message.get("refusal")),
        calls=calls_of(message.get("tool_calls")),
        usage=usage_in(whole),
        receipt=whole.get("suffice"),
    )
    _end(found, choice)
    found.logprobs = _logprobs(choice)
    return found


class ChatChunks:
    """Chunks of a stream put together; `read` says what a chunk added."""

    def __init__(self) -> None:
        self.whole = ChatAnswer()
        self._fragments = CallFragments()

    def read(self, chunk: Mapping[str, Any]) -> ChatAnswer:
        """What came with a chunk: pieces of text, and the calls as far as they are known.

        Raises TypeError on what is no chunk.
        """
        whole = self.whole
        whole.model = whole.model or _text(chunk.get("model"))
        whole.usage = usage_in(chunk) or whole.usage
        whole.receipt = chunk.get("suffice", whole.receipt)
        found = ChatAnswer(calls=whole.calls)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {}
            found.text, found.reasoning = text_of(delta.get("content")), reasoning_of(delta)
            found.refusal, found.logprobs = _text(delta.get("refusal")), _logprobs(choice)
            for fragment in delta.get("tool_calls") or ():
                self._fragments.add(fragment)
                found.calls = whole.calls = self._fragments.whole()
            _end(whole, choice)
        whole.text += found.text
        whole.reasoning += found.reasoning
        whole.refusal += found.refusal
        whole.logprobs += found.logprobs
        return found


def text_of(content: object) -> str:
    """Text of a message's content, which may be a list of parts."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        parts = [part for part in content if isinstance(part, Mapping)]
        return "".join(_text(part.get("text")) for part in parts if part.get("type") == "text")
    return _text(content)


def reasoning_of(message: Mapping[str, Any]) -> str:
    """What a message or a delta of one says of its thinking, under either name."""
    return _text(message.get("reasoning")) or _text(message.get("reasoning_content"))


def _end(answer: ChatAnswer, choice: Mapping[str, Any]) -> None:
    reason = choice.get("finish_reason")
    if isinstance(reason, str):
        answer.finish_reason = reason
        stop = choice.get("stop_reason")
        answer.stop_sequence = stop if isinstance(stop, str) else None


def _logprobs(choice: Mapping[str, Any]) -> list[Any]:
    told = choice.get("logprobs")
    content = told.get("content") if isinstance(told, Mapping) else None
    return list(content) if isinstance(content, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
