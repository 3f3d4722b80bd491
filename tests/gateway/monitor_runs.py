"""Certified policies over unchanged and over changed traffic: how often, how soon the alarm comes.

A population is what a certified policy and its baseline did on many recorded questions, played by
the executor. Calibrations and traffic are drawn from it, so that its means are the truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.evals.statistics.paired import drop_p_value
from suffice.evals.traces.files import trace_set
from suffice.evals.traces.trace_set import Question, Trace, TraceSet, messages_json
from suffice.executors.replay import play
from suffice.gateway.certificates.audits import answer_in
from suffice.policies.certified import Certified, Exits, Guarantee
from suffice.policies.monitor import (
    LOSS_ALPHA,
    LOSSES,
    SHAPE_ALPHA,
    Alarm,
    Answered,
    Compared,
    Judged,
    Monitor,
    Monitoring,
    Wealth,
)
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.certify import RuleEffect, Test, monitors
from suffice.recipes.recordings import WholeSource
from tests.policies.baselines import BASELINES
from tests.policies.test_certified import predictor

LIMIT = 0.02
QUESTIONS = 800  # of a calibration
REQUESTS = 2000
RULES = 11  # that a calibration has tried: the ranges pay for as many

BoolArray = NDArray[np.bool_]
CLOSED = Exits()


@dataclass(frozen=True)
class Shape:
    """A rule, or an option behind a gate, in front of a baseline."""

    baseline: str
    rule: str | None = None
    option: str = "single@small"
    exits: Exits = CLOSED

    def policy(self) -> Certified:
        """The certified policy; its monitors come with a calibration."""
        return Certified(
            cheap=parse_policy(self.option),
            safe=parse_policy(self.baseline),
            clusters=(self.exits, self.exits),
            samplers=() if self.rule is None else (parse_policy(self.rule),) * 2,
            predictor=predictor(),
            guarantee=Guarantee(id="", statement="", max_drop=LIMIT, confidence=0.95, method="fst"),
        )


# Of the conformance suite: all that calibration certifies. What acts on running samples it refuses.
TEXTS = {
    name: text.replace("@big", "@large").replace("+big", "+large")
    for name, text in BASELINES.items()
    if parse_policy(text).waits_for_ends
}
VOTE = "adaptive_consistency:threshold=.85,max_samples=4"
SETTLED = f"{VOTE},accept=.85@small"
GATED = {"option": f"{VOTE}@small", "exits": Exits(accept=0.8)}  # from an agreement of .85 on
SHAPES = {
    **{name: Shape(text, f"{SETTLED} > {text}") for name, text in TEXTS.items()},
    "one sample, a confident one": Shape("single@large", "single:accept=.93@small > single@large"),
    "a vote of its own model": Shape(
        "self_consistency:samples=8@small", "adaptive_consistency:threshold=.85,max_samples=8@small"
    ),
    "a cascade behind a gate": Shape(TEXTS["a cascade of votes"], **GATED),
    "an adaptive vote behind a gate": Shape(TEXTS["an adaptive vote"], **GATED),
    "a vote, unsettled ones to another model": Shape(
        "self_consistency:samples=8@small",
        "adaptive_consistency:max_samples=8,threshold=.8,accept=.8@small > single@large",
    ),
    "one sample, never asked": Shape(
        "single@large", "adaptive_consistency:threshold=.85,max_samples=4@small"
    ),
}


@dataclass(frozen=True, eq=False)
class Population:
    """What a shape did, by question."""

    early: BoolArray  # not the baseline's answer
    stopped: BoolArray  # ended at an early exit
    sure: NDArray[np.float64]  # P(right) where a gate let it pass, NaN elsewhere
    differs: BoolArray
    harmed: BoolArray
    helped: BoolArray

    @property
    def drop(self) -> float:
        """The true drop in accuracy."""
        return float(self.harmed.mean() - self.helped.mean())

    def step(self, index: NDArray[np.int64]) -> RuleEffect:
        """Some questions as a calibration sees them."""
        columns = {name: getattr(self, name)[index][:, None] for name in
                   ("harmed", "helped", "differs")}  # fmt: skip
        nothing = np.zeros((len(index), 1))
        return RuleEffect(
            **columns,
            stopped=self.early[index][:, None],
            baseline_right=columns["harmed"],
            cost=nothing,
            baseline_cost=nothing,
        )


def traces(questions: int, seed: int = 0) -> TraceSet:
    """The recording behind a population: easy and hard questions, confidences that tell little."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(questions):
        asked = Question(
            dataset="made",
            name=f"q{number}",
            messages_json=messages_json(f"Question {number}"),
            reference="right",
            answer_format="number",
        )
        hard = rng.beta(0.5, 2.2)
        for model, weight in (("small", 1.0), ("mid", 0.85), ("large", 0.75)):
            for sample in range(8):
                right = bool(rng.random() < 1.0 - weight * hard)
                level = -0.05 - 0.35 * hard + rng.normal(0.0, 0.07)
                answer = "right" if right else f"wrong{rng.integers(3)}"
                found.append(
                    Trace(
                        question=asked, model=model, sample=sample, text=answer, answer=answer,
                        correct=right, prompt_tokens=20, completion_tokens=30,
                        logprobs=np.full(2, min(level, -0.001), dtype=np.float16),
                    )
                )  # fmt: skip
    return trace_set(found)


