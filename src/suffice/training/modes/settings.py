"""What training runs are asked: frozen objects, also read from TOML tables of the same names."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from suffice.core.errors import ConfigError
from suffice.training.modes.rewards import ModePrice, Norm, Reward, TokenCost

Method = Literal["grpo", "degrpo", "adaptthink", "gate"]
ChoiceTarget = Literal["constant", "short_fails"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Paired distillation: every problem is shown in both modes.

    `initial_p_think` is the probability of thinking that the control token is taught, and
    `control_weight` the weight of that token's loss: an own weight, since averaging each sequence
    over its tokens would make the prior n_short / (n_short + n_think). With `choice_target`
    "short_fails" the token is taught 1 - π(short answer | x) instead, for each problem what the
    model itself gives its short answer at that step: the choice is learned beside the answers.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    steps: int = 2500
    pairs: int = 96
    learning_rate: float = 2e-3
    initial_p_think: float = 0.5
    control_weight: float = 0.1
    choice_target: ChoiceTarget = "constant"
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        _numbers(self)
        _positive(self, "steps", "pairs", "learning_rate", "checkpoint_every")
        if not 0 < self.initial_p_think < 1:
            raise ConfigError(
                f"initial_p_think must lie strictly between 0 and 1, got {self.initial_p_think}: "
                "a mode that is never drawn is never learned"
            )
        if self.choice_target not in ("constant", "short_fails"):
            raise ConfigError(
                f"choice_target must be constant or short_fails, got {self.choice_target!r}"
            )
        if self.control_weight < 0:
            raise ConfigError(f"control_weight must be 0 or more, got {self.control_weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """How the choice between the modes is trained.

    Rewards are the published ones at a price of thinking `gamma`; `token_price` replaces them by
    what tokens cost, as a share of what a right answer is worth.
    `alpha` and `norm` belong to degrpo; `entropy` is a bonus on the entropy of the control token;
    `delta` is adaptthink's preference for short answers, against `reference_samples` of the model
    before training; `kl` holds grpo and degrpo to that model. Their learning rate rises over
    `rate_warm_up` steps and falls linearly to `rate_end` of itself at the last. `gate_width` and
    `fold_steps` belong to the gate: an MLP on the frozen body, then folded into the body's own
    weights.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    method: Method = "degrpo"
    steps: int = 400
    problems: int = 32
    group: int = 8
    learning_rate: float = 1e-4
    temperature: float = 1.0
    max_tokens: int = 48
    epsilon: float = 0.2
    minibatches: int = 1
    gradient_clip: float = 1.0
    rate_warm_up: int = 0
    rate_end: float = 1.0
    gamma: float = 0.5
    token_price: float | None = None
    alpha: float = 0.1
    norm: Norm = "paper"
    entropy: float = 0.0
    kl: float = 0.0
    delta: float = 0.05
    reference_samples: int = 8
    gate_width: int = 64
    gate_learning_rate: float = 3e-3
    fold_steps: int = 150
    fold_learning_rate: float = 1e-3
    probe_every: int = 20
    checkpoint_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        _numbers(self)
        if self.method not in METHODS:
            raise ConfigError(f"method {self.method!r} must be one of {', '.join(METHODS)}")
        if self.norm not in ("paper", "released"):
            raise ConfigError(f"norm {self.norm!r} must be paper or released")
        _positive(
            self, "steps", "problems", "learning_rate", "temperature", "max_tokens", "epsilon",
            "minibatches", "gradient_clip", "reference_samples", "gate_width",
            "gate_learning_rate", "fold_learning_rate", "probe_every", "checkpoint_every",
        )  # fmt: skip
        if not self.epsilon < 1:
            raise ConfigError(
                f"epsilon must lie between 0 and 1, got {self.epsilon}: ratios are clipped to 1 - "
                "epsilon and 1 + epsilon"
            )
        if not 0 <= self.rate_end <= 1:
            raise ConfigError(f"rate_end must lie between 0 and 1, got {self.rate_end}")
        for name in ("alpha", "entropy", "kl", "delta", "fold_steps", "rate_warm_up", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or more, got {getattr(self, name)}")
        _ = self.reward  # its own checks
        if self.group < 2:
            raise ConfigError(f"group must be 2 or more, got {self.group}: one answer says nothing")
        if self.halves and self.group % 2:
            raise ConfigError(
                f"group must be even for {self.method}, got {self.group}: half is forced short"
            )
        if self.problems * self.group % self.minibatches:
            raise ConfigError(
                f"minibatches ({self.minibatches}) must divide problems x group "
                f"({self.problems * self.group})"
            )

    @property
    def reward(self) -> Reward:
        """What a response is worth under these settings."""
        if self.token_price is not None:
            return TokenCost(cost_per_token=self.token_price, answer_value=1.0)
        return ModePrice(gamma=self.gamma)

    def rate_at(self, step: int) -> float:
        """Learning rate of grpo, degrpo and adaptthink at `step`, counted from 0."""
        if step < self.rate_warm_up:
            return self.learning_rate * (step + 1) / self.rate_warm_up
        done = (step - self.rate_warm_up) / max(1, self.steps - 1 - self.rate_warm_up)
        return self.learning_rate * (1 - done * (1 - self.rate_end))

    @property
    def halves(self) -> bool:
        """Whether half of each group is forced into either mode."""
        return self.method in ("adaptthink", "gate")


def _numbers(config: Any) -> None:
    """Raise ConfigError unless each number is finite, and whole where it counts something."""
    for entry in fields(config):
        value = getattr(config, entry.name)
        if entry.type == "int" and (isinstance(value, bool) or not isinstance(value, int)):
            raise ConfigError(f"{entry.name} must be a whole number, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{entry.name} must be a finite number, got {value}")


def _positive(config: Any, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ConfigError(f"{name} must be positive, got {getattr(config, name)}")
