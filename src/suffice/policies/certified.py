"""Cheap first with two exits and a certificate: accept, stop as hopeless, or ask the safe arm.

What is certified, and by which test, is in docs/certify.md; suffice.policies.policy_file reads and
writes the policy, `suffice calibrate` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from suffice.core.coverage import Coverage, Exit
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
from suffice.policies.drift import Monitor
from suffice.policies.predictor import Predictor
from suffice.policies.prompt_features import prompt_of

_SHOWN: dict[Exit | None, str] = {
    "accepted": "confident", "hopeless": "hopeless", None: "unsure"
}  # fmt: skip


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

    def verdict(self, right: float, rescue: float) -> Exit | None:
        """Which exit an answer takes; None: neither, it escalates."""
        if self.accept is not None and right >= self.accept:
            return "accepted"
        if self.hopeless is not None and rescue <= self.hopeless:
            return "hopeless"
        return None


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
            return Escalate(why=f"unsure: {action.why}", best=sample, text=action.text)
        found = self.predictor.judge(state.text, action.confidence)
        taken = self.exits.verdict(found.right, found.rescue)
        why = (
            f"{_SHOWN[taken]}: right {found.right:.3f}, rescue {found.rescue:.3f}, "
            f"cluster {found.cluster}: {action.why}"
        )
        sure, text = found.right, action.text
        if taken is None:
            return Escalate(why=why, best=sample, confidence=sure, text=text)
        return Answer(sample=sample, why=why, confidence=sure, text=text, exit=taken)


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

    Free-form requests are outside the certificate: the safe arm answers them. Every verdict says
    whether the certificate covers it, and by which exit it left.
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
        state = Certify(cluster=cluster, inner=inner)
        return state, self._told(state, actions)

    def step(self, state: Certify, evidence: Evidence) -> tuple[Certify, Actions]:
        route = self._routes[-1 if state.cluster is None else state.cluster]
        inner, actions = route.step(state.inner, evidence)
        return replace(state, inner=inner), self._told(state, actions)

    def _told(self, state: Certify, actions: Actions) -> Actions:
        """The actions, every verdict with its facts."""
        covered = state.cluster is not None
        route = self._routes[-1 if state.cluster is None else state.cluster]
        standing = Coverage(
            id=self.guarantee.id,
            status="valid" if covered else "not covered",
            reason="" if covered else "free-form text",
        )
        return stamped(actions, standing, safe=route is self.safe)

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


def stamped(actions: Actions, standing: Coverage, *, safe: bool) -> Actions:
    """The actions, every verdict with how the certificate stands and the exit that it took.

    `safe`: the safe arm decides, whatever exits it has of its own. A policy that names no exit has
    left nothing out either.
    """

    def one(action: Answer | Escalate) -> Answer | Escalate:
        taken: Exit = "safe" if safe or action.exit is None else action.exit
        stamped: Answer | Escalate = replace(action, certificate=standing, exit=taken)
        return stamped

    return tuple([one(a) if isinstance(a, Answer | Escalate) else a for a in actions])
