"""One program that calls tools as functions, run in a sandbox; one sample answers by its output."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from suffice.core.decisions import (
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
from suffice.core.requests import Message, Request, Tool
from suffice.core.serial import stored
from suffice.policies.sampling_state import is_count, option
from suffice.policies.tool_plan.plan import MOST_STEPS, PlanError, schema_of
from suffice.policies.tool_plan.program_text import (
    Known,
    Report,
    framed,
    program_of,
    report_of,
)
from suffice.policies.tool_plan.prompts import (
    printed_messages,
    program_messages,
    repair_messages,
)
from suffice.tools.json_schema import problems

Phase = Literal["writing", "running", "calling", "answering"]


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A call that the program asked for, and what it came to so far."""

    call: int  # the number it has as an action; -1: it was not made
    tool: str
    arguments_json: str
    text: str | None = None
    failed: bool = False


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """State: the program, and the results that its next run is given."""

    request: Request
    asked: tuple[Message, ...] = ()
    phase: Phase = "writing"
    sample: int = 0
    text: str = ""  # what the model wrote
    program: str = ""
    named: tuple[str, ...] = ()  # tools that the program names
    known: tuple[Known, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    earlier: tuple[Known, ...] = ()  # of the program before: these calls are not made again
    runs: int = 0
    run_call: int = -1  # the call that runs the program
    next_call: int = 0
    version: int = 0
    printed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program(WholeSamples):
    """One program with the tools as its functions; what it prints is shown to one more sample.

    It needs a tool that runs Python without a network (`suffice.tools.servers python`). Its calls
    are made outside, by the rules of every call; only tools that its text names can be called. A
    program that goes wrong is written again once, told the kind of error and its line.
    """

    sandbox: str = option("run_python", "the tool that runs a program, by its parameter `code`")
    direct: bool = option(False, "what the program prints is the answer; no second sample")
    plan_tokens: int | None = option(None, "completion tokens of a program")
    max_steps: int = option(MOST_STEPS, "calls of one program at most")
    max_runs: int = option(16, "runs of one program at most: waves of calls, and one")

    name: ClassVar[str] = "program"
    paper: ClassVar[str] = "2402.01030"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_count("max_steps", self.max_steps, 1)
        is_count("max_runs", self.max_runs, 1)
        if self.plan_tokens is not None:
            is_count("plan_tokens", self.plan_tokens, 1)

    def start(self, request: Request) -> tuple[Writing, Actions]:
        state = Writing(request=request)
        tools = self._tools(request)
        if not tools:
            return self._answer(state, first=True)
        if not any(t.name == self.sandbox and t.hints is not None for t in request.tools):
            known = ", ".join(tool.name for tool in request.tools)
            raise InputError(
                f"program needs a tool {self.sandbox!r} that runs Python (there are {known}); add "
                "the server `python -m suffice.tools.servers python`, or name yours: sandbox=NAME"
            )
        state = replace(state, asked=program_messages(request, tools))
        return state, (self._writer(state),)

    def step(self, state: Writing, evidence: Evidence) -> tuple[Writing, Actions]:
        match evidence:
            case SampleFinished() if evidence.sample == state.sample:
                if state.phase == "writing":
                    return self._written(state, evidence.completion.text)
                text = evidence.completion.text if evidence.completion.tool_calls else None
                return state, (Answer(sample=evidence.sample, why=_why(state), text=text),)
            case SampleFailed() if evidence.sample == state.sample:
                what = "program" if state.phase == "writing" else "answer"
                why = f"the {what} failed: {evidence.message or evidence.reason}"
                return state, (Escalate(why=why),)
            case ToolFinished() | ToolFailed():
                if state.phase == "running" and evidence.call == state.run_call:
                    return self._ran(state, evidence)
                if state.phase == "calling":
                    return self._heard(state, evidence)
        return state, ()

    def _tools(self, request: Request) -> tuple[Tool, ...]:
        """What a program may call: tools that are run here, but for the sandbox."""
        return tuple(t for t in request.tools if t.hints is not None and t.name != self.sandbox)

    def _writer(self, state: Writing) -> Sample:
        return Sample(
            samples=(state.sample,),
            messages=state.asked,
            max_tokens=self.plan_tokens,
            tools=(),
            purpose="plan",
            whole=True,
        )

    def _written(self, state: Writing, text: str) -> tuple[Writing, Actions]:
        names = [tool.name for tool in self._tools(state.request)]
        try:
            program, named = program_of(text, names)
        except PlanError as error:
            return self._mend(state, text, str(error))
        state = replace(state, text=text, program=program, named=named)
        if not named and "print" not in program:  # the question is answered as it is
            return self._answer(state)
        return self._run(state)

    def _run(self, state: Writing) -> tuple[Writing, Actions]:
        if state.runs >= self.max_runs:
            return self._answer(state)
        code = framed(state.program, state.known, self._tools(state.request))
        call = CallTool(
            call=state.next_call,
            tool=self.sandbox,
            arguments_json=json.dumps({"code": code}),
            step=f"run {state.runs + 1}",
            version=state.version,
        )
        state = replace(
            state,
            phase="running",
            runs=state.runs + 1,
            run_call=state.next_call,
            next_call=state.next_call + 1,
        )
        return state, (call,)

    def _ran(self, state: Writing, ended: ToolFinished | ToolFailed) -> tuple[Writing, Actions]:
        """A run has ended: with its output, with calls that it needs, or wrongly."""
        if isinstance(ended, ToolFailed):
            if ended.reason == "budget":
                return self._answer(state)
            return self._mend(state, state.text, f"the sandbox ended it ({ended.reason})")
        report, wrong = _reported(ended.result)
        if report is None:
            return self._mend(state, state.text, wrong)
        if report.calls:
            return self._call(state, report)
        return self._answer(replace(state, printed=report.printed))

    def _call(self, state: Writing, report: Report) -> tuple[Writing, Actions]:
        tools = {tool.name: tool for tool in self._tools(state.request)}
        if len(state.known) + len(report.calls) > self.max_steps:
            wrong = f"it makes more than {self.max_steps} calls"
            return self._mend(state, state.text, wrong)
        wanted, actions = list[Wanted](), list[CallTool]()
        number = state.next_call
        for place, (tool, arguments) in enumerate(report.calls, len(state.known) + 1):
            each = Wanted(call=-1, tool=tool, arguments_json=arguments)
            before = next((k for k in state.earlier if (k.tool, k.arguments_json) ==
                           (tool, arguments)), None)  # fmt: skip
            wrong = _wrong(tool, arguments, state.named, tools)
            if wrong:
                each = replace(each, text=wrong, failed=True)
            elif before is not None:
                each = replace(each, text=before.text)
            else:
                each = replace(each, call=number)
                actions.append(
                    CallTool(
                        call=number,
                        tool=tool,
                        arguments_json=arguments,
                        step=str(place),
                        version=state.version,
                    )
                )
                number += 1
            wanted.append(each)
        state = replace(state, phase="calling", wanted=tuple(wanted), next_call=number)
        return (state, tuple(actions)) if actions else self._go_on(state)

    def _heard(self, state: Writing, ended: ToolFinished | ToolFailed) -> tuple[Writing, Actions]:
        failed = isinstance(ended, ToolFailed)
        said = ended.message or ended.reason if isinstance(ended, ToolFailed) else ended.result
        wanted = tuple(
            replace(each, text=said, failed=failed) if each.call == ended.call else each
            for each in state.wanted
        )
        return self._go_on(replace(state, wanted=wanted))

    def _go_on(self, state: Writing) -> tuple[Writing, Actions]:
        """The next run, once every call that the last one needed has ended."""
        done = [
            Known(
                tool=each.tool, arguments_json=each.arguments_json, text=each.text,
                failed=each.failed,
            )
            for each in state.wanted
            if each.text is not None
        ]  # fmt: skip
        if len(done) < len(state.wanted):
            return state, ()
        return self._run(replace(state, known=(*state.known, *done), wanted=()))

    def _mend(self, state: Writing, text: str, wrong: str) -> tuple[Writing, Actions]:
        """Have the program written again, once; after that the question is answered without."""
        if state.version:
            return self._answer(state)
        state = replace(
            state,
            phase="writing",
            sample=state.sample + 1,
            asked=repair_messages(state.asked, text, wrong, what="program"),
            version=1,
            earlier=tuple(each for each in state.known if not each.failed),
            known=(),
            wanted=(),
            runs=0,
        )
        return state, (self._writer(state),)

    def _answer(self, state: Writing, *, first: bool = False) -> tuple[Writing, Actions]:
        if self.direct and state.printed is not None:
            why = _why(state)
            return state, (Answer(sample=state.sample, why=why, text=state.printed.strip()),)
        shown = None if state.printed is None else printed_messages(state.request, state.printed)
        sample = 0 if first else state.sample + 1
        state = replace(state, phase="answering", sample=sample)
        return state, (Sample(samples=(sample,), messages=shown, tools=(), final=True, whole=True),)


def _reported(said: str) -> tuple[Report | None, str]:
    """What a run came to, or what is wrong with the program: no word of a result."""
    try:
        report = report_of(said)
    except PlanError as error:
        return None, str(error)
    if report.error:
        return None, f"line {report.line} raises {report.error}"
    if report.waits and not report.calls:
        return None, "it waits for a result that it did not ask for"
    return report, ""


def _wrong(
    tool: str, arguments: str, named: tuple[str, ...], tools: dict[str, Tool]
) -> str:  # fmt: skip
    """Why a call of a program is not made; "" if it is."""
    if tool not in named or tool not in tools:
        return f"the program names no tool {tool!r}"
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError) as error:
        return f"the arguments are no JSON: {error}"
    if not isinstance(given, dict):
        return "the arguments must be a JSON object"
    return "; ".join(problems(given, schema_of(tools[tool])))


def _why(state: Writing) -> str:
    if state.printed is None:
        return "answered without a program"
    made = len(state.known)
    return f"answered by a program with {made} call{'' if made == 1 else 's'}"
