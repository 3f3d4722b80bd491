"""What is switched on: a pure state machine over shadowed requests, one after the other.

Candidates stand in an order from the most cautious to the cheapest, fixed by the user. A candidate
is switched on when its evidence reaches 1/δ and all before it are on; the last that is on answers.
Nothing is paid for their number: something false is switched on only if the first candidate that is
over the target reaches 1/δ, and that happens with probability δ at most (fixed sequence, 2110.01052
section 2.3). Each collects evidence from the first request on.

An alarm switches its candidate off, and all behind it that are on; their evidence begins anew with
the next request. So does evidence that has not sufficed within `window` shadowed requests: old ones
say little of today's, and a candidate that has become better must not pay for its past. Each
beginning has its own δ: while a candidate is over the target, the mean number of shadowed requests
to a false certificate is `window` / δ or more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from suffice.core.errors import InputError
from suffice.core.serial import stored
from suffice.policies.live.detector import UNION, ChangeDetector
from suffice.policies.live.evidence import CandidateEvidence
from suffice.policies.live.labels import Loss, Unlabelled

# On suspicion (a twentieth of an alarm) the share is raised.
SUSPICION = 1.0 / 20.0

Happened = Literal["promoted", "demoted", "restarted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRule:
    """What is promised, and how much is shadowed."""

    target: float = 0.05  # largest loss, as a share of requests
    confidence: float = 0.95
    candidates: int = 1
    run_length: int = 2000  # least mean number of shadowed requests between two false alarms
    window: int = 4000  # shadowed requests after which evidence that did not suffice begins anew
    share: float = 0.25  # of requests, while a certificate is sought or doubted
    share_after: float = 0.05  # once all are on, or a whole window did not suffice
    loss: Loss = "differ"  # else what labels say is lost
    unlabelled: Unlabelled = "lost"  # differences that have no label yet

    def __post_init__(self) -> None:
        checks = (
            (0.0 < self.target < 0.5, f"target must lie between 0 and 50 %, got {self.target:.3g}"),
            (0.5 <= self.confidence < 1.0,
             f"confidence must lie between .5 and 1 (95% is .95), got {self.confidence:g}"),
            (self.candidates >= 1, "at least one cheap policy is needed"),
            (self.run_length >= 100, f"run_length must be 100 or more, got {self.run_length}"),
            (self.window >= 100, f"window must be 100 or more, got {self.window}"),
            (0.0 < self.share_after <= self.share <= 1.0,
             f"shares must be 0 < share_after <= share <= 1, got {self.share_after:g} and "
             f"{self.share:g}"),
        )  # fmt: skip
        for holds, error in checks:
            if not holds:
                raise InputError(error)

    @property
    def reach(self) -> float:
        """Log wealth that certifies."""
        return -math.log(1.0 - self.confidence)

    @property
    def alarm(self) -> float:
        """Value of a detector that raises the alarm."""
        return UNION * self.run_length


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSeen:
    """A shadowed request: what each candidate did against the safe answer.

    `differs` None: that candidate was not run. `losses` beside it, by default 1 where they differ.
    `share`: the chance with which the request was shadowed. `u`: uniform, from the request's id.
    """

    differs: tuple[bool | None, ...]
    share: float
    u: float
    losses: tuple[float | None, ...] | None = None


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowJudged:
    """A label: the loss of one candidate at an earlier request is `loss`."""

    number: int  # of the request among the shadowed ones, from 0
    candidate: int
    before: float | None  # the loss as which it entered; None: it has not entered
    loss: float
    share: float


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One candidate."""

    evidence: CandidateEvidence = field(default_factory=CandidateEvidence)
    detector: ChangeDetector = field(default_factory=ChangeDetector)
    since: int = 0  # number of the first request of its evidence
    tried: bool = False  # whether a whole window did not suffice
    on_since: int | None = None  # number of the request that switched it on; None: it is off


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEvent:
    """Something that changed what is on, or what is known."""

    number: int  # shadowed requests by then
    happened: Happened
    candidate: int
    n: int  # of its evidence
    mean: float  # loss in it
    log_wealth: float


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """All candidates, and how many from the first are on (0: the safe arm answers)."""

    arms: tuple[Candidate, ...]
    on: int = 0
    n: int = 0

    @classmethod
    def of(cls, rule: LiveRule) -> LiveState:
        """Nothing seen."""
        return cls(arms=(Candidate(),) * rule.candidates)

    @property
    def answering(self) -> int | None:
        """The candidate that answers; None: the safe arm."""
        return self.on - 1 if self.on else None

    @property
    def next(self) -> int | None:
        """The candidate whose certificate is sought; None: all are on."""
        return self.on if self.on < len(self.arms) else None

    def suspects(self, rule: LiveRule) -> bool:
        """Whether one that is on is doubted."""
        return any(arm.detector.value >= SUSPICION * rule.alarm for arm in self.arms[: self.on])

    def share(self, rule: LiveRule) -> float:
        """The share of requests to shadow now."""
        if self.suspects(rule):
            return rule.share
        return rule.share_after if self.next is None else _floor(self.arms[self.next], rule)


