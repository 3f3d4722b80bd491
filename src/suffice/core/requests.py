"""What is asked of a model: messages, tools, sampling. OpenAI field names, no wire format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from suffice.core.thinking import Thinking

# The roles that templates know; a server may know others, and they are passed on.
Role = Literal["system", "developer", "user", "assistant", "tool"] | str


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
    json: str | None = None  # the call as it came, where it holds more than these


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolHints:
    """What a tool's owner says of its effects (MCP tool annotations); None: nothing is said."""

    read_only: bool | None = None  # changes nothing
    destructive: bool | None = None  # may delete or overwrite
    idempotent: bool | None = None  # a second call with the same arguments changes nothing more
    open_world: bool | None = None  # reaches outside: another party sees its arguments

    @property
    def is_repeatable(self) -> bool:
        """Whether calls may run beside others and be tried again: only where that is said."""
        return self.read_only is True or self.idempotent is True

    @property
    def is_private(self) -> bool:
        """Whether a call may be made before it is known to be needed: nobody outside sees it."""
        return self.is_repeatable and self.open_world is False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolMeasured:
    """What the last calls of a tool took, medians over `calls` of them."""

    calls: int
    seconds: float
    result_chars: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call; `parameters_json` is its JSON Schema as text.

    A tool of another type has no name here, only its `json`. `hints` is set where calls are run
    here, by the executor; those of other tools go back to the client.
    """

    name: str
    description: str | None = None
    parameters_json: str | None = None
    strict: bool | None = None
    json: str | None = None  # the tool as it came, where it holds more than these
    hints: ToolHints | None = None
    measured: ToolMeasured | None = None  # of a tool that was run here before


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. `content` is None for an assistant turn that merely calls tools.

    `json` is the turn as it came, where it holds more than is modelled here: it is what is sent on,
    and the other fields are what can be read in it.
    """

    role: Role
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None  # set on role "tool": the call that this answers
    json: str | None = None

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

    @property
    def is_greedy(self) -> bool:
        """Whether every sample would be the same: the likeliest token is drawn each time."""
        return self.temperature == 0.0 or self.top_k == 1 or self.top_p == 0.0


class Memo:
    """Room for what is made of frozen data once and used often; no part of the data itself."""

    __slots__ = ("encoded",)

    def remember(self, encoded: Any) -> None:
        """Keep the wire form, which the samples of a request share."""
        object.__setattr__(self, "encoded", encoded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Memo):
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

    @property
    def asked(self) -> str:
        """Text of the last user turn; of the last turn of any kind if there is none."""
        for turn in reversed(self.messages):
            if turn.role == "user":
                return turn.text
        return self.messages[-1].text if self.messages else ""