def population(shape: Shape, recording: TraceSet, seed: int = 0) -> Population:
    """Both policies on every question, their samples dealt in one order."""
    policy, recorded = shape.policy(), WholeSource(recording)
    rng = np.random.default_rng(seed)
    rows = []
    for question in range(len(recording.questions)):
        orders = {
            model: rng.permutation(np.arange(rows_.start, rows_.stop)).tolist()
            for model in recording.models
            for rows_ in [recorded.rows(question, model)]
        }
        deals = [recorded.ordered(question, lambda model, o=orders: list(o[model])) for _ in "ab"]
        request = recorded.request(question)
        ours = play(policy, request, deals[0]).outcome
        theirs = play(policy.safe, request, deals[1]).outcome
        right = [
            bool(recording.correct[deal.rows[each.sample]] == 1.0)
            for deal, each in zip(deals, (ours, theirs), strict=True)
        ]
        safe = ours.exit == "safe"
        # An answer of the baseline loses nothing to itself, whatever a second run would say.
        rows.append((
            not safe, ours.exit in ("accepted", "hopeless"),
            ours.confidence if shape.rule is None and not safe else np.nan,
            not safe and answer_in(ours) != answer_in(theirs),
            not safe and right[1] and not right[0], not safe and right[0] and not right[1],
        ))  # fmt: skip
    early, stopped, sure, differs, harmed, helped = map(np.array, zip(*rows, strict=True))
    return Population(early, stopped, sure.astype(float), differs, harmed, helped)


def calibrated(
    found: Population, rng: np.random.Generator, limit: float = LIMIT
) -> tuple[Monitor, ...] | None:
    """The monitors of a calibration on fresh questions; None where nothing is certified."""
    index = rng.integers(0, len(found.early), QUESTIONS)
    step, test = found.step(index), Test.of("drop", means=False)
    if drop_p_value(step.pairs, limit) > 0.05:
        return None
    sure = found.sure[index] if np.isfinite(found.sure).any() else None
    tables = monitors(step, sure, RULES, test, limit, answers=True)
    return tuple(Monitor(quantity=t.quantity, low=t.low, high=t.high) for t in tables)


def served(
    state: Monitoring, found: Population, index: NDArray[np.int64]
) -> tuple[Alarm | None, int]:
    """Requests to these questions, every answer audited and judged: (alarm, requests)."""
    zeros = 0
    for number, q in enumerate(index.tolist(), 1):
        early, sure = bool(found.early[q]), found.sure[q]
        seen = Answered(early=early, confidence=None if np.isnan(sure) else float(sure))
        state = state.after(seen)
        if early:
            differs = bool(found.differs[q])
            state, zeros = state.after(Compared(differs=differs, zeros=zeros)), 0
            if differs:
                state = state.after(
                    Judged(harmed=bool(found.harmed[q]), helped=bool(found.helped[q]),
                           compared=True)
                )  # fmt: skip
        else:
            zeros += 1
        if state.alarm is not None:
            return state.alarm, number
    return None, len(index)


