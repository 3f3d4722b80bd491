"""Cheap first: escalate on disagreement or low confidence, keep the best earlier answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, assert_never

from suffice.core.coverage import Exit, Note
from suffice.core.decisions import (
    Action,
    Actions,
    Answer,
    AnyPolicy,
    CallTool,
    Cancel,
    CancelTool,
    ChunkSeen,
    Escalate,
    Evidence,
    Sample,
    SampleFailed,
    SampleFinished,
    Tick,
    ToolFailed,
    ToolFinished,
    Trigger,
)
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.core.serial import stored
from suffice.policies.sampling_state import is_share
from suffice.policies.thinking import Overrides
from suffice.policies.wrapper import Composed, weighed

MOST_RUNGS = 16


def too_many_rungs(count: int) -> InputError:
    """The error for a cascade that is too long; count before building anything."""
    return InputError(f"a cascade has {MOST_RUNGS} steps at most, this one has {count}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A policy, and the measure from which its answer stands (None: any answer does)."""

    policy: AnyPolicy
    accept: float | None = None

    def __post_init__(self) -> None:
        if self.accept is not None:
            is_share("accept", self.accept)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The best answer of an earlier rung."""

    sample: int
    text: str | None
    measure: float | None
    rung: int
    probability: float | None = None
    note: Note | None = None


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """State: the rung, its policy's state, and what earlier rungs left."""

    request: Request
    rung: int = 0
    inner: Any = None
    offset: int = 0  # the rung's sample 0, in the cascade's numbers
    launched: int = 0
    call_offset: int = 0  # the rung's tool call 0
    calls: int = 0  # tool calls so far
    calling: tuple[int, ...] = ()  # those without a result
    version_offset: int = 0  # the rung's first version of a plan
    versions: int = 0  # versions of plans so far
    running: tuple[int, ...] = ()
    comparable: tuple[int, ...] = ()  # samples in which an answer was found
    kept: Kept | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade(Composed):
    """Steps in order of cost; a step may be any policy, another cascade included.

    A rung's answer stands if its policy went by a measure of at least `accept`: the agreement or
    share of a vote, the token probability of a single sample, a score. Else the next rung runs. The
    last rung's answer stands, unless it found none: then the best earlier one does.

    The exit is that of the cascade, whatever its rungs are made of: `safe` as soon as the last
    rung was asked, else `hopeless` where the rung says so, else `accepted`.
    """

    rungs: tuple[Rung, ...]

    name: ClassVar[str] = "cascade"
    paper: ClassVar[str] = "2305.05176"

    def __post_init__(self) -> None:
        if not self.rungs:
            raise InputError("a cascade needs at least one step: write policy@model > policy@model")
        if len(self.rungs) > MOST_RUNGS:
            raise too_many_rungs(len(self.rungs))

    @property
    def parts(self) -> tuple[AnyPolicy, ...]:
        """The rungs' policies."""
        return tuple(rung.policy for rung in self.rungs)

    def start(self, request: Request) -> tuple[Climb, Actions]:
        return self._enter(Climb(request=request), ())

    def step(self, state: Climb, evidence: Evidence) -> tuple[Climb, Actions]:
        if isinstance(evidence, Tick):
            inner_evidence: Evidence = evidence
        elif isinstance(evidence, ToolFinished | ToolFailed):
            if evidence.call < state.call_offset:
                return state, ()  # a straggler of an earlier rung
            inner_evidence = replace(evidence, call=evidence.call - state.call_offset)
            state = replace(state, calling=_without(state.calling, evidence.call))
        elif evidence.sample < state.offset:
            return state, ()  # a straggler of an earlier rung
        else:
            inner_evidence = _shifted(evidence, state.offset) if state.offset else evidence
        running, comparable = state.running, state.comparable
        if isinstance(evidence, SampleFinished | SampleFailed):
            running = _without(running, evidence.sample)
        if isinstance(evidence, SampleFinished) and evidence.answer is not None:
            comparable = (*comparable, evidence.sample)
        inner, actions = self.rungs[state.rung].policy.step(state.inner, inner_evidence)
        state = _moved(state, inner, state.launched, running, comparable)
        return self._carry(state, actions, ()) if actions else (state, ())

    def acts_on(self, state: Climb, sample: int) -> Trigger:
        """What the running rung acts on; nothing in stragglers of earlier ones."""
        if sample < state.offset:
            return "nothing"
        return self.rungs[state.rung].policy.acts_on(state.inner, sample - state.offset)

    def _enter(self, state: Climb, before: Actions) -> tuple[Climb, Actions]:
        state = replace(
            state,
            offset=state.launched,
            call_offset=state.calls,
            version_offset=state.versions,
        )
        inner, actions = self.rungs[state.rung].policy.start(state.request)
        return self._carry(replace(state, inner=inner), actions, before)

    def _carry(self, state: Climb, actions: Actions, before: Actions) -> tuple[Climb, Actions]:
        out: list[Action] = list(before)
        for action in actions:
            match action:
                case Sample():
                    numbers = tuple([number + state.offset for number in action.samples])
                    launched = max(state.launched, max(numbers, default=-1) + 1)
                    running = state.running + numbers
                    state = _moved(state, state.inner, launched, running, state.comparable)
                    # What an earlier rung shows may be taken back: only the last may stream.
                    final = action.final and state.rung == len(self.rungs) - 1
                    if self.rungs[state.rung].accept is not None:
                        action = weighed(action)  # noqa: PLW2901
                    if state.offset or final != action.final:
                        action = replace(action, samples=numbers, final=final)  # noqa: PLW2901
                    out.append(action)
                case CallTool():
                    call = action.call + state.call_offset
                    version = action.version + state.version_offset  # each rung has its own plans
                    state = replace(
                        state,
                        calls=max(state.calls, call + 1),
                        versions=max(state.versions, version + 1),
                        calling=(*state.calling, call),
                    )
                    out.append(replace(action, call=call, version=version))
                case CancelTool():
                    call = action.call + state.call_offset
                    state = replace(state, calling=_without(state.calling, call))
                    out.append(replace(action, call=call))
                case Cancel():
                    number = action.sample + state.offset
                    state = replace(state, running=_without(state.running, number))
                    out.append(replace(action, sample=number))
                case Answer() | Escalate():
                    return self._judge(state, action, tuple(out))
                case _:
                    assert_never(action)
        return state, tuple(out)

    def _judge(
        self, state: Climb, verdict: Answer | Escalate, before: Actions
    ) -> tuple[Climb, Actions]:
        rung = self.rungs[state.rung]
        number = verdict.sample if isinstance(verdict, Answer) else verdict.best
        sample = None if number is None else number + state.offset
        sure = verdict.measure
        stands = isinstance(verdict, Answer) and (
            rung.accept is None or (sure is not None and sure >= rung.accept)
        )
        where = f"step {state.rung + 1} of {len(self.rungs)}: {verdict.why}"
        if stands and isinstance(verdict, Answer) and self._usable(state, sample):
            answer = Answer(
                sample=verdict.sample + state.offset,
                why=where,
                measure=sure,
                probability=verdict.probability,
                text=verdict.text,
                tool_calls=verdict.tool_calls,
                note=verdict.note,
                **self._facts(state.rung, verdict),
            )
            return state, (*before, answer)
        state = self._keep(state, sample, verdict)
        if state.rung + 1 < len(self.rungs):
            why = f"step {state.rung + 1} was not sure enough"
            cancels = tuple(Cancel(sample=each, why=why) for each in state.running)
            stops = tuple(CancelTool(call=each, why=why) for each in state.calling)
            higher = replace(state, rung=state.rung + 1, running=(), calling=())
            return self._enter(higher, before + cancels + stops)
        kept = state.kept
        if kept is None:
            last = Escalate(why=where, note=verdict.note)
        else:
            why = where if kept.rung == state.rung else f"kept from step {kept.rung + 1}; {where}"
            last = Escalate(
                why=why,
                best=kept.sample,
                measure=kept.measure,
                probability=kept.probability,
                text=kept.text,
                note=kept.note,
            )
        return state, (*before, replace(last, **self._facts(state.rung, verdict)))

    def _facts(self, rung: int, verdict: Answer | Escalate) -> dict[str, Any]:
        """How the whole ended where `rung` had the last word, and under which certificate."""
        if len(self.rungs) == 1 and self.rungs[0].accept is None:
            return {"exit": verdict.exit, "certificate": verdict.certificate}
        ended: Exit = "hopeless" if verdict.exit == "hopeless" else "accepted"
        if rung + 1 == len(self.rungs):
            ended = "safe"
        # What is certified of a policy is not so of a cascade that has it for a rung.
        inside = verdict.certificate
        if inside is not None:
            inside = replace(
                inside, status="not covered", not_covered="cascade", reason="one step of a cascade"
            )
        return {"exit": ended, "certificate": inside}

    def _usable(self, state: Climb, sample: int | None) -> bool:
        """Whether the sample has a comparable answer, where the request has such answers."""
        return state.request.answer_format is None or sample in state.comparable

    def _keep(self, state: Climb, sample: int | None, verdict: Answer | Escalate) -> Climb:
        if sample is None:
            return state
        kept = state.kept
        fresh = Kept(
            sample=sample,
            text=verdict.text,
            measure=verdict.measure,
            rung=state.rung,
            probability=verdict.probability,
            note=verdict.note,
        )
        if kept is None:
            return replace(state, kept=fresh)
        # A later rung is the better model: it wins unless it found nothing and the earlier did.
        if not self._usable(state, sample) and self._usable(state, kept.sample):
            return state
        return replace(state, kept=fresh)


