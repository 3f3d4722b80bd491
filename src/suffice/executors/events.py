"""What happens to the samples of one request, as the live loop tells it."""

from __future__ import annotations

from dataclasses import dataclass

from suffice.backends.protocol import Chunk
from suffice.core.completions import Completion, Outcome
from suffice.core.decisions import CallTool
from suffice.core.errors import BackendError
from suffice.executors.running_sample import Launch
from suffice.executors.tool_book import CallEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """Event: a sample was sent to the backend; `unstreamed` ones show nothing before their end."""

    launch: Launch
    unstreamed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """Event: a chunk of a sample arrived; `final` if the policy will answer with that sample."""

    sample: int
    chunk: Chunk
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Event: a sample ended by itself, with the answer that was found in it."""

    sample: int
    completion: Completion
    answer: str | None
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Event: a sample's stream broke."""

    sample: int
    error: BackendError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Event: a sample's stream was closed before its end, and the upstream knows."""

    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted:
    """Event: a tool is called."""

    action: CallTool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEnded:
    """Event: a call ended, with a result or a failure."""

    ended: CallEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStopped:
    """Event: a call was stopped before its end."""

    call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Event, always the last: the outcome."""

    outcome: Outcome


ToolEvent = ToolStarted | ToolEnded | ToolStopped
Event = Launched | Streamed | Finished | Failed | Stopped | ToolEvent | Settled
