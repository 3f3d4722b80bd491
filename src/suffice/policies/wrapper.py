"""Policies made of others: what they need, what they act on, and where they pass decisions through.

Wrapper   one policy, whose actions are changed on their way out
InOrder   one policy, which hears of samples' ends in drawing order
Choice    one of several, chosen by the request
Composed  anything else that runs other policies (a cascade)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from suffice.core.decisions import (
    Actions,
    Answer,
    AnyPolicy,
    BasePolicy,
    Cancel,
    Escalate,
    Evidence,
    Need,
    Sample,
    SampleFailed,
    SampleFinished,
    Trigger,
)
from suffice.core.requests import Request
from suffice.core.serial import stored


class Composed(BasePolicy):
    """A policy that runs others, its `parts`."""

    __slots__ = ()

    @property
    def parts(self) -> tuple[AnyPolicy, ...]:
        """The policies inside."""
        raise NotImplementedError

    @property
    def needs(self) -> frozenset[Need]:
        """What any part needs."""
        return frozenset().union(*(part.needs for part in self.parts))

    @property
    def waits_for_ends(self) -> bool:
        """Whether no part ever acts on a running sample."""
        return all(part.waits_for_ends for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapper(Composed):
    """A policy around another, the same in all that it does not change."""

    inner: AnyPolicy

    @property
    def parts(self) -> tuple[AnyPolicy, ...]:
        """The inner policy."""
        return (self.inner,)

    @property
    def name(self) -> str:
        """The inner policy's."""
        return self.inner.name

    def start(self, request: Request) -> tuple[Any, Actions]:
        state, actions = self.inner.start(request)
        return state, self.told(actions)

    def step(self, state: Any, evidence: Evidence) -> tuple[Any, Actions]:
        state, actions = self.inner.step(state, evidence)
        return state, self.told(actions) if actions else ()

    def acts_on(self, state: Any, sample: int) -> Trigger:
        """What the inner policy acts on."""
        return self.inner.acts_on(state, sample)

    def told(self, actions: Actions) -> Actions:
        """The inner policy's actions as they go out."""
        return actions


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """State of a `Choice`: the part that runs, its state, and what the choice wants to remember."""

    part: int
    inner: Any
    note: str = ""


class Choice(Composed):
    """One of several policies runs, chosen by the request alone."""

    __slots__ = ()

    def choose(self, request: Request) -> tuple[int, str]:
        """The part that runs, and a note that is kept in the state."""
        raise NotImplementedError

    def told(self, state: Chosen, actions: Actions) -> Actions:
        """The part's actions as they go out."""
        del state
        return actions

    def start(self, request: Request) -> tuple[Chosen, Actions]:
        part, note = self.choose(request)
        inner, actions = self.parts[part].start(request)
        state = Chosen(part=part, inner=inner, note=note)
        return state, self.told(state, actions)

    def step(self, state: Chosen, evidence: Evidence) -> tuple[Chosen, Actions]:
        inner, actions = self.parts[state.part].step(state.inner, evidence)
        state = replace(state, inner=inner)
        return state, self.told(state, actions) if actions else ()

    def acts_on(self, state: Chosen, sample: int) -> Trigger:
        """What the part that runs acts on."""
        return self.parts[state.part].acts_on(state.inner, sample)


def weighed(action: Sample) -> Sample:
    """The samples with log-probabilities where nothing else will tell how good the answer is.

    That is where the policy answers with the sample in any case: its token probability is then the
    measure. Policies themselves ask for none, which spares engines the work.
    """
    if not action.final or action.top_logprobs is not None:
        return action
    return replace(action, top_logprobs=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed(Wrapper):
    """A policy whose measure will be made use of, so that it gives one where it can."""

    def told(self, actions: Actions) -> Actions:
        """The inner policy's actions, sole samples with log-probabilities."""
        return tuple(weighed(each) if isinstance(each, Sample) else each for each in actions)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """State of `InOrder`: the policy's, whose end it waits for, and ends that came too early."""

    inner: Any
    due: tuple[int, ...] = ()
    early: tuple[SampleFinished | SampleFailed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InOrder(Wrapper):
    """A policy that hears of samples' ends in the order in which it drew them.

    Short samples end first, and often are the right ones: a rule that looks at whatever is there
    would see others live than in a recording, whose samples it gets in the order of drawing.
    """

    def start(self, request: Request) -> tuple[Queued, Actions]:
        inner, actions = self.inner.start(request)
        return Queued(inner=inner, due=_drawn((), actions)), actions

    def step(self, state: Queued, evidence: Evidence) -> tuple[Queued, Actions]:
        inner, due, early, out = state.inner, state.due, state.early, cast(Actions, ())
        heard: Evidence | None = evidence
        if isinstance(evidence, SampleFinished | SampleFailed):
            early = (*early, evidence) if evidence.sample in due else early
            heard = _first(due, early)
        while heard is not None:
            if isinstance(heard, SampleFinished | SampleFailed):
                due, early = due[1:], tuple([each for each in early if each is not heard])
            inner, actions = self.inner.step(inner, heard)
            due, out = _drawn(due, actions), out + actions
            if any(isinstance(action, Answer | Escalate) for action in actions):
                break
            heard = _first(due, early)
        return Queued(inner=inner, due=due, early=early), out

    def acts_on(self, state: Queued, sample: int) -> Trigger:
        """What the inner policy acts on."""
        return self.inner.acts_on(state.inner, sample)


def _first(
    due: tuple[int, ...], early: tuple[SampleFinished | SampleFailed, ...]
) -> SampleFinished | SampleFailed | None:
    """The end of the sample whose turn it is, if it has come."""
    return next((each for each in early if due and each.sample == due[0]), None)


def _drawn(due: tuple[int, ...], actions: Actions) -> tuple[int, ...]:
    """The samples whose end is waited for after these actions."""
    for action in actions:
        if isinstance(action, Sample):
            due += action.samples
        elif isinstance(action, Cancel):
            due = tuple([number for number in due if number != action.sample])
    return due