def _without(numbers: tuple[int, ...], gone: int) -> tuple[int, ...]:
    return tuple([number for number in numbers if number != gone])


def _moved(
    state: Climb, inner: Any, launched: int, running: tuple[int, ...], comparable: tuple[int, ...]
) -> Climb:
    """`replace` of these fields, in a fraction of its time: it is called for every sample."""
    return Climb(
        request=state.request,
        rung=state.rung,
        inner=inner,
        offset=state.offset,
        launched=launched,
        call_offset=state.call_offset,
        calls=state.calls,
        calling=state.calling,
        version_offset=state.version_offset,
        versions=state.versions,
        running=running,
        comparable=comparable,
        kept=state.kept,
    )


def _shifted(evidence: ChunkSeen | SampleFinished | SampleFailed, offset: int) -> Evidence:
    """The evidence in the numbers of a rung whose sample 0 is `offset`."""
    if isinstance(evidence, SampleFinished):
        return SampleFinished(
            sample=evidence.sample - offset,
            completion=evidence.completion,
            answer=evidence.answer,
            score=evidence.score,
            confidences=evidence.confidences,
        )
    return replace(evidence, sample=evidence.sample - offset)


def rung(policy: AnyPolicy, *, model: str | None = None, accept: float | None = None) -> Rung:
    """A rung that runs `policy` on `model`."""
    return Rung(policy=Overrides(inner=policy, model=model) if model else policy, accept=accept)
