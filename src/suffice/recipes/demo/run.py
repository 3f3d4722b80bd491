"""The demonstration: record, calibrate, ask the gateway, replay; then two receipts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from suffice.backends.protocol import Backend
from suffice.core.completions import count_tokens_only
from suffice.core.decisions import AnyPolicy
from suffice.evals.trace_memory import set_of
from suffice.evals.trace_table import TraceInformation
from suffice.evals.traces import TraceSet
from suffice.policies.policy_file import PolicyFile, certified_policy
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.config import COMPLETIONS_ALONE, CalibrateConfig
from suffice.recipes.calibrate.run import Calibration, calibrate
from suffice.recipes.demo.config import (
    CALIBRATED,
    DATASET,
    SHORT_MODEL,
    THINK_MODEL,
    DemoArm,
    DemoConfig,
    halves,
)
from suffice.recipes.demo.measure import Answers, ArmResult, Gateway, answers_of, ask, results_of
from suffice.recipes.frontier.measure import measure
from suffice.recipes.modes.items import item_of
from suffice.recipes.record.run import RecordConfig, collect
from suffice.recipes.replay.source import Source
from suffice.training.modes.tasks import Problem

Tell = Callable[[str], None]
# Starts a gateway over the recorded backend that knows the policy as suffice/calibrated.
Serve = Callable[[PolicyFile], AbstractContextManager[Gateway]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Live:
    """One problem as the gateway answered it under the calibrated policy."""

    problem: Problem
    answer: str
    reasoning: str
    receipt: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Demo:
    """Everything that table, picture and page show."""

    config: DemoConfig
    problems: tuple[Problem, ...]  # those asked
    calibration: Calibration
    calibration_problems: int
    answers: tuple[Answers, ...]
    results: tuple[ArmResult, ...]
    easy: Live
    hard: Live
    elapsed_s: float


async def run_demo(config: DemoConfig, backend: Backend, serve: Serve, *, tell: Tell) -> Demo:
    """All of it, against `backend` (recorded in this process) and the gateway that serves it."""
    began_s = time.perf_counter()
    split = halves(config)
    tell(f"recording {len(split.calibrate)} problems in every mode")
    calibration = calibrate(
        await _recorded(split.calibrate, backend, config),
        CalibrateConfig(
            max_drop=config.max_drop,
            confidence=config.confidence,
            baseline=f"single@{THINK_MODEL}",
            options=(f"single@{SHORT_MODEL}",),
            seed=config.seed,
            prices=COMPLETIONS_ALONE,
        ),
    )
    tell(f"calibrated: {calibration.file.certificate.statement}")
    found, receipts = [], {}
    with serve(calibration.file) as gateway:
        for arm in config.arms:
            tell(f"asking the gateway {len(split.test)} other problems: {arm.name}")
            found.append(await answers_of(gateway, split.test, arm, config))
        steps = [problem.difficulty for problem in split.test]
        for kind, number in (("easy", steps.index(min(steps))), ("hard", steps.index(max(steps)))):
            receipts[kind] = await _live(gateway, split.test[number], config)
    results = results_of(found, uniform=config.arms[0].name, thinking="always-think")
    tell("replaying recorded samples of the same problems")
    traces = await _recorded(split.test, backend, replace(config, seed=config.seed + 1))
    policies = {CALIBRATED: certified_policy(calibration.file, parse_policy)}
    return Demo(
        config=config,
        problems=split.test,
        calibration=calibration,
        calibration_problems=len(split.calibrate),
        answers=tuple(found),
        results=tuple(
            replace(result, replayed=_replayed(arm, traces, policies))
            for result, arm in zip(results, config.arms, strict=True)
        ),
        easy=receipts["easy"],
        hard=receipts["hard"],
        elapsed_s=time.perf_counter() - began_s,
    )


async def _recorded(problems: Sequence[Problem], backend: Backend, config: DemoConfig) -> TraceSet:
    """One sample of every problem from the model as it is, in short and in think mode."""
    items = [item_of(problem, DATASET) for problem in problems]
    traces = []
    for model in (await backend.capabilities()).models:
        wanted = RecordConfig(samples=1, model=model, sampling=config.sampling)
        traces += await collect(items, backend, wanted)
    return set_of(traces, TraceInformation(description="suffice demo", licence="CC0-1.0"))


async def _live(gateway: Gateway, problem: Problem, config: DemoConfig) -> Live:
    answer = await ask(gateway, problem, config.arms[-1], config, seed=config.seed)
    message = answer["choices"][0]["message"]
    return Live(
        problem=problem,
        answer=message["content"] or "",
        reasoning=message.get("reasoning") or "",
        receipt=answer["suffice"],
    )


def _replayed(
    arm: DemoArm, traces: TraceSet, policies: Mapping[str, AnyPolicy]
) -> tuple[float, float] | None:
    """Accuracy and tokens of the arm's policy on recorded samples; None where too few were."""
    if arm.replay is None:
        return None
    policy = policies[arm.replay] if arm.replay in policies else parse_policy(arm.replay)
    source = Source(traces)
    questions = range(len(traces.questions))
    found = measure(arm.replay, policy, source, questions, cost_model=count_tokens_only)
    return float(found.correct.mean()), float(found.tokens.mean())