def _floor(arm: Candidate, rule: LiveRule) -> float:
    """Least share at which a request enters the arm's evidence."""
    return rule.share_after if arm.tried else rule.share


def after(
    state: LiveState, seen: ShadowSeen | ShadowJudged, rule: LiveRule
) -> tuple[LiveState, tuple[LiveEvent, ...]]:
    """The next state, and what it changes."""
    if isinstance(seen, ShadowJudged):
        state = replace(state, arms=_corrected(state, seen, rule))
    else:
        arms = tuple(_seen(arm, seen, i, state.n, rule) for i, arm in enumerate(state.arms))
        state = replace(state, arms=arms, n=state.n + 1)
    return _settled(state, rule)


def _seen(arm: Candidate, seen: ShadowSeen, i: int, number: int, rule: LiveRule) -> Candidate:
    differs = seen.differs[i]
    if differs is None:
        return arm
    detector = arm.detector.risen(differs, seen.u, rule.target)
    loss = float(differs) if seen.losses is None else seen.losses[i]
    if rule.loss == "differ":
        detector = detector.levelled(float(differs), rule.target)
    elif rule.unlabelled == "left_out":
        loss = None
    elif not differs:
        detector = detector.levelled(0.0, rule.target, net=rule.loss == "net")
    floor = _floor(arm, rule)
    if loss is None or number < arm.since or seen.share < floor:
        return replace(arm, detector=detector)
    evidence = arm.evidence.after(loss, rule.target, floor / seen.share)
    return replace(arm, evidence=evidence, detector=detector)


def _corrected(state: LiveState, seen: ShadowJudged, rule: LiveRule) -> tuple[Candidate, ...]:
    arm = state.arms[seen.candidate]
    floor = _floor(arm, rule)
    if seen.number < arm.since or seen.share < floor:
        return state.arms
    weight = floor / seen.share
    if seen.before is None:
        evidence = arm.evidence.after(seen.loss, rule.target, weight)
    else:
        evidence = arm.evidence.corrected(seen.before, seen.loss, rule.target, weight)
    detector = arm.detector
    if rule.loss != "differ":
        detector = detector.levelled(seen.loss, rule.target, net=rule.loss == "net")
    changed = replace(arm, evidence=evidence, detector=detector)
    return (*state.arms[: seen.candidate], changed, *state.arms[seen.candidate + 1 :])


def _settled(state: LiveState, rule: LiveRule) -> tuple[LiveState, tuple[LiveEvent, ...]]:
    """Switch on and off what is due."""
    arms, on, events = list(state.arms), state.on, []

    def event(happened: Happened, i: int) -> LiveEvent:
        found = arms[i].evidence
        return LiveEvent(
            number=state.n, happened=happened, candidate=i, n=found.n, mean=found.mean or 0.0,
            log_wealth=found.log,
        )  # fmt: skip

    for i, arm in enumerate(arms):
        if arm.detector.value < rule.alarm:
            continue
        if i < on:
            events.append(event("demoted", i))
            arms[i:on] = [Candidate(since=state.n)] * (on - i)
            on = i
        else:  # nothing is at stake yet, and its evidence has seen the change as well
            arms[i] = replace(arm, detector=ChangeDetector())
    while on < len(arms) and arms[on].evidence.log >= rule.reach:
        events.append(event("promoted", on))
        arms[on] = replace(arms[on], on_since=state.n)
        on += 1
    for i in range(on, len(arms)):
        if arms[i].evidence.n >= rule.window:
            events.append(event("restarted", i))
            arms[i] = Candidate(since=state.n, tried=True)
    return LiveState(arms=tuple(arms), on=on, n=state.n), tuple(events)
