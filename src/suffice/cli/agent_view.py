"""The live view of `suffice agent`: samples above, calls with what they cite below."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from suffice.cli.ask_view import View
from suffice.cli.lazy_group import HELP_ONLY
from suffice.core.completions import Outcome
from suffice.core.decisions import CallTool
from suffice.core.quantities import counted, format_seconds

if not HELP_ONLY:
    from suffice.executors.events import ToolEnded, ToolStarted, ToolStopped
    from suffice.executors.live import Event

MOST_CALLS = 24
_CHARS = 60


@dataclass(slots=True)
class CallRow:
    """What is known of one call so far."""

    action: CallTool
    status: str = "running"
    result: str = ""


@dataclass(slots=True)
class AgentView(View):
    """As the view of `ask`, with the calls of tools."""

    calls: dict[int, CallRow] = field(default_factory=dict)

    def see(self, event: Event) -> None:
        """Take one event of the executor in."""
        match event:
            case ToolStarted(action=action):
                self.calls[action.call] = CallRow(action=action)
            case ToolEnded(ended=ended) if ended.call in self.calls:
                row = self.calls[ended.call]
                row.status = "finished" if ended.failure is None else "failed"
                row.result = ended.result if ended.failure is None else ended.message
            case ToolStopped(call=call) if call in self.calls:
                self.calls[call].status = "cancelled"
            case _:
                View.see(self, event)

    def __rich__(self) -> RenderableType:
        return Group(View.__rich__(self), self._calls())

    def final(self, outcome: Outcome) -> RenderableType:
        """The answer, its calls and its receipt."""
        made = counted(outcome.tool_calls_run, "call")
        took = f"{made}, {format_seconds(outcome.tool_s)} in tools"
        return Group(self._calls(), View.final(self, outcome), Text(took))

    def _calls(self) -> RenderableType:
        if not self.calls:
            return Text("")
        table = Table("step", "tool", "arguments", "cites", "", "result", box=None, pad_edge=False)
        for row in list(self.calls.values())[-MOST_CALLS:]:
            action = row.action
            table.add_row(
                action.step or str(action.call),
                action.tool,
                _short(action.arguments_json),
                " ".join(action.cites),
                row.status,
                _short(row.result),
            )
        return table


def _short(text: str) -> Text:
    """A text on one line; a result may hold anything, so that nothing of it is markup."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return Text(line if len(line) <= _CHARS else f"{line[: _CHARS - 1]}…")
