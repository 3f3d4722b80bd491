"""Cheap first with two exits and a certificate: accept, stop as hopeless, or ask the safe arm.

What is certified, and by which test, is in docs/certify.md; suffice.policies.policy_file reads and
writes the policy, `suffice calibrate` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from suffice.core.decisions import (
    Action,
    Actions,
    Answer,
    AnyPolicy,
    Escalate,
    Evidence,
    Need,
    SampleFinished,
    Watch,
    watch_of,
    watches_nothing,
)
from suffice.core.requests import Request
from suffice.core.serial import stored
from suffice.policies.cascade import Cascade, Rung
from suffice.policies.drift import Monitor, Observation
from suffice.policies.predictor import Predictor
from suffice.policies.prompt_features import prompt_of

# Words in an outcome's `why` by which a watch tells the exits apart.
CONFIDENT, HOPELESS, UNSURE = "confident", "hopeless", "unsure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """Thresholds of one cluster; None closes an exit. Both closed: the safe arm answers at once."""

    accept: float | None = None  # least P(right) at which the cheap answer stands
    hopeless: float | None = (
        None  # largest P(the safe arm would help) at which it stands all the same
    )

    @property
    def closed(self) -> bool:
        """Whether nothing but the safe arm is certified here."""
        return self.accept is None and self.hopeless is None

    def verdict(self, right: float, rescue: float) -> str:
        """Which exit an answer takes: CONFIDENT, HOPELESS, or UNSURE (it escalates)."""
        if self.accept is not None and right >= self.accept:
            return CONFIDENT
        if self.hopeless is not None and rescue <= self.hopeless:
            return HOPELESS
        return UNSURE


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """State of `Gate`: the text it judges by, the inner state, samples with a comparable answer."""

    text: str
    comparable: bool  # whether answers of this request can be compared at all
    inner: Any = None
    answered: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A policy whose verdict is judged: it stands at one of the exits, or is handed on."""

    inner: AnyPolicy
    exits: Exits
    predictor: Predictor

    name: ClassVar[str] = "gate"

    @property
    def needs(self) -> frozenset[Need]:
        """The inner policy's."""
        return self.inner.needs

    @property
    def baseline_samples(self) -> int:
        """The inner policy's."""
        return self.inner.baseline_samples

    def start(self, request: Request) -> tuple[Gated, Actions]:
        inner, actions = self.inner.start(request)
        comparable = request.answer_format is not None
        state = Gated(text=prompt_of(request), comparable=comparable, inner=inner)
        return state, self._judged(state, actions)

    def step(self, state: Gated, evidence: Evidence) -> tuple[Gated, Actions]:
        if isinstance(evidence, SampleFinished) and evidence.answer is not None:
            state = replace(state, answered=(*state.answered, evidence.sample))
        inner, actions = self.inner.step(state.inner, evidence)
        state = replace(state, inner=inner)
        return state, self._judged(state, actions)

    @property
    def watches_nothing(self) -> bool:
        """Whether the inner policy watches no running sample."""
        return watches_nothing(self.inner)

    def watch(self, state: Gated, sample: int) -> Watch:
        """What the inner policy watches: a gate acts on verdicts alone."""
        return watch_of(self.inner, state.inner, sample)

    def _judged(self, state: Gated, actions: Actions) -> Actions:
        return tuple(self._judge(state, action) for action in actions)

    def _judge(self, state: Gated, action: Action) -> Action:
        if not isinstance(action, Answer | Escalate):
            return action
        sample = action.sample if isinstance(action, Answer) else action.best
        if sample is None or (state.comparable and sample not in state.answered):
            return Escalate(why=f"{UNSURE}: {action.why}", best=sample, text=action.text)
        found = self.predictor.judge(state.text, action.confidence)
        exit_taken = self.exits.verdict(found.right, found.rescue)
        why = (
            f"{exit_taken}: right {found.right:.3f}, rescue {found.rescue:.3f}, "
            f"cluster {found.cluster}: {action.why}"
        )
        if exit_taken == UNSURE:
            return Escalate(why=why, best=sample, confidence=found.right, text=action.text)
        return Answer(sample=sample, why=why, confidence=found.right, text=action.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """What the receipt says about the certificate."""

    id: str
    statement: str
    max_drop: float
    confidence: float
    method: str


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Certify:
    """State: the prompt's cluster (None: free-form text, not covered) and the cascade's state."""

    cluster: int | None
    inner: Any


@dataclass(frozen=True, kw_only=True)
class Certified:
    """A cheap arm with certified exits by cluster of prompts, and the safe arm behind it.

    Free-form requests are outside the certificate: the safe arm answers them.
    """

    cheap: AnyPolicy
    safe: AnyPolicy
    clusters: tuple[Exits, ...]
    predictor: Predictor
    guarantee: Guarantee
    samplers: tuple[AnyPolicy | None, ...] = ()  # by cluster: a sampler of its own, without a gate
    models: tuple[str, ...] = ()  # what the arms run on: what the certificate is about
    monitors: tuple[Monitor, ...] = ()  # what a watch holds traffic against

    name: ClassVar[str] = "certified"
    paper: ClassVar[str] = "2110.01052"

    @property
    def needs(self) -> frozenset[Need]:
        """What either arm needs."""
        return self.cheap.needs | self.safe.needs

    @property
    def baseline_samples(self) -> int:
        """The safe arm's."""
        return self.safe.baseline_samples

    def start(self, request: Request) -> tuple[Certify, Actions]:
        cluster = None
        if request.answer_format is not None:
            cluster = self.predictor.cluster(prompt_of(request))
        inner, actions = self._routes[-1 if cluster is None else cluster].start(request)
        return Certify(cluster=cluster, inner=inner), actions

    def step(self, state: Certify, evidence: Evidence) -> tuple[Certify, Actions]:
        route = self._routes[-1 if state.cluster is None else state.cluster]
        inner, actions = route.step(state.inner, evidence)
        return replace(state, inner=inner), actions

    @cached_property
    def watches_nothing(self) -> bool:
        """Whether no route ever watches a running sample."""
        return all(map(watches_nothing, self._routes))

    def watch(self, state: Certify, sample: int) -> Watch:
        """What the request's route watches."""
        route = self._routes[-1 if state.cluster is None else state.cluster]
        return watch_of(route, state.inner, sample)

    @cached_property
    def _routes(self) -> tuple[AnyPolicy, ...]:
        """The policy of every cluster, the safe arm last."""
        samplers = self.samplers or (None,) * len(self.clusters)
        routes = map(self._route, self.clusters, samplers)
        return (*routes, self.safe)

    def _route(self, exits: Exits, sampler: AnyPolicy | None) -> AnyPolicy:
        if sampler is not None:
            return sampler
        if exits.closed:
            return self.safe
        gate = Gate(inner=self.cheap, exits=exits, predictor=self.predictor)
        return Cascade(rungs=(Rung(policy=gate), Rung(policy=self.safe)))


def observation_of(why: str, confidence: float | None) -> Observation:
    """What a watch learns from an outcome of `Certified`, by its `why` and confidence.

    A gate's verdict at the first rung is an early answer, and so is a vote that ended before its
    cap; everything else was the safe arm's.
    """
    gated = "rung 1 of 2: " in why
    early = gated or why.startswith(("agreement ", "hopeless: "))
    return Observation(stopped=early, confidence=confidence if gated else None)
