"""How much a model may think before it answers: one vocabulary for every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from suffice.core.errors import InputError

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)

# Thinking tokens an effort stands for. Doubling steps from 1024 follow what gateways that map the
# two already use (1024, 2000, 4000, 16000, 32000 from low to max), rounded to powers of two.
EFFORT_TOKENS: tuple[tuple[Effort, int], ...] = (
    ("none", 0),
    ("minimal", 512),
    ("low", 1024),
    ("medium", 4096),
    ("high", 16384),
    ("xhigh", 32768),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """What to ask of the think block; the engine decides on everything left at None.

    `enabled=False` answers at once; `budget_tokens` bounds the think block.
    """

    enabled: bool = True
    budget_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.budget_tokens is not None and self.budget_tokens < 0:
            raise InputError(f"thinking budget {self.budget_tokens} is negative: write 0 or more")

    @property
    def effort(self) -> Effort:
        """The named effort whose token budget covers this one."""
        if not self.enabled:
            return "none"
        if self.budget_tokens is None:
            return "medium"
        return effort_of(self.budget_tokens)

    @classmethod
    def of_effort(cls, effort: str) -> Thinking:
        """The think block that a named effort asks for."""
        tokens = effort_tokens(effort)
        return cls(enabled=tokens > 0, budget_tokens=tokens)


def effort_tokens(effort: str) -> int:
    """Thinking tokens that a named effort allows."""
    for name, tokens in EFFORT_TOKENS:
        if name == effort:
            return tokens
    raise InputError(f"effort {effort!r} is not known: write one of {', '.join(EFFORTS)}")


def effort_of(budget_tokens: int) -> Effort:
    """Least named effort that allows `budget_tokens` thinking tokens (the largest if none does)."""
    for name, tokens in EFFORT_TOKENS:
        if budget_tokens <= tokens:
            return name
    return EFFORT_TOKENS[-1][0]
