"""What to record and in which mode, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from suffice.core.errors import (
    InputError,
)
from suffice.core.requests import Sampling
from suffice.core.thinking import Thinking


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How a model is asked beyond the question's own messages.

    `name` marks its traces; `suffix` is appended to the last user turn.
    """

    name: str = "answer"
    thinking: Thinking | None = None
    suffix: str = ""

    @property
    def description(self) -> str:
        """What the mode adds, for the file's description."""
        parts = []
        if self.thinking is not None:
            budget = self.thinking.budget_tokens
            asked = "off" if not self.thinking.enabled else "on" if budget is None else f"{budget}"
            parts.append(f"thinking {asked}")
        if self.suffix:
            parts.append(f"suffix {self.suffix!r}")
        return ", ".join(parts) or "the messages as they are"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordConfig:
    """What to draw and how hard to press the server. `rate_per_s` None: as fast as it goes."""

    samples: int = 32
    model: str | None = None  # None: the server's first
    mode: Mode = field(default_factory=Mode)
    sampling: Sampling = field(default_factory=lambda: Sampling(top_logprobs=20))
    completions: bool = False  # ask /v1/completions with the text of the only turn
    concurrency: int = 16
    rate_per_s: float | None = None  # samples started per second
    retries: int = 3
    description: str = ""
    licence: str = ""
    source: str = ""
    server: str = ""
    trial: bool = True  # ask ten questions first; stop where 0 of the first 20 are right

    def __post_init__(self) -> None:
        for name in ("samples", "concurrency"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.rate_per_s is not None and not self.rate_per_s > 0:
            raise InputError(f"the rate must be positive, got {self.rate_per_s}")


@dataclass(slots=True)
class RecordingProgress:
    """Where a recording stands."""

    total: int  # samples to draw in all, earlier runs included
    known: int  # drawn by earlier runs
    drawn: int = 0
    failed: int = 0
    tokens: int = 0
    correct: int = 0
    judged: int = 0
    last_error: str = ""


class RecordingResult(NamedTuple):
    """What a recording came to. `complete` is False if samples failed: run it again."""

    progress: RecordingProgress
    complete: bool


def mode_of(text: str, suffix: str = "") -> Mode:
    """A mode by name: answer, think, direct (thinking off), think:TOKENS; others need a suffix."""
    if text == "think":
        return Mode(name=text, thinking=Thinking(), suffix=suffix)
    if text == "direct":
        return Mode(name=text, thinking=Thinking(enabled=False), suffix=suffix)
    if text.startswith("think:"):
        tokens = text.removeprefix("think:")
        if not tokens.isdigit():
            raise InputError(f"mode {text!r}: write think:TOKENS, such as think:1024")
        return Mode(name=text, thinking=Thinking(budget_tokens=int(tokens)), suffix=suffix)
    if text != "answer" and not suffix:
        raise InputError(
            f"mode {text!r} would ask exactly as 'answer' does: write answer, think, direct, "
            "think:TOKENS, or give the suffix that it adds (--suffix)"
        )
    return Mode(name=text, suffix=suffix)
