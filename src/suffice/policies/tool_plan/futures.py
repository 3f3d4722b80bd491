"""Calls that are answered at once by a name for their result: the model goes on while they run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from suffice.core.decisions import (
    Actions,
    Answer,
    Escalate,
    Evidence,
    Need,
    Sample,
    SampleFailed,
    SampleFinished,
    ToolFailed,
    ToolFinished,
    WholeSamples,
)
from suffice.core.requests import Message, Request, ToolCall
from suffice.core.serial import stored
from suffice.policies.sampling_state import is_count, option
from suffice.policies.tool_plan.arguments import template
from suffice.policies.tool_plan.execution import PlanRun, StepResult
from suffice.policies.tool_plan.plan import (
    MOST_STEPS,
    Plan,
    PlanError,
    Step,
    step_problems,
    value_of,
)
from suffice.policies.tool_plan.prompts import instructed

Phase = Literal["asking", "waiting", "answering"]

_NAME = re.compile(r"\$r(\d+)")
_RULES = (
    "Every call is answered at once by the name of its result, such as $r1. Write that name in the "
    "arguments of later calls that need the result. Once no more calls are needed say: ready. "
    "Then the results are shown."
)


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """State: the conversation with names in place of results, and the calls."""

    request: Request
    messages: tuple[Message, ...]
    phase: Phase = "asking"
    sample: int = 0
    run: PlanRun = field(default_factory=PlanRun)
    named: tuple[tuple[str, str], ...] = ()  # ids of calls, and the steps that they became


@dataclass(frozen=True, slots=True, kw_only=True)
class Futures(WholeSamples):
    """A call gives a name for its result at once; results are shown once no more are asked for.

    A call that cites a name starts when that result is there, any other at once, while the model
    writes the next. Until the answer the model sees names only, so results cannot change which
    tools are called. Departure from the paper: the model does not ask for a result by itself.
    """

    max_turns: int = option(12, "samples that may ask for calls")
    max_steps: int = option(MOST_STEPS, "calls at most")

    name: ClassVar[str] = "futures"
    paper: ClassVar[str] = "2605.15077"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_count("max_turns", self.max_turns, 1)
        is_count("max_steps", self.max_steps, 1)

    def start(self, request: Request) -> tuple[Pending, Actions]:
        messages = instructed(request.messages, _RULES) if request.tools else request.messages
        state = Pending(request=request, messages=messages)
        return state, (self._sample(state),)

    def step(self, state: Pending, evidence: Evidence) -> tuple[Pending, Actions]:
        match evidence:
            case SampleFinished() if evidence.sample == state.sample:
                return self._said(state, evidence)
            case SampleFailed() if evidence.sample == state.sample:
                why = f"sample {state.sample + 1} failed: {evidence.message or evidence.reason}"
                return state, (Escalate(why=why),)
            case ToolFinished() | ToolFailed() if state.run.owns(evidence.call):
                run, actions = state.run.settle(evidence).advance(state.request.tools)
                state = replace(state, run=run)
                if state.phase == "waiting" and not actions:
                    return self._revealed(state)
                return state, actions
        return state, ()

    def _sample(self, state: Pending) -> Sample:
        asking = state.phase == "asking"
        own = state.messages is state.request.messages
        return Sample(
            samples=(state.sample,),
            messages=None if own else state.messages,
            tools=None if asking else (),
            purpose="plan" if asking and not own else "answer",
            final=not asking or own,
            whole=True,
        )

    def _said(self, state: Pending, ended: SampleFinished) -> tuple[Pending, Actions]:
        calls = ended.completion.tool_calls
        if state.phase == "answering" or not state.request.tools:
            # It was shown no tools: calls that it asks for all the same are not handed on.
            text = ended.completion.text if calls and state.request.tools else None
            return state, (Answer(sample=ended.sample, why=_why(state.run), text=text),)
        if not calls:
            if not state.named and not _is_ready(ended.completion.text):  # none are needed
                return state, (Answer(sample=ended.sample, why="the model answered"),)
            return self._revealed(replace(state, phase="waiting"))
        return self._asked(state, ended, calls)

    def _asked(
        self, state: Pending, ended: SampleFinished, calls: tuple[ToolCall, ...]
    ) -> tuple[Pending, Actions]:
        """Start what can start, name the results, and let the model go on."""
        used = {call.id for turn in state.messages for call in turn.tool_calls}
        labelled = tuple(
            replace(call, id=f"call_{state.sample}_{number}")
            if not call.id or call.id in used
            else call
            for number, call in enumerate(calls)
        )
        steps, named, said = list(state.run.plan.steps), list(state.named), list[Message]()
        for call in labelled:
            try:
                step = self._step(call, steps, state)
            except PlanError as error:
                content = f"Error (arguments): {error}"
            else:
                steps.append(step)
                named.append((call.id, step.id))
                content = json.dumps({"future": f"$r{step.id}"})
            said.append(Message(role="tool", content=content, tool_call_id=call.id))
        turn = Message(role="assistant", content=ended.completion.text or None, tool_calls=labelled)
        run, actions = replace(state.run, plan=Plan(steps=tuple(steps))).advance(
            state.request.tools
        )
        more = state.sample + 1 < self.max_turns and not _waits_for_client(run, state)
        state = replace(
            state,
            messages=(*state.messages, turn, *said),
            run=run,
            named=tuple(named),
            phase="asking" if more else "waiting",
        )
        if more:
            state = replace(state, sample=state.sample + 1)
            return state, (*actions, self._sample(state))
        return (state, actions) if actions else self._revealed(state)

    def _step(self, call: ToolCall, steps: list[Step], state: Pending) -> Step:
        """A call as a step of the plan that grows. Raises PlanError."""
        if len(steps) >= self.max_steps:
            raise PlanError(f"there are {self.max_steps} calls already, no more are allowed")
        try:
            arguments = json.loads(call.arguments.strip() or "{}")
        except (ValueError, RecursionError) as error:
            raise PlanError(f"the arguments are no JSON: {error}") from None
        if not isinstance(arguments, dict):
            raise PlanError("the arguments must be a JSON object")
        step = Step(
            id=str(len(steps) + 1),
            tool=call.name,
            arguments=tuple((name, value_of(_leaves(item))) for name, item in arguments.items()),
        )
        known = {each.id for each in steps}
        found = step_problems(step, {tool.name: tool for tool in state.request.tools})
        found += [f"there is no result $r{each}" for each in step.cites if each not in known]
        if found:
            raise PlanError("; ".join(found))
        return step

    def _revealed(self, state: Pending) -> tuple[Pending, Actions]:
        """Once every call has ended: the answer, asked for with the results in their places."""
        if state.run.running:
            return state, ()
        for_client = state.run.for_client(state.request.tools)
        if for_client:
            why = f"{len(for_client)} calls for the client"
            return state, (Answer(sample=state.sample, why=why, text="", tool_calls=for_client),)
        steps, ended = dict(state.named), {each.step: each for each in state.run.results}
        shown = tuple(
            replace(turn, content=_shown(ended[steps[turn.tool_call_id]]))
            if turn.tool_call_id in steps and steps[turn.tool_call_id] in ended
            else turn
            for turn in state.messages
        )
        state = replace(state, messages=shown, phase="answering", sample=state.sample + 1)
        return state, (self._sample(state),)


def _waits_for_client(run: PlanRun, state: Pending) -> bool:
    """Whether a call is the client's: it ends this request once the others have ended."""
    known = {tool.name: tool for tool in state.request.tools}
    return any(known[step.tool].hints is None for step in run.plan.steps)


def _leaves(item: Any) -> Any:
    """JSON with results in the place of their names."""
    if isinstance(item, str):
        return template(item, _NAME)
    if isinstance(item, list):
        return [_leaves(each) for each in item]
    if isinstance(item, dict):
        return {name: _leaves(each) for name, each in item.items()}
    return item


def _shown(found: StepResult) -> str:
    if found.failure is not None:
        return f"Error ({found.failure}): {found.text}"
    if found.cut_from is None:
        return found.text
    return f"{found.text}\n[the first part of {found.cut_from} characters]"


def _is_ready(text: str) -> bool:
    return text.strip().rstrip(".").lower() == "ready"


def _why(run: PlanRun) -> str:
    made, failed = len(run.results), len(run.failed)
    lost = f", {failed} failed" if failed else ""
    return f"answered by {made} call{'' if made == 1 else 's'}{lost}"
