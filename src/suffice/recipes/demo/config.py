"""What the demonstration asks, and of which arms."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from suffice.backends.nano.backend import NAME
from suffice.core.errors import InputError
from suffice.core.requests import Sampling
from suffice.training.modes.tasks import Mixture, Problem

DATASET = "suffice-nano puzzles"
SHORT_MODEL, THINK_MODEL = f"{NAME}-short", f"{NAME}-think"
CALIBRATED = "calibrated"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """`problems` in all, half of them easy; half of either kind calibrate, the rest are asked.

    Easy are one and two steps: the tables that the model was taught, which it answers at once. The
    others were held out of its training.
    """

    problems: int = 720
    votes: int = 5
    max_drop: float = 0.02
    confidence: float = 0.95
    temperature: float = 1.0
    max_tokens: int = 48
    seed: int = 0
    concurrency: int = 4

    def __post_init__(self) -> None:
        if self.problems < 24 or self.votes < 3:
            raise InputError("a demonstration needs 24 problems and 3 votes, or more")

    @property
    def sampling(self) -> Sampling:
        """How every sample of every arm is drawn."""
        return Sampling(
            temperature=self.temperature, max_tokens=self.max_tokens, top_logprobs=0, seed=self.seed
        )

    @property
    def arms(self) -> tuple[DemoArm, ...]:
        """What is compared, the uniform strategy first."""
        vote = {"policy": f"self_consistency:samples={self.votes}"}
        return (
            DemoArm(name=f"self-consistency@{self.votes}", model=NAME, wishes=vote),
            DemoArm(name="always-think", model=THINK_MODEL, replay=f"single@{THINK_MODEL}"),
            DemoArm(name="always-short", model=SHORT_MODEL, replay=f"single@{SHORT_MODEL}"),
            DemoArm(name="learned router", model=NAME, replay=f"single@{NAME}"),
            DemoArm(name="calibrated policy", model=f"suffice/{CALIBRATED}", replay=CALIBRATED),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoArm:
    """One way to answer: a model's name for the gateway, wishes; `replay` is its policy there."""

    name: str
    model: str
    wishes: Mapping[str, Any] | None = None
    replay: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Halves:
    """Held-out problems: those that calibrate, and those that are asked."""

    calibrate: tuple[Problem, ...]
    test: tuple[Problem, ...]


def halves(config: DemoConfig) -> Halves:
    """Every second problem of each number of steps calibrates."""
    half = config.problems // 2
    single = min(len(_cell(1, half, config)), half // 4)
    counts = {1: single, 2: half - single} | dict.fromkeys((3, 4, 5, 6), half // 4)
    cells = [_cell(steps, count, config) for steps, count in counts.items()]
    # In no order, as traffic comes: the certificate's watch would call a block of easy ones drift.
    generator = random.Random(config.seed)
    calibrate = [problem for cell in cells for problem in cell[::2]]
    test = [problem for cell in cells for problem in cell[1::2]]
    return Halves(
        calibrate=tuple(generator.sample(calibrate, len(calibrate))),
        test=tuple(generator.sample(test, len(test))),
    )


def _cell(steps: int, count: int, config: DemoConfig) -> list[Problem]:
    mixture = Mixture(tasks=("chain",), difficulties=(steps,))
    return mixture.distinct(count, seed=config.seed, split="held_out")["chain", steps]