def may_alarm(monitors_: tuple[Monitor, ...], found: Population, index: NDArray[np.int64]) -> bool:
    """Whether any bettor comes as far as an alarm takes, on the way or at the end.

    All requests at once, with the gains of the monitors' own `Wealth`. The mean of several bettors
    is at most the richest, so that False means that no alarm would be raised.
    """
    early = found.early[index]
    values = {
        "drop": found.harmed[index].astype(float) - found.helped[index],
        "harm": found.harmed[index].astype(float),
        "differ": found.differs[index].astype(float),
        "stopped": early.astype(float),
        "confidence": found.sure[index],
    }
    sides = sum(1 + (m.low > m.least) for m in monitors_ if m.quantity not in LOSSES)
    for monitor in monitors_:
        x = values[monitor.quantity]
        x = x[np.isfinite(x)]
        alpha = LOSS_ALPHA if monitor.quantity in LOSSES else SHAPE_ALPHA / sides
        reach = np.log(1.0 / alpha) - 1e-6
        sides_of = [(x, monitor.high, monitor.least)]
        if monitor.low > monitor.least:
            sides_of.append((1.0 - x, 1.0 - monitor.low, 0.0))
        for seen, limit, least in sides_of:
            known, code = np.unique(seen, return_inverse=True)
            gains = [
                Wealth().after(v, limit, monitor.bets, least=least).logs for v in known.tolist()
            ]
            if known.size and np.cumsum(np.array(gains)[code], axis=0).max() >= reach:
                return True
    return False


def runs(
    found: Population, repetitions: int, seed: int, requests: int = REQUESTS, limit: float = LIMIT
) -> Iterator[Alarm | None]:
    """Certified calibrations, each followed by unchanged traffic."""
    rng = np.random.default_rng(seed)
    done = 0
    for _ in range(50 * repetitions):
        watched = calibrated(found, rng, limit)
        if watched is None:
            continue
        index = rng.integers(0, len(found.early), requests)
        alarmed = may_alarm(watched, found, index)
        yield served(Monitoring(monitors=watched), found, index)[0] if alarmed else None
        done += 1
        if done == repetitions:
            return


def audited_until_alarm(
    harmed: float, helped: float, early: float, rng: np.random.Generator, *,
    limit: float = 0.01, most: int = 500,
) -> int | None:  # fmt: skip
    """Audited and judged answers until the alarm, None if it does not come.

    Rates are of all covered answers; a share `early` of them is not the baseline's.
    """
    state = Monitoring(monitors=(Monitor(quantity="drop", low=-1.0, high=limit),))
    for number in range(1, most + 1):
        u = rng.random() * early
        lost, won = u < harmed, harmed <= u < harmed + helped
        zeros = int(rng.geometric(early)) - 1
        state = state.after(Compared(differs=lost or won, zeros=zeros))
        if lost or won:
            state = state.after(Judged(harmed=lost, helped=won, compared=True))
        if state.alarm is not None:
            return number
    return None


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a rule does, as rates of all covered answers: the two answers differ in these alone."""

    harmed: float
    helped: float
    early: float  # not the baseline's

    def drawn(self, n: int, rng: np.random.Generator) -> RuleEffect:
        """A calibration on `n` questions."""
        u = rng.random(n)
        columns = {
            "harmed": u < self.harmed, "helped": (u >= self.harmed) & (u < self.differ),
            "differs": u < self.differ, "stopped": u < self.early,
        }  # fmt: skip
        nothing = np.zeros((n, 1))
        return RuleEffect(
            **{name: column[:, None] for name, column in columns.items()},
            baseline_right=columns["harmed"][:, None], cost=nothing, baseline_cost=nothing,
        )  # fmt: skip

    @property
    def differ(self) -> float:
        """How often the answers differ."""
        return self.harmed + self.helped


def changed_until_alarm(
    before: Rates, after: Rates, questions: int, rng: np.random.Generator, *,
    limit: float = 0.01, most: int = 500,
) -> tuple[Alarm | None, int] | None:  # fmt: skip
    """All monitors of a calibration over traffic of other rates: (alarm, audited answers).

    None where the calibration certifies nothing.
    """
    step, test = before.drawn(questions, rng), Test.of("drop", means=False)
    if drop_p_value(step.pairs, limit) > 0.05:
        return None
    tables = monitors(step, None, RULES, test, limit, answers=True)
    state = Monitoring(
        monitors=tuple(Monitor(quantity=t.quantity, low=t.low, high=t.high) for t in tables)
    )
    for number in range(1, most + 1):
        zeros = int(rng.geometric(after.early)) - 1
        for early in (False,) * zeros + (True,):
            state = state.after(Answered(early=early))
        u = rng.random() * after.early
        state = state.after(Compared(differs=u < after.differ, zeros=zeros))
        if u < after.differ:
            lost = u < after.harmed
            state = state.after(Judged(harmed=lost, helped=not lost, compared=True))
        if (alarm := state.alarm) is not None:
            return alarm, number
    return None, most
