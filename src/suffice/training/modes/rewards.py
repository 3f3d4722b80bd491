"""What a response is worth: the published three values, or the user's own costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from suffice.core.errors import InputError

# How DeGRPO averages over tokens: as its paper says, or as its code does.
Norm = Literal["paper", "released"]


class Reward(Protocol):
    """Reward of one response."""

    def __call__(self, *, right: bool, think: bool, tokens: int) -> float:
        """`tokens` counts the response with its control token and end."""
        ...

    def worth_thinking(
        self, p_short: float, p_think: float, tokens_short: float, tokens_think: float
    ) -> bool:
        """Whether thinking has the larger expected reward at these success rates and lengths."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModePrice:
    """Short and right 1, think and right 1 - γ, wrong -1 (arXiv:2505.13379)."""

    gamma: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < 2:
            raise InputError(
                f"γ must lie in [0, 2), got {self.gamma}: at 2 a right answer that was thought "
                "about is worth no more than a wrong one"
            )

    def __call__(self, *, right: bool, think: bool, tokens: int) -> float:
        """See the class."""
        del tokens
        return (1.0 - self.gamma * think) if right else -1.0

    def worth_thinking(
        self, p_short: float, p_think: float, tokens_short: float, tokens_think: float
    ) -> bool:
        """p_t (1 - γ/2) > p_s."""
        del tokens_short, tokens_think
        return p_think * (1 - self.gamma / 2) > p_short


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCost:
    """Right 1, wrong -1, minus what the tokens cost; a wrong answer costs its tokens too.

    `cost_per_token` and `answer_value` are in one unit (USD, seconds, FLOPs); `answer_value` is
    what a right answer is worth over a wrong one.
    """

    cost_per_token: float
    answer_value: float

    def __post_init__(self) -> None:
        if not (self.cost_per_token >= 0 and self.answer_value > 0):
            raise InputError(
                "a token must cost 0 or more and a right answer be worth more than 0, got "
                f"{self.cost_per_token} and {self.answer_value}"
            )

    def __call__(self, *, right: bool, think: bool, tokens: int) -> float:
        """See the class."""
        del think
        # Right and wrong lie 2 apart, hence the factor.
        return (1.0 if right else -1.0) - 2 * tokens * self.cost_per_token / self.answer_value

    def worth_thinking(
        self, p_short: float, p_think: float, tokens_short: float, tokens_think: float
    ) -> bool:
        """(p_t - p_s) · value > (tokens_t - tokens_s) · cost."""
        dearer = (tokens_think - tokens_short) * self.cost_per_token
        return (p_think - p_short) * self.answer_value > dearer


def gamma_of_costs(short_cost: float, think_cost: float, answer_value: float) -> float:
    """γ at which a perfect think mode breaks even where the costs do.

    With p_t = 1, thinking pays iff 1 - p_s > γ/2 by the published reward, and iff
    (1 - p_s) · value > cost_t - cost_s by the costs.
    """
    if not 0 <= short_cost <= think_cost:
        raise InputError(f"thinking must cost at least as much: got {short_cost} and {think_cost}")
    gamma = 2 * (think_cost - short_cost) / answer_value
    if gamma >= 2:
        raise InputError(
            f"at these costs a right answer ({answer_value:g}) is worth less than thinking adds "
            f"({think_cost - short_cost:g}): the short mode is always best, nothing to train"
        )
    return gamma
