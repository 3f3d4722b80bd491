"""Each arm's answers to each problem, live through the gateway, as columns and intervals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from suffice.core.errors import UpstreamRejected
from suffice.evals.statistics.binomial import Interval, clopper_pearson
from suffice.evals.statistics.bootstrap import percentile_interval, question_weights
from suffice.recipes.demo.config import DemoArm, DemoConfig
from suffice.recipes.modes.items import ANSWER_FORMAT
from suffice.training.modes.tasks import Problem

FloatArray = NDArray[np.float64]
_DRAWS = 2000


class Gateway(Protocol):
    """A running gateway, as far as the demonstration needs it."""

    async def post(self, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        """Status and JSON of an answer."""
        ...


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Answers:
    """One arm: whether each problem was answered right, and what that took."""

    arm: str
    right: FloatArray
    tokens: FloatArray  # completion tokens, all samples together
    samples: FloatArray
    elapsed_s: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ArmResult:
    """What the table says of an arm; savings are of the uniform vote's and of thinking's tokens."""

    arm: str
    accuracy: Interval
    tokens: Interval
    samples: float
    saved: Interval
    saved_of_thinking: Interval
    lost: Interval  # accuracy of always-think minus the arm's, problem by problem
    requests_per_s: float
    replayed: tuple[float, float] | None = None  # accuracy and tokens on recorded samples


async def ask(
    gateway: Gateway, problem: Problem, arm: DemoArm, config: DemoConfig, seed: int
) -> dict[str, Any]:
    """The gateway's answer to one problem, receipt included."""
    status, answer = await gateway.post(
        "/v1/chat/completions",
        {
            "model": arm.model,
            "messages": [{"role": "user", "content": problem.prompt}],
            "temperature": config.temperature,
            "max_completion_tokens": config.max_tokens,
            "seed": seed,
            "suffice": {"answer_format": ANSWER_FORMAT, **(arm.wishes or {})},
        },
    )
    if status != 200:
        raise UpstreamRejected(f"the gateway answered {status}: {answer}", status=status)
    return answer


async def answers_of(
    gateway: Gateway,
    problems: Sequence[Problem],
    arm: DemoArm,
    config: DemoConfig,
    *,
    tell: Callable[[int], None] = lambda _: None,
) -> Answers:
    """Every problem once under the arm, a few at a time."""
    right, tokens, samples = np.zeros((3, len(problems)))
    began_s = time.perf_counter()
    numbers = iter(range(len(problems)))

    async def work() -> None:
        for number in numbers:  # one iterator for all: each problem is taken once
            seed = 1_000_003 * (config.seed + 1) + 1000 * number
            answer = await ask(gateway, problems[number], arm, config, seed)
            text = answer["choices"][0]["message"]["content"] or ""
            right[number] = text == problems[number].answer
            tokens[number] = answer["usage"]["completion_tokens"]
            samples[number] = answer["suffice"]["samples_run"]
            tell(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(config.concurrency):
            group.create_task(work())
    return Answers(
        arm=arm.name, right=right, tokens=tokens, samples=samples,
        elapsed_s=time.perf_counter() - began_s,
    )  # fmt: skip


def results_of(
    found: Sequence[Answers], *, uniform: str, thinking: str, seed: int = 0
) -> list[ArmResult]:
    """Means with 95 % intervals over resampled problems, exact for the share right; differences are
    paired by problem.
    """  # fmt: skip
    by_name = {answers.arm: answers for answers in found}
    vote, think = by_name[uniform], by_name[thinking]
    n = len(vote.right)
    weights = question_weights(n, _DRAWS, seed)

    def mean(values: FloatArray) -> Interval:
        return percentile_interval(float(values.mean()), weights @ values / n, 0.95)

    def saving(of: FloatArray, against: FloatArray) -> Interval:
        resampled = 1.0 - (weights @ of) / (weights @ against)
        return percentile_interval(float(1.0 - of.sum() / against.sum()), resampled, 0.95)

    return [
        ArmResult(
            arm=each.arm,
            accuracy=clopper_pearson(int(each.right.sum()), n, 0.95),
            tokens=mean(each.tokens),
            samples=float(each.samples.mean()),
            saved=saving(each.tokens, vote.tokens),
            saved_of_thinking=saving(each.tokens, think.tokens),
            lost=mean(think.right - each.right),
            requests_per_s=n / each.elapsed_s,
        )
        for each in found
    ]
