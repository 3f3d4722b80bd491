"""How much a model may think before it answers: one vocabulary for every engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from suffice.core.errors import InputError

# The end of the think block, as Qwen3, DeepSeek-R1 and suffice-nano write it.
THINK_END = "</think>"

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

# Nats that an effort adds to the log odds of thinking, where a model chooses by its first token
# whether it thinks: efforts move along the accuracy/cost curve of a trained choice, "medium" leaves
# it as it was trained. Four nats turn even odds into 98 to 2.
EFFORT_BIAS_NATS: Mapping[Effort, float] = {
    "none": -math.inf, "minimal": -8.0, "low": -4.0, "medium": 0.0, "high": 4.0, "xhigh": 8.0,
}  # fmt: skip


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeTokens:
    """Ids of the two tokens by which a model says first whether it will think."""

    think: int
    short: int

    def __post_init__(self) -> None:
        if self.think < 0 or self.short < 0 or self.think == self.short:
            raise InputError(
                "mode tokens are two different token ids from 0 up, got think "
                f"{self.think} and short {self.short}"
            )

    def biases(self, nats: float) -> dict[int, float]:
        """Logit biases that add `nats` to the log odds of thinking.

        The mode that is wanted less is pushed down and the other left alone: servers apply a bias
        at every token, and one that is raised could come up again in the middle of an answer.
        """
        if nats == 0.0:
            return {}
        return {self.think if nats < 0 else self.short: -abs(nats)}


def mode_bias(thinking: Thinking | None) -> float | None:
    """Nats that a request adds to the log odds of thinking; None where it leaves or forces it.

    A named effort is a bias. No thinking at all, and thinking without a budget, force the mode.
    """
    if thinking is None or not thinking.enabled or thinking.budget_tokens is None:
        return None
    return EFFORT_BIAS_NATS[thinking.effort]
