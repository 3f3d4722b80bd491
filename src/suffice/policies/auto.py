"""Pick the arm with the best expected quality - lambda * cost; lambda follows a spend target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from suffice.core.decisions import (
    Actions,
    Answer,
    AnyPolicy,
    Escalate,
)
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.policies.agreement import AdaptiveConsistency
from suffice.policies.fixed import Single
from suffice.policies.sampling_state import option
from suffice.policies.wrapper import Choice, Chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedPolicy:
    """A policy with what it is expected to give (P(correct)) and to take (samples' worth)."""

    policy: AnyPolicy
    quality: float
    cost: float  # in completions of a single sample of the same model

    def __post_init__(self) -> None:
        if not 0.0 <= self.quality <= 1.0 or not self.cost > 0.0:
            raise InputError(
                f"an option needs a quality in [0, 1] and a positive cost, got {self.quality} and "
                f"{self.cost}"
            )


# Until a table of one's own is measured: means over MATH500, GSM8K, AMC23, AIME24 and AIME25 of
# the published curves for R1-Distill-Qwen-7B (2506.22376), accuracy and tokens against one sample.
# For another model and task these are a starting point, no more.
PUBLISHED_ARMS: tuple[RatedPolicy, ...] = (
    RatedPolicy(policy=Single(), quality=0.698, cost=1.0),
    RatedPolicy(policy=AdaptiveConsistency(max_samples=4), quality=0.729, cost=4.06),
    RatedPolicy(policy=AdaptiveConsistency(max_samples=8), quality=0.737, cost=6.21),
    RatedPolicy(policy=AdaptiveConsistency(max_samples=40), quality=0.742, cost=13.2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Auto(Choice):
    """The arm with the best expected quality minus `price` times cost.

    `predict` gives P(correct) of every arm for one request, instead of the table's means.
    """

    arms: tuple[RatedPolicy, ...] = PUBLISHED_ARMS
    price: float = option(0.005, "lambda: quality that one more sample's tokens must buy")
    predict: Callable[[Request], tuple[float, ...]] | None = None

    name: ClassVar[str] = "auto"
    paper: ClassVar[str] = "2604.14853"

    def __post_init__(self) -> None:
        if not self.arms:
            raise InputError("auto needs at least one option")
        if not (self.price >= 0.0 and math.isfinite(self.price)):
            raise InputError(f"price must be 0 or more, got {self.price}")

    @property
    def parts(self) -> tuple[AnyPolicy, ...]:
        """The arms' policies."""
        return tuple(arm.policy for arm in self.arms)

    def pick(self, request: Request) -> int:
        """Arm for `request`; the cheapest among equals. Free-form text gets the cheapest arm."""
        costs = [arm.cost for arm in self.arms]
        if request.answer_format is None:
            return costs.index(min(costs))
        quality = self.predict(request) if self.predict else [arm.quality for arm in self.arms]
        return max(range(len(costs)), key=lambda a: (quality[a] - self.price * costs[a], -costs[a]))

    def choose(self, request: Request) -> tuple[int, str]:
        """The arm that runs, and a sentence about it."""
        arm = self.pick(request)
        return arm, f"auto chose {self.arms[arm].policy.name} at spending level {self.price:.3g}"

    def told(self, state: Chosen, actions: Actions) -> Actions:
        """The arm's actions; verdicts say who gave them."""
        return tuple(
            replace(action, why=f"{state.note}: {action.why}")
            if isinstance(action, Answer | Escalate)
            else action
            for action in actions
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendControl:
    """Lambda as the price that keeps mean spend at a target, dearer while requests queue.

    Dual ascent on the spend constraint: the price rises with every request above the target and
    falls with every one below. The queue multiplies it, so that a burst is served cheaply at once
    and the target is not forgotten.
    """

    target: float  # mean cost per request, in the arms' unit
    price: float = 0.005
    rate: float = 0.0005  # price change per request at twice the target
    queue_target: float | None = None  # requests waiting at which the price doubles

    def __post_init__(self) -> None:
        if not self.target > 0.0 or not self.rate > 0.0 or not self.price >= 0.0:
            raise InputError("spend target and rate must be positive, price 0 or more")
        if self.queue_target is not None and not self.queue_target > 0.0:
            raise InputError(f"queue_target must be positive, got {self.queue_target}")

    def after(self, spent: float) -> SpendControl:
        """The control after a request that cost `spent`."""
        moved = self.price + self.rate * (spent - self.target) / self.target
        return replace(self, price=max(0.0, moved))

    def price_at(self, waiting: float = 0.0) -> float:
        """Lambda with `waiting` requests in the queue."""
        crowd = 0.0 if self.queue_target is None else waiting / self.queue_target
        return self.price * (1.0 + crowd)
