"""A certified policy: the small model's answer stands, or the baseline answers.

What is certified, and by which test, is in docs/certify.md; suffice.policies.policy_file reads and
writes the policy, `suffice calibrate` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, cast

from suffice.core.coverage import Coverage, Exit, NotCovered
from suffice.core.decisions import (
    Action,
    Actions,
    Answer,
    AnyPolicy,
    Escalate,
    Evidence,
    Sample,
    SampleFinished,
    Trigger,
)
from suffice.core.errors import InputError
from suffice.core.prices import Prices
from suffice.core.requests import Request
from suffice.core.savings import Promise
from suffice.core.serial import stored
from suffice.policies.agreement import AdaptiveConsistency
from suffice.policies.cascade import Cascade, Rung
from suffice.policies.fixed import SelfConsistency
from suffice.policies.monitor import Monitor
from suffice.policies.predictor import Predictor
from suffice.policies.prompt_features import prompt_of
from suffice.policies.subject import Subject, said
from suffice.policies.thinking import Overrides
from suffice.policies.vote_table import VoteTable
from suffice.policies.wrapper import Choice, Chosen, InOrder, Wrapper, weighed

_SHOWN: dict[Exit | None, str] = {
    "accepted": "sure enough", "hopeless": "the baseline would hardly help", None: "not sure"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate(Wrapper):
    """A policy whose verdict is judged: it stands at one of the exits, or is handed on."""

    exits: Exits
    predictor: Predictor

    name: ClassVar[str] = "gate"

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

    def acts_on(self, state: Gated, sample: int) -> Trigger:
        """What the inner policy acts on: a gate acts on verdicts alone."""
        return self.inner.acts_on(state.inner, sample)

    def _judged(self, state: Gated, actions: Actions) -> Actions:
        return tuple(self._judge(state, action) for action in actions)

    def _judge(self, state: Gated, action: Action) -> Action:
        if isinstance(action, Sample):
            return weighed(action)
        if not isinstance(action, Answer | Escalate):
            return action
        sample = action.sample if isinstance(action, Answer) else action.best
        note = action.note
        if sample is None or (state.comparable and sample not in state.answered):
            return Escalate(why=f"not sure: {action.why}", best=sample, text=action.text, note=note)
        found = self.predictor.judge(state.text, None if note == "greedy" else action.measure)
        taken = self.exits.verdict(found.right, found.rescue)
        why = (
            f"{_SHOWN[taken]}: right {found.right:.1%}, only the baseline right "
            f"{found.rescue:.1%}, question group {found.cluster}: {action.why}"
        )
        sure, text = found.right, action.text
        if taken is None:
            return Escalate(
                why=why, best=sample, measure=sure, probability=sure, text=text, note=note
            )
        return Answer(
            sample=sample,
            why=why,
            measure=sure,
            probability=sure,
            text=text,
            exit=taken,
            note=note,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """What the receipt says about the certificate."""

    id: str
    statement: str
    max_drop: float
    confidence: float
    method: str


@dataclass(frozen=True, kw_only=True)
class Certified(Choice):
    """An option whose answers stand under certified conditions, else the baseline is asked.

    Free-form requests are outside the certificate: the safe arm answers them. Every verdict says
    whether the certificate covers it, and by which exit it left.
    """

    cheap: AnyPolicy
    safe: AnyPolicy
    clusters: tuple[Exits, ...]
    guarantee: Guarantee
    predictor: Predictor | None = None  # None: one rule for all questions
    subject: Subject = field(default_factory=Subject)  # what the certificate is about
    # Of the rules that read answers here; None: as when it was calibrated.
    extraction_version: int | None = None
    samplers: tuple[AnyPolicy | None, ...] = ()  # by cluster: a sampler of its own, without a gate
    models: tuple[str, ...] = ()  # what the arms run on: what the certificate is about
    monitors: tuple[Monitor, ...] = ()  # what a watch holds traffic against
    promise: Promise | None = None
    prices: Prices = field(default_factory=Prices)  # that the promise is counted in
    # Completion tokens that the baseline drew, in the mean over the certifying questions that were
    # answered without it: what is not known of such an answer in service.
    unasked_tokens: float | None = None
    unasked_questions: int = 0  # how many those were

    name: ClassVar[str] = "certified"
    paper: ClassVar[str] = "2110.01052"

    @cached_property
    def parts(self) -> tuple[AnyPolicy, ...]:
        """The policy of every question group, the baseline last; ends are heard as recorded."""
        return tuple(InOrder(inner=route) for route in self._routes)

    @cached_property
    def _routes(self) -> tuple[AnyPolicy, ...]:
        samplers = self.samplers or (None,) * len(self.clusters)
        routes = map(self._route, self.clusters, samplers)
        return (*routes, self.safe)

    @cached_property
    def waits_for_ends(self) -> bool:
        """Whether no part ever acts on a running sample."""
        return all(part.waits_for_ends for part in self.parts)

    def choose(self, request: Request) -> tuple[int, str]:
        """The prompt's cluster; the note says what is not covered, empty if everything is."""
        differs = self.subject.differs(request, extraction_version=self.extraction_version)
        if differs is not None:
            return len(self.clusters), differs
        return 0 if self.predictor is None else self.predictor.cluster(prompt_of(request)), ""

    def told(self, state: Chosen, actions: Actions) -> Actions:
        """The actions, every verdict with its facts."""
        differs = cast(NotCovered, state.note) if state.note else None
        standing = Coverage(
            id=self.guarantee.id,
            status="valid" if differs is None else "not covered",
            not_covered=differs,
            reason="" if differs is None else said(differs),
        )
        if self._routes[state.part] is self.safe:
            return stamped(actions, standing, always="safe")
        return stamped(actions, standing, last="safe" if self._reverts[state.part] else "last")

    @cached_property
    def _reverts(self) -> tuple[bool, ...]:
        """By cluster: whether its rule comes to the baseline's answer if it does not end early."""
        return tuple(ends_in(route, self.safe) for route in self._routes)

    def _route(self, exits: Exits, sampler: AnyPolicy | None) -> AnyPolicy:
        if sampler is not None:
            return in_front_of(sampler, self.safe)
        if exits.closed:
            return self.safe
        if self.predictor is None:
            raise InputError("a gate needs the predictor that judges its answers")
        gate = Gate(inner=self.cheap, exits=exits, predictor=self.predictor)
        return Cascade(rungs=(Rung(policy=gate), Rung(policy=self.safe)))


