"""What a fake engine is told to say, can do, and saw."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from suffice.backends.think_block import BudgetField

Json = dict[str, Any]

_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens")

Misdeed = Literal["cut", "malformed", "hang", "no_finish", "error_event", "not_a_stream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the engine does with one request.

    `status` other than 200 is answered at once with `error`. `misdeed` happens after
    `misdeed_after` tokens. Tokens are also the log-probabilities' tokens, at `logprob` each.
    """

    tokens: tuple[str, ...] = ("4",)
    reasoning: tuple[str, ...] = ()
    tool_call: tuple[str, str] | None = None  # name and JSON arguments, sent in three fragments
    delay_s: float = 0.0
    held: threading.Event | None = None  # nothing is said before it is set
    end_delay_s: float = 0.0  # between a stream's [DONE] and the end of its body
    finish_reason: str = "stop"
    status: int = 200
    error: str = "no"
    misdeed: Misdeed | None = None
    misdeed_after: int = 0
    logprob: float = -0.5
    usage: Any = None  # told instead of the true one

    def within(self, limit: int | None) -> Reply:
        """The reply cut off after so many tokens, if it is longer."""
        if limit is None or len(self.reasoning) + len(self.tokens) <= limit:
            return self
        said = max(0, limit - len(self.reasoning))
        return replace(
            self,
            reasoning=self.reasoning[:limit],
            tokens=self.tokens[:said],
            finish_reason="length",
        )

    @classmethod
    def saying(cls, text: str, **how: Any) -> Reply:
        """A reply of one token per word."""
        words = text.split(" ")
        return cls(tokens=tuple(w if i == 0 else f" {w}" for i, w in enumerate(words)), **how)


@dataclass(frozen=True, slots=True, kw_only=True)
class Talents:
    """What this engine supports, so that probing has something to find."""

    models: tuple[str, ...] = ("fake",)
    logprobs: bool = True
    prefill: Literal["continue_final_message", "native"] | None = "continue_final_message"
    thinking_switch: bool = False
    thinks: int = 0  # tokens of thinking before every answer to a question that is not streamed
    thinking_budget: BudgetField | None = None  # bounds them
    efforts: bool = False  # reads `reasoning_effort`, and refuses what is none
    known_fields: tuple[str, ...] = ("priority",)
    version: bool = True  # answers /version, as vLLM does
    context_tokens: int = 4096
    no_chat: tuple[str, ...] = ()  # models that answer no chat completions
    metrics: str | None = None  # the page at /metrics, if it has one
    caches_prompts: bool = False  # and tells which prompt tokens it found in its cache
    # When a stream tells its usage: in every event, at its end, or only to who asks for it.
    tells_usage: Literal["always", "at_end", "if_asked"] = "always"


@dataclass(slots=True)
class EngineSeen:
    """What the engine has been through."""

    bodies: list[Json] = field(default_factory=list)  # streamed and plain requests, no probes
    headers: list[dict[str, str]] = field(default_factory=list)
    probes: list[Json] = field(default_factory=list)  # one-token questions of a gateway
    gets: list[str] = field(default_factory=list)  # paths
    others: list[OtherRequest] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)  # of completions, as they were written
    connections: int = 0
    running: int = 0
    most_running: int = 0  # at a time
    finished: int = 0
    aborted: int = 0  # the client left before the end
    tokens: int = 0
    served: list[ServedReply] = field(default_factory=list)  # requests that it worked for

    def took(self, model: str | None = None) -> ServedReply:
        """Everything that was taken of `model`, or of all models."""
        of = [each for each in self.served if model in (None, each.model)]
        return ServedReply(
            model or "", *(sum(getattr(each, name) for each in of) for name in _COUNTS)
        )


@dataclass(slots=True)
class ServedReply:
    """What one request took, by the engine's own count."""

    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


Script = Callable[[int, Json], Reply]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRequest:
    """A request to another path than those of completions."""

    path: str  # with its query
    headers: dict[str, str]
    body: bytes
