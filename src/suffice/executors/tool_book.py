"""The tool calls of one request: what may run, what runs, and what became of it. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from suffice.core.completions import Budget, ToolRecord, ToolStatus
from suffice.core.decisions import CallTool, ToolFailed, ToolFailure, ToolFinished
from suffice.core.errors import PolicyMisbehaved
from suffice.core.requests import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCall:
    """Command: run this call; `limit_s` is what the budget leaves it, its wait included."""

    action: CallTool
    limit_s: float | None = None

    @property
    def call(self) -> int:
        """Its number."""
        return self.action.call


@dataclass(frozen=True, slots=True, kw_only=True)
class StopCall:
    """Command: stop this call."""

    call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """How a call ended, as its driver tells: with a result, or by a failure."""

    call: int
    result: str = ""
    cut_from: int | None = None
    failure: ToolFailure | None = None
    message: str = ""


@dataclass(slots=True)
class _Running:
    start: StartCall
    began_s: float
    attempts: int = 0


class ToolBook:
    """Every tool call of a request."""

    def __init__(self, budget: Budget, tools: Sequence[Tool]) -> None:
        self._budget = budget
        self._names = frozenset(tool.name for tool in tools if tool.hints is not None)
        self.running: dict[int, _Running] = {}
        self._records: dict[int, ToolRecord] = {}
        self._steps: set[tuple[int, str]] = set()
        self._began = 0
        self._spent_s = 0.0
        self._origin_s = 0.0

    def start(self, now_s: float) -> None:
        """The request begins."""
        self._origin_s = now_s

    def begin(
        self, action: CallTool, now_s: float, *, siblings: int = 1
    ) -> StartCall | ToolFailed:  # fmt: skip
        """The command that runs a call, or why it may not. `siblings`: asked for together.

        Raises PolicyMisbehaved where a call's number, or a step of the same version of a plan, is
        asked for again.
        """
        if action.call in self.running or action.call in self._records:
            raise PolicyMisbehaved(f"tool call {action.call} was asked for twice")
        step = (action.version, action.step)
        if action.step and step in self._steps:
            raise PolicyMisbehaved(
                f"step {action.step} of version {action.version} of the plan was asked for twice"
            )
        self._steps.add(step)
        refused = self._refusal(action)
        limit_s = self._share_s(siblings) if refused is None else None
        if refused is None and limit_s is not None and limit_s <= 0.0:
            refused = "budget", f"the {self._budget.tool_s:g} s for tools are used up"
        if refused is not None:
            reason, message = refused
            self._records[action.call] = replace(
                _record(action, now_s - self._origin_s), reason=message
            )
            return ToolFailed(call=action.call, reason=reason, message=message)
        self._began += 1
        start = StartCall(action=action, limit_s=limit_s)
        self.running[action.call] = _Running(start, now_s)
        return start

    def attempt(self, call: int) -> None:
        """A call goes to its tool, for the first time or once more."""
        if call in self.running:
            self.running[call].attempts += 1

    def end(self, ended: CallEnded, now_s: float) -> ToolFinished | ToolFailed | None:
        """The evidence that a call ended; None if it does not run."""
        status: ToolStatus = "finished" if ended.failure is None else "failed"
        if not self._close(ended.call, now_s, status, ended):
            return None
        if ended.failure is not None:
            return ToolFailed(call=ended.call, reason=ended.failure, message=ended.message)
        return ToolFinished(call=ended.call, result=ended.result, cut_from=ended.cut_from)

    def cancel(self, call: int, now_s: float, why: str) -> bool:
        """A call is stopped; False if it does not run."""
        return self._close(call, now_s, "cancelled", CallEnded(call=call, message=why))

    def records(self) -> tuple[ToolRecord, ...]:
        """The receipt's lines, by call number."""
        return tuple(record for _, record in sorted(self._records.items()))

    def _close(self, call: int, now_s: float, status: ToolStatus, ended: CallEnded) -> bool:
        running = self.running.pop(call, None)
        if running is None:
            return False
        elapsed_s = max(0.0, now_s - running.began_s)
        self._spent_s += elapsed_s
        self._records[call] = replace(
            _record(running.start.action, running.began_s - self._origin_s),
            status=status,
            reason=ended.message or None,
            attempts=running.attempts,
            result_chars=len(ended.result),
            cut_from=ended.cut_from,
            elapsed_s=elapsed_s,
        )
        return True

    def _refusal(self, action: CallTool) -> tuple[ToolFailure, str] | None:
        if action.tool not in self._names:
            known = ", ".join(sorted(self._names)) or "none"
            return "unknown", f"there is no tool {action.tool!r} (there are {known})"
        try:
            arguments = json.loads(action.arguments_json)
        except (ValueError, RecursionError) as error:
            return "arguments", f"the arguments are no JSON: {error}"
        if not isinstance(arguments, dict):
            return "arguments", "the arguments must be a JSON object"
        most = self._budget.tool_calls
        if most is not None and self._began >= most:
            return "budget", f"all {most} tool calls of the budget are used"
        return None

    def _share_s(self, siblings: int) -> float | None:
        """What is left of the time for tools, shared with calls asked for at the same time."""
        if self._budget.tool_s is None:
            return None
        promised = sum(each.start.limit_s or 0.0 for each in self.running.values())
        return (self._budget.tool_s - self._spent_s - promised) / max(1, siblings)


def _record(action: CallTool, began_s: float) -> ToolRecord:
    return ToolRecord(
        call=action.call,
        tool=action.tool,
        status="failed",
        step=action.step,
        version=action.version,
        cites=action.cites,
        argument_chars=len(action.arguments_json),
        began_s=began_s,
    )
