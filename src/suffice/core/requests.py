"""What is asked of a model: messages, tools, sampling. OpenAI field names, no wire format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from suffice.core.thinking import Thinking

Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """A piece of text inside a message."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePart:
    """An image, by https or data URL."""

    url: str
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaquePart:
    """Any other content part, kept as the JSON it arrived as and passed on untouched."""

    json: str


Part = TextPart | ImagePart | OpaquePart


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that a model asked for; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call; `parameters_json` is its JSON Schema as text."""

    name: str
    description: str | None = None
    parameters_json: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. `content` is None only for an assistant turn that merely calls tools."""

    role: Role
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None  # set on role "tool": the call that this answers
    extra_json: str = "{}"  # fields of the turn that suffice does not model, passed on

    @property
    def text(self) -> str:
        """The turn's text, parts that are not text left out."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn; None leaves the engine's default."""

    max_tokens: int | None = None  # completion tokens, thinking included
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None  # sample i is drawn with seed + i, so that samples differ
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_logprobs: int | None = None  # None: no logprobs; 0: the drawn token's only


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a model, as every plane sees it.

    `answer_format` names the extractor whose answers may be compared (boxed, number, choice, json,
    tool, regex:PATTERN). None means free-form text, which policies never vote on.
    """

    messages: tuple[Message, ...]
    model: str
    sampling: Sampling = field(default_factory=Sampling)
    thinking: Thinking | None = None  # None: the engine's default
    tools: tuple[Tool, ...] = ()
    tool_choice_json: str | None = None
    response_format_json: str | None = None
    answer_format: str | None = None
    priority: int | None = None
    extra_json: str = "{}"  # request fields that suffice does not model, passed on
    completion_only: bool = False  # True: `/v1/completions`, the prompt is messages[0]'s text
