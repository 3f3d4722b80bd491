"""Plan first: ReWOO, and a DAG whose calls start while the plan is still being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from suffice.core.decisions import (
    Actions,
    Answer,
    BasePolicy,
    ChunkSeen,
    Escalate,
    Evidence,
    Need,
    Sample,
    SampleFailed,
    SampleFinished,
    ToolFailed,
    ToolFinished,
    Trigger,
)
from suffice.core.errors import InputError
from suffice.core.requests import Message, Request, Tool
from suffice.core.serial import stored
from suffice.policies.sampling_state import is_count, option
from suffice.policies.tool_plan.execution import PlanRun
from suffice.policies.tool_plan.notations import NOTATIONS, Notation, parse_plan, parse_step
from suffice.policies.tool_plan.plan import (
    MOST_STEPS,
    Plan,
    PlanError,
    check_plan,
    step_problems,
)
from suffice.policies.tool_plan.prompts import (
    continued_messages,
    planner_messages,
    repair_messages,
    replan_messages,
    solver_messages,
)

Phase = Literal["planning", "running", "solving"]


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """State of a policy that plans first."""

    request: Request
    phase: Phase = "planning"
    sample: int = 0  # the one that is drawn, or was last
    asked: tuple[Message, ...] = ()  # what the planner was sent
    written: str = ""  # a plan that is still being written
    read: int = 0  # characters of it that whole lines were read of
    run: PlanRun = field(default_factory=PlanRun)
    plan_text: str = ""
    repaired: bool = False
    replans: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFirst(BasePolicy):
    """Base: one sample writes the plan, calls are made, one sample answers by the results.

    A plan that cannot be carried out is written again once, with the exact error; after that the
    question is answered without tools. Results are shown to the answering sample alone, quoted.
    """

    notation: Notation = option("rewoo", "how plans are written: rewoo, numbered or python")
    plan_tokens: int | None = option(None, "completion tokens of a plan; the request's by default")
    max_steps: int = option(MOST_STEPS, "steps of one plan at most")
    continued: bool = option(
        False, "answer in the planner's own conversation: a prefix cache then holds all but results"
    )

    needs: ClassVar[frozenset[Need]] = frozenset()
    streams: ClassVar[bool] = False  # whether calls start while the plan is being written

    def __post_init__(self) -> None:
        if self.notation not in NOTATIONS:
            raise InputError(
                f"notation must be one of {', '.join(NOTATIONS)}, got {self.notation!r}"
            )
        is_count("max_steps", self.max_steps, 1)
        if self.plan_tokens is not None:
            is_count("plan_tokens", self.plan_tokens, 1)

    @property
    def waits_for_ends(self) -> bool:
        """Whether nothing is read before the plan is whole."""
        return not self._reads_lines

    def acts_on(self, state: Planning, sample: int) -> Trigger:
        """Lines of a plan that is being written, where calls may start early."""
        planning = state.phase == "planning" and sample == state.sample
        return "everything" if self._reads_lines and planning else "nothing"

    def start(self, request: Request) -> tuple[Planning, Actions]:
        state = Planning(request=request)
        if not request.tools:  # nothing to plan with
            return self._solve(replace(state, sample=-1))
        state = replace(state, asked=self.asked(request))
        return state, (self._planner(state),)

    def step(self, state: Planning, evidence: Evidence) -> tuple[Planning, Actions]:
        match evidence:
            case ChunkSeen() if evidence.sample == state.sample and state.phase == "planning":
                return self._read(state, evidence.text)
            case SampleFinished() if evidence.sample == state.sample:
                if state.phase == "planning":
                    return self._planned(state, evidence.completion.text)
                # It was shown no tools: calls that it asks for all the same are not handed on.
                text = evidence.completion.text if evidence.completion.tool_calls else None
                return state, (Answer(sample=evidence.sample, why=self._why(state), text=text),)
            case SampleFailed() if evidence.sample == state.sample:
                what = "plan" if state.phase == "planning" else "answer"
                why = f"the {what} failed: {evidence.message or evidence.reason}"
                return state, (Escalate(why=why),)
            case ToolFinished() | ToolFailed() if state.run.owns(evidence.call):
                run, actions = state.run.settle(evidence).advance(state.request.tools)
                state = replace(state, run=run)
                return self._go_on(state, actions)
        return state, ()

    def asked(self, request: Request) -> tuple[Message, ...]:
        """What the planner is sent."""
        return planner_messages(request, self.notation)

    def parsed(self, text: str, tools: Sequence[Tool]) -> Plan:
        """The plan in what the planner wrote. Raises PlanError."""
        return parse_plan(text, self.notation, tools)

    @property
    def _reads_lines(self) -> bool:
        return self.streams and self.notation != "python"

    def _planner(self, state: Planning) -> Sample:
        return Sample(
            samples=(state.sample,),
            messages=state.asked,
            max_tokens=self.plan_tokens,
            tools=(),
            purpose="plan",
            whole=not self._reads_lines,
        )

    def _read(self, state: Planning, text: str) -> tuple[Planning, Actions]:
        """Start calls of whole lines; only such that nobody outside sees."""
        if not self._reads_lines or not text:
            return state, ()
        state = replace(state, written=state.written + text)
        end = state.written.rfind("\n") + 1
        if end <= state.read:
            return state, ()
        lines = state.written[state.read : end].splitlines()
        state = replace(state, read=end)
        tools = {tool.name: tool for tool in state.request.tools}
        steps = state.run.plan.steps
        for line in lines:
            try:
                step = parse_step(line, self.notation, state.request.tools)
            except PlanError:
                return state, ()  # the whole plan will say so
            if step is None:
                continue
            known = {each.id for each in steps}
            hints = tools[step.tool].hints if step.tool in tools else None
            if (
                hints is not None
                and hints.is_private
                and step.id not in known
                and not step_problems(step, tools)
                and known.issuperset(step.cites)
                and len(steps) < self.max_steps
            ):
                steps = (*steps, step)
        run = replace(state.run, plan=Plan(steps=steps))
        run, actions = run.advance(state.request.tools)
        return replace(state, run=run), actions

    def _planned(self, state: Planning, text: str) -> tuple[Planning, Actions]:
        """The plan is written: run it, or have it written again."""
        state = replace(state, plan_text=text, written="", read=0)
        try:
            plan = self.parsed(text, state.request.tools)
            done = tuple(step for step in state.run.plan.steps if step.id in state.run.texts)
            whole = replace(plan, steps=(*done, *plan.steps)) if state.replans else plan
            check_plan(whole, state.request.tools, most_steps=self.max_steps)
        except PlanError as error:
            return self._mend(state, text, str(error))
        stops: Actions = ()
        if state.replans:
            run = state.run.continued(plan)
        elif _begins_with(plan, state.run.plan):
            run = replace(state.run, plan=plan)
        else:  # what was started is no part of it
            run, stops = state.run.superseded("the plan was written otherwise")
            run = replace(run, plan=plan)
        run, actions = run.advance(state.request.tools)
        state = replace(state, run=run, phase="running")
        return self._go_on(state, (*stops, *actions))

    def _mend(self, state: Planning, text: str, wrong: str) -> tuple[Planning, Actions]:
        if state.replans:  # the results so far are enough, or nothing is
            return self._solve(state)
        run, stops = state.run.superseded("the plan cannot be carried out")
        state = replace(state, run=run)
        if state.repaired:
            solving, actions = self._solve(state)
            return solving, (*stops, *actions)
        state = replace(
            state,
            sample=state.sample + 1,
            asked=repair_messages(state.asked, text, wrong),
            repaired=True,
        )
        return state, (*stops, self._planner(state))

    def _go_on(self, state: Planning, actions: Actions) -> tuple[Planning, Actions]:
        """What follows once no call is left: another plan, or the answer."""
        if state.phase != "running" or state.run.running or actions:
            return state, actions
        if not state.run.is_done:
            calls = state.run.for_client(state.request.tools)
            if calls:
                why = f"{len(calls)} calls for the client"
                return state, (Answer(sample=state.sample, why=why, text="", tool_calls=calls),)
        if state.run.failed and self._may_replan(state):
            asked = replan_messages(state.asked, state.plan_text, state.run, self.notation)
            state = replace(
                state,
                phase="planning",
                sample=state.sample + 1,
                asked=asked,
                replans=state.replans + 1,
            )
            return state, (self._planner(state),)
        return self._solve(state)

    def _may_replan(self, state: Planning) -> bool:
        return False

    def _solve(self, state: Planning) -> tuple[Planning, Actions]:
        if self.continued and state.plan_text:
            plan, run = state.plan_text, state.run
            messages = continued_messages(state.asked, plan, run, self.notation)
        else:
            messages = solver_messages(state.request, state.run, self.notation)
        own = messages is state.request.messages
        state = replace(state, phase="solving", sample=state.sample + 1)
        return state, (
            Sample(
                samples=(state.sample,),
                messages=None if own else messages,
                tools=(),
                final=True,
                whole=True,
            ),
        )

    def _why(self, state: Planning) -> str:
        made, failed = len(state.run.results), len(state.run.failed)
        lost = f", {failed} failed" if failed else ""
        return f"answered by {made} step{'' if made == 1 else 's'} of a plan{lost}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewoo(PlanFirst):
    """One sample plans every call, the calls are made, one sample answers.

    Departures: calls whose inputs are there run at once, not one after the other; a plan is checked
    whole and repaired once; any number of steps.
    """

    name: ClassVar[str] = "rewoo"
    paper: ClassVar[str] = "2305.18323"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dag(PlanFirst):
    """As rewoo, but calls start while the plan is being written, and a failure is planned anew.

    Only calls that nobody outside sees start early (tool hints). The planner of another plan is
    told which steps failed, and sees no result: what tools return cannot change which are called.
    Departure from the paper: no sample judges whether to plan again, failures alone decide.
    """

    notation: Notation = option("numbered", "how plans are written: rewoo, numbered or python")
    replan: int = option(1, "plans after the first where calls failed")

    name: ClassVar[str] = "dag"
    paper: ClassVar[str] = "2312.04511"
    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        PlanFirst.__post_init__(self)
        is_count("replan", self.replan, 0)

    def _may_replan(self, state: Planning) -> bool:
        return state.replans < self.replan


def _begins_with(plan: Plan, started: Plan) -> bool:
    """Whether all that was started early is in the plan as it was started."""
    known = {step.id: (step.tool, step.arguments) for step in plan.steps}
    return all(known.get(step.id) == (step.tool, step.arguments) for step in started.steps)
