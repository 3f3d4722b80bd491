"""DART: drafts without thinking; where they disagree, thinking in stages of growing budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from suffice.core.coverage import Exit
from suffice.core.decisions import (
    Actions,
    Answer,
    Evidence,
    Need,
    SampleFinished,
    WholeSamples,
)
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.core.serial import stored
from suffice.core.thinking import Thinking
from suffice.policies.sampling_state import (
    Pool,
    at_least,
    ended,
    is_count,
    one_sample,
    option,
    step_alone,
    why_alone,
)

Phase = Literal["alone", "drafts", "thinking", "fallback"]


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """State: the samples so far, what runs, and the stage of thinking."""

    pool: Pool
    phase: Phase = "drafts"
    stage: int = 0
    leading: str | None = None  # the drafts' most frequent answer


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftAgreement(WholeSamples):
    """Two answers without thinking; if they agree one stands, else the model thinks, in stages.

    A stage that ends by itself is the answer. One that is cut at its budget stands only if it says
    what most drafts said; else the next stage begins anew with its larger budget. After the last
    stage the paper answers without thinking once more (`fallback=no_think`), which on hard
    questions is where its accuracy comes from; `fallback=think` keeps the last stage's answer.
    """

    drafts: int = option(2, "answers without thinking (K)")
    stages: tuple[int, ...] = option((1024, 2048), "thinking tokens of each stage, e.g. 1024+2048")
    fallback: Literal["no_think", "think"] = option(
        "no_think", "after the last stage: no_think (once more, greedy) or think (its answer)"
    )
    draft_tokens: int | None = option(512, "completion tokens of a draft; none: the request's")
    draft_temperature: float | None = option(0.7, "of the drafts; none: the request's")
    think_temperature: float | None = option(0.6, "of the stages; none: the request's")
    draft_model: str | None = option(None, "upstream model of the drafts; the request's by default")
    think_model: str | None = option(None, "upstream model of the stages; likewise")
    switch: bool = option(
        True, "tell engines to think or not; no: the two models are set up for it"
    )

    name: ClassVar[str] = "dart"
    paper: ClassVar[str] = "2606.23181"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_count("drafts", self.drafts, 2)
        if not self.stages or list(self.stages) != sorted(set(self.stages)) or self.stages[0] < 1:
            raise InputError(
                f"stages must be growing token budgets such as 1024+2048, got {self.stages}"
            )
        if self.fallback not in ("no_think", "think"):
            raise InputError(f"fallback must be no_think or think, got {self.fallback!r}")
        if self.draft_tokens is not None:
            at_least("draft_tokens", self.draft_tokens, 1)
        if not self.switch and None in (self.draft_model, self.think_model):
            raise InputError("switch=no needs a draft_model and a think_model that differ by mode")
        for name in ("draft_temperature", "think_temperature"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 0)

    def start(self, request: Request) -> tuple[Staged, Actions]:
        note = why_alone(request)
        if note == "free_form" or (note is not None and not self.draft_temperature):
            pool, actions = one_sample(note)
            return Staged(pool=pool, phase="alone"), actions
        pool, actions = Pool().launch(self.drafts, **self._draft())
        return Staged(pool=pool), actions

    def step(self, state: Staged, evidence: Evidence) -> tuple[Staged, Actions]:
        if state.phase == "alone":
            pool, actions = step_alone(state.pool, evidence)
            return replace(state, pool=pool), actions
        if not ended(evidence):
            return state, ()
        state = replace(state, pool=state.pool.settle(evidence))
        if state.phase == "drafts":
            return self._compare(state)
        if state.phase == "thinking":
            return self._judge(state, evidence)
        if isinstance(evidence, SampleFinished):
            why = f"thinking was cut {len(self.stages)} times; answered without it"
            return state, self._stands(state, evidence.sample, evidence.answer, why, "hopeless")
        return state, state.pool.majority("the last answer failed", exit="hopeless")

    def _draft(self, temperature: float | None = None) -> dict[str, Any]:
        drawn = self.draft_temperature if temperature is None else temperature
        return {
            "model": self.draft_model,
            "thinking": Thinking(enabled=False) if self.switch else None,
            "temperature": drawn,
            "max_tokens": self.draft_tokens,
            "whole": True,
        }

    def _compare(self, state: Staged) -> tuple[Staged, Actions]:
        """The drafts have ended: one of them, or the first stage."""
        pool = state.pool
        if pool.running:
            return state, ()
        counts = pool.counts
        if counts and counts[0][1] == self.drafts:
            why = f"{self.drafts} answers without thinking agree"
            return state, pool.majority(why, 1.0, "accepted")
        state = replace(state, leading=counts[0][0] if counts else None)
        return self._think(state, 0)

    def _think(self, state: Staged, stage: int) -> tuple[Staged, Actions]:
        if state.pool.closed:
            return state, state.pool.majority("the budget is spent", exit="hopeless")
        pool, actions = state.pool.launch(
            1,
            model=self.think_model,
            thinking=Thinking(budget_tokens=self.stages[stage]) if self.switch else None,
            temperature=self.think_temperature,
            whole=True,
        )
        return replace(state, pool=pool, phase="thinking", stage=stage), actions

    def _judge(self, state: Staged, evidence: Evidence) -> tuple[Staged, Actions]:
        """A stage has ended: its answer, or the next."""
        last = state.stage + 1 == len(self.stages)
        if isinstance(evidence, SampleFinished):
            answer, budget = evidence.answer, self.stages[state.stage]
            if not was_cut(evidence, budget):
                why = f"thinking ended by itself within {budget} tokens"
                return state, self._stands(state, evidence.sample, answer, why, "safe")
            if answer is not None and answer == state.leading:
                why = f"thinking cut at {budget} tokens says what the drafts said"
                return state, self._stands(state, evidence.sample, answer, why, "accepted")
            if last and self.fallback == "think":
                why = f"thinking was cut {len(self.stages)} times"
                return state, self._stands(state, evidence.sample, answer, why, "safe")
        if not last:
            return self._think(state, state.stage + 1)
        if state.pool.closed or self.fallback == "think":
            return state, state.pool.majority("the last stage failed", exit="hopeless")
        pool, actions = state.pool.launch(1, **self._draft(0.0) | {"final": True})
        return replace(state, pool=pool, phase="fallback"), actions

    def _stands(
        self, state: Staged, sample: int, answer: str | None, why: str, exit: Exit
    ) -> Actions:
        """Answer with a sample; its measure is the share of all samples that say the same."""
        counts = state.pool.counts
        if answer is None:
            # A thought without an answer does not outdo a draft that has one.
            return state.pool.majority(why, exit=exit)
        share = dict(counts)[answer] / sum(votes for _, votes in counts)
        return (Answer(sample=sample, why=why, measure=share, exit=exit),)


def was_cut(finished: SampleFinished, budget: int) -> bool:
    """Whether a sample's thinking ended at its budget and not by itself.

    An engine that does not count thinking tokens apart is taken at its whole completion.
    """
    completion = finished.completion
    if completion.finish_reason == "length":
        return True
    thought = completion.usage.reasoning_tokens
    return (completion.usage.completion_tokens if thought is None else thought) >= budget