def in_front_of(rule: AnyPolicy, baseline: AnyPolicy) -> AnyPolicy:
    """The rule with the baseline as one last step, where its last steps are the baseline's.

    A baseline that is a cascade itself is written step by step behind an option.
    """
    if not isinstance(rule, Cascade) or not isinstance(baseline, Cascade):
        return rule
    before = len(rule.rungs) - len(baseline.rungs)
    if before < 1 or rule.rungs[before:] != baseline.rungs:
        return rule
    return Cascade(rungs=(*rule.rungs[:before], Rung(policy=baseline)))


def ends_in(rule: AnyPolicy, baseline: AnyPolicy) -> bool:
    """Whether a rule that does not end early gives the baseline's answer.

    A cascade does whose last step is the baseline, and a vote that would draw the same samples.
    """
    rule = in_front_of(rule, baseline)
    if rule == baseline:
        return True
    if isinstance(rule, Cascade):
        return rule.rungs[-1].policy == baseline
    whole = _vote_of(baseline)
    return whole is not None and _vote_of(rule) == whole


def _vote_of(policy: AnyPolicy) -> tuple[str | None, int] | None:
    """Model and most samples of a vote of one model; None of any other policy."""
    model, bare = None, policy
    if isinstance(policy, Overrides) and policy.thinking is None:
        model, bare = policy.model, policy.inner
    if isinstance(bare, SelfConsistency):
        return model, bare.samples
    return (model, bare.max_samples) if isinstance(bare, AdaptiveConsistency | VoteTable) else None


def stamped(
    actions: Actions, standing: Coverage, *, last: Exit = "safe", always: Exit | None = None
) -> Actions:
    """The actions, every verdict with how the certificate stands and the exit that it took.

    `last` is what the end of the whole rule is called, where nothing was left out; with `always`
    every verdict is called so, whatever exits the policy inside has of its own.
    """

    def one(action: Answer | Escalate) -> Answer | Escalate:
        taken = always or (last if action.exit in (None, "safe") else action.exit)
        found: Answer | Escalate = replace(action, certificate=standing, exit=taken)
        return found

    return tuple([one(a) if isinstance(a, Answer | Escalate) else a for a in actions])
