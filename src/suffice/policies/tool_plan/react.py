"""Reason and act in turns: the model asks for calls, sees the results, and is asked again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from suffice.core.decisions import (
    Action,
    Actions,
    Answer,
    CallTool,
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
from suffice.core.errors import InputError
from suffice.core.requests import Message, Request, Tool, ToolCall
from suffice.core.serial import stored
from suffice.policies.sampling_state import is_count, option
from suffice.policies.tool_plan.guard import refusal
from suffice.policies.tool_plan.plan import schema_of
from suffice.tools.json_schema import problems

AfterResults = Literal["free", "guarded"]


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """State: the conversation so far, and the calls of the turn at hand."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    turn: int = 0  # also the number of the sample that runs
    asked: tuple[ToolCall, ...] = ()  # calls of the turn at hand
    first_call: int = 0  # the number of the first of them
    planned: tuple[tuple[str, str], ...] = ()  # calls asked for before any result was read
    said: tuple[tuple[int, str], ...] = ()  # what calls came to, by number


@dataclass(frozen=True, slots=True, kw_only=True)
class React(WholeSamples):
    """Calls of one turn run at once; each turn resends the conversation. The baseline of plans.

    Calls of the client's own tools end it: they go back in one message, together with every other
    call of that turn.
    """

    max_turns: int = option(12, "samples at most; the last one is asked without tools")
    after_results: AfterResults = option(
        "free", "calls once a result was read: free, or guarded: such as nobody outside sees"
    )

    name: ClassVar[str] = "react"
    paper: ClassVar[str] = "2210.03629"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_count("max_turns", self.max_turns, 1)
        if self.after_results not in ("free", "guarded"):
            raise InputError(f"after_results must be free or guarded, got {self.after_results!r}")

    def start(self, request: Request) -> tuple[Turns, Actions]:
        state = Turns(messages=request.messages, tools=request.tools)
        return state, (self._sample(state),)

    def step(self, state: Turns, evidence: Evidence) -> tuple[Turns, Actions]:
        match evidence:
            case SampleFinished() if evidence.sample == state.turn:
                return self._act(state, evidence)
            case SampleFailed() if evidence.sample == state.turn:
                best = state.turn - 1 if state.turn else None
                why = f"turn {state.turn + 1} failed: {evidence.message or evidence.reason}"
                return state, (Escalate(why=why, best=best),)
            case ToolFinished():
                return self._hear(state, evidence.call, _shown(evidence))
            case ToolFailed():
                text = f"Error ({evidence.reason}): {evidence.message}"
                return self._hear(state, evidence.call, text)
        return state, ()

    def _sample(self, state: Turns) -> Sample:
        last = state.turn + 1 >= self.max_turns
        # What comes before calls that are made here is no answer: it must not be shown as one.
        shown = last or all(tool.hints is None for tool in state.tools)
        return Sample(
            samples=(state.turn,),
            messages=state.messages if state.turn else None,
            tools=() if last else None,
            final=shown,
            whole=True,
        )

    def _act(self, state: Turns, ended: SampleFinished) -> tuple[Turns, Actions]:
        """The model's turn: its calls are made, or it is the answer."""
        calls, known = ended.completion.tool_calls, {tool.name: tool for tool in state.tools}
        refused = self._refused(state, calls, known)
        left = tuple(call for number, call in enumerate(calls) if number not in refused)
        ours = [known[call.name].hints is not None for call in left if call.name in known]
        if not calls or not all(ours):  # the client's own tools
            why = "the model answered" if not calls else "calls for the client"
            turns = f"{state.turn + 1} turn{'s' if state.turn else ''}"
            return state, (
                Answer(
                    sample=ended.sample,
                    why=f"{why} after {turns}",
                    tool_calls=left if refused else (),
                ),
            )
        if state.turn + 1 >= self.max_turns:
            # It was shown no tools: calls that it asks for all the same are not handed on.
            why, text = f"no answer after {self.max_turns} turns", ended.completion.text
            return state, (Escalate(why=why, best=state.turn, text=text),)
        labelled = tuple(
            replace(call, id=call.id or f"call_{state.turn}_{number}")
            for number, call in enumerate(calls)
        )
        turn = Message(role="assistant", content=ended.completion.text or None, tool_calls=labelled)
        state = replace(state, messages=(*state.messages, turn), asked=labelled)
        actions: list[Action] = []
        said: list[tuple[int, str]] = []
        for place, call in enumerate(labelled):
            number = state.first_call + place
            wrong = _wrong(call, known.get(call.name))
            if place in refused:
                said.append((number, f"Error (refused): {refused[place]}"))
            elif wrong is None:
                arguments = call.arguments.strip() or "{}"
                actions.append(CallTool(call=number, tool=call.name, arguments_json=arguments))
            else:
                said.append((number, f"Error (arguments): {wrong}"))
        if not state.planned and not state.turn:
            state = replace(state, planned=tuple((c.name, c.arguments) for c in labelled))
        state = replace(state, said=tuple(said))
        return self._go_on(state) if not actions else (state, tuple(actions))

    def _refused(
        self, state: Turns, calls: Sequence[ToolCall], known: Mapping[str, Tool]
    ) -> dict[int, str]:
        """Calls of a turn that results may have asked for, by their place, and why not."""
        if self.after_results == "free":
            return {}
        found = {
            place: refusal(call, known.get(call.name), state.messages, state.planned)
            for place, call in enumerate(calls)
        }
        return {place: why for place, why in found.items() if why is not None}

    def _hear(self, state: Turns, call: int, text: str) -> tuple[Turns, Actions]:
        if not state.first_call <= call < state.first_call + len(state.asked):
            return state, ()
        return self._go_on(replace(state, said=(*state.said, (call, text))))

    def _go_on(self, state: Turns) -> tuple[Turns, Actions]:
        """The next turn, once every call of this one has come to something."""
        if len(state.said) < len(state.asked):
            return state, ()
        said = dict(state.said)
        results = tuple(
            Message(role="tool", content=said[number], tool_call_id=call.id)
            for number, call in enumerate(state.asked, state.first_call)
        )
        state = replace(
            state,
            messages=(*state.messages, *results),
            turn=state.turn + 1,
            first_call=state.first_call + len(state.asked),
            asked=(),
            said=(),
        )
        return state, (self._sample(state),)


def _shown(evidence: ToolFinished) -> str:
    if evidence.cut_from is None:
        return evidence.result
    return f"{evidence.result}\n[the first part of {evidence.cut_from} characters]"


def _wrong(call: ToolCall, tool: Tool | None) -> str | None:
    """Why a call cannot be made, None if it can."""
    if tool is None:
        return f"there is no tool {call.name!r}"
    try:
        arguments = json.loads(call.arguments.strip() or "{}")
    except (ValueError, RecursionError) as error:
        return f"the arguments are no JSON: {error}"
    if not isinstance(arguments, dict):
        return "the arguments must be a JSON object"
    return "; ".join(problems(arguments, schema_of(tool))) or None
