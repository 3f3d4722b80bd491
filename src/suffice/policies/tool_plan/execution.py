"""A plan while it runs: which calls may start, which have ended, what each step came to. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from suffice.core.decisions import Actions, CallTool, CancelTool, ToolFailed, ToolFinished
from suffice.core.requests import Tool, ToolCall
from suffice.core.serial import stored
from suffice.policies.tool_plan.plan import Plan, PlanError, Step, arguments_of, schema_of
from suffice.tools.json_schema import problems


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step came to: its result, or the word for its failure and a message about it."""

    step: str
    text: str = ""
    failure: str | None = None
    cut_from: int | None = None


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A call that was made, and its result once another version of the plan may use it again."""

    tool: str
    arguments_json: str
    step: str
    text: str = ""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRun:
    """A plan, its calls, and its results. `version` counts plans of the request from 0."""

    plan: Plan = field(default_factory=Plan)
    version: int = 0
    results: tuple[StepResult, ...] = ()
    running: tuple[tuple[int, str], ...] = ()  # calls and their steps
    made: tuple[Made, ...] = ()  # by this version
    earlier: tuple[Made, ...] = ()  # by versions before, with results: they are not made again
    next_call: int = 0

    @property
    def is_done(self) -> bool:
        """Whether every step has ended."""
        return not self.running and len(self.results) == len(self.plan.steps)

    @property
    def failed(self) -> tuple[StepResult, ...]:
        """Steps without a result."""
        return tuple(each for each in self.results if each.failure is not None)

    @property
    def texts(self) -> dict[str, str]:
        """Results by step."""
        return {each.step: each.text for each in self.results if each.failure is None}

    def owns(self, call: int) -> bool:
        """Whether a call is one of its own that runs."""
        return any(number == call for number, _ in self.running)

    def settle(self, evidence: ToolFinished | ToolFailed) -> PlanRun:
        """The run after one of its calls ended."""
        step = next((name for number, name in self.running if number == evidence.call), None)
        if step is None:
            return self
        if isinstance(evidence, ToolFinished):
            found = StepResult(step=step, text=evidence.result, cut_from=evidence.cut_from)
        else:
            found = StepResult(step=step, text=evidence.message, failure=evidence.reason)
        left = tuple(each for each in self.running if each[0] != evidence.call)
        return replace(self, running=left, results=(*self.results, found))

    def advance(self, tools: Sequence[Tool]) -> tuple[PlanRun, Actions]:
        """Start every call whose inputs are there; steps that cite a failed one fail with it."""
        known = {tool.name: tool for tool in tools}
        run, actions = self, list[CallTool]()
        moved = True
        while moved:  # a failure, or a result that was there already, may free further steps
            moved = False
            for step in run._waiting():
                ended, action = run._try(step, known)
                if ended is not None:
                    run, moved = replace(run, results=(*run.results, ended)), True
                elif action is not None:
                    run = replace(
                        run,
                        running=(*run.running, (action.call, step.id)),
                        made=(
                            *run.made,
                            Made(
                                tool=action.tool,
                                arguments_json=action.arguments_json,
                                step=step.id,
                            ),
                        ),
                        next_call=run.next_call + 1,
                    )
                    actions.append(action)
        return run, tuple(actions)

    def for_client(self, tools: Sequence[Tool]) -> tuple[ToolCall, ...]:
        """Calls that only the client can make and whose inputs are there, all at once."""
        known = {tool.name: tool for tool in tools}
        texts, found = self.texts, list[ToolCall]()
        for step in self._waiting():
            if known[step.tool].hints is None and all(each in texts for each in step.cites):
                try:
                    arguments = arguments_of(step, texts, known[step.tool])
                except PlanError:
                    continue
                label = f"call_{self.version}_{step.id}"
                found.append(ToolCall(id=label, name=step.tool, arguments=arguments))
        return tuple(found)

    def superseded(self, why: str) -> tuple[PlanRun, Actions]:
        """An empty run of the next version, which makes none of this one's calls again."""
        texts = self.texts
        earlier = tuple(
            replace(each, text=texts[each.step]) for each in self.made if each.step in texts
        )
        stops = tuple(CancelTool(call=call, why=why) for call, _ in self.running)
        run = PlanRun(
            version=self.version + 1,
            earlier=(*self.earlier, *earlier),
            next_call=self.next_call,
        )
        return run, stops

    def continued(self, plan: Plan) -> PlanRun:
        """The next version: the steps that have results, with these, and the steps of `plan`."""
        texts = self.texts
        done = tuple(step for step in self.plan.steps if step.id in texts)
        return replace(
            self,
            plan=Plan(steps=(*done, *plan.steps), answer=plan.answer),
            version=self.version + 1,
            results=tuple(each for each in self.results if each.failure is None),
        )

    def _waiting(self) -> tuple[Step, ...]:
        ended = {each.step for each in self.results} | {step for _, step in self.running}
        return tuple(step for step in self.plan.steps if step.id not in ended)

    def _try(
        self, step: Step, tools: Mapping[str, Tool]
    ) -> tuple[StepResult | None, CallTool | None]:  # fmt: skip
        """What a waiting step came to, or the call that it makes; neither: it waits."""
        texts = self.texts
        lost = [each.step for each in self.failed if each.step in step.cites]
        if lost:
            why = f"it cites step {lost[0]}, which failed"
            return StepResult(step=step.id, failure="cites a failure", text=why), None
        tool = tools[step.tool]  # the plan was checked
        if tool.hints is None or any(each not in texts for each in step.cites):
            return None, None
        try:
            arguments = arguments_of(step, texts, tool)
            wrong = "; ".join(problems(json.loads(arguments), schema_of(tool)))
        except PlanError as error:
            arguments, wrong = "", str(error)
        if wrong:
            return StepResult(step=step.id, failure="arguments", text=wrong), None
        for each in self.earlier:
            if (each.tool, each.arguments_json) == (step.tool, arguments):
                return StepResult(step=step.id, text=each.text), None
        return None, CallTool(
            call=self.next_call,
            tool=step.tool,
            arguments_json=arguments,
            step=step.id,
            version=self.version,
            cites=step.cites,
        )
