"""The ledger's rows. Field names are column names; None is what nobody told."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from suffice.core.coverage import CertificateStatus, Exit
from suffice.core.savings import Basis, CostUnit, Method, Promise, share_saved

# answered: complete; failed: an error instead, or after a part of it; left: the client went away.
CallEnding = Literal["answered", "failed", "left"]
# Where the token counts come from: the engine's usage, or counted events and bytes.
UsageSource = Literal["engine", "estimated"]


def saved_of(cost: float | None, baseline_cost: float | None, basis: str | None) -> float | None:
    """What a row's costs say was saved; None where the baseline would have done the same."""
    if cost is None or baseline_cost is None or basis == "same":
        return None
    return share_saved(cost, baseline_cost)


class RequestRow(NamedTuple):
    """One request and its outcome, without any text of it; fields are given by name.

    A tuple, as one is made and written for every request: that takes half the time of a dataclass.
    """

    id: str
    started_s: float  # Unix time
    endpoint: str
    model: str | None = None  # as the client asked for it
    served_model: str | None = None
    arm: str | None = None  # the policy that answered; bypass passes through
    key_id: str | None = None
    ending: CallEnding = "answered"
    status: int | None = None
    error_code: str | None = None
    stream: int = 0
    choices: int = 1
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_source: UsageSource | None = None
    samples: int | None = None
    samples_cancelled: int | None = None
    confidence: float | None = None
    escalated: int | None = None
    accepted_sample: int | None = None
    why: str | None = None  # for people: no code reads it
    usd: float | None = None
    flops: float | None = None
    gpu_s: float | None = None
    first_byte_s: float | None = None  # from the request's arrival
    elapsed_s: float = 0.0
    overhead_s: float | None = None  # a policy's time that nobody was waited for
    lambda_price: float | None = None  # auto's price when it chose
    trace_id: str | None = None
    request_id: str | None = None  # what the client calls it, where it says so
    exit: Exit | None = None  # how the policy ended
    certificate: str | None = None  # id of the one in play, and how it stands to this request
    certificate_status: CertificateStatus | None = None
    zeros: int | None = None  # answers of the baseline right before one that is not the baseline's
    # Compared with the baseline (suffice.core.savings): None where nothing was.
    baseline: str | None = None
    compared_cost: float | None = None
    baseline_cost: float | None = None
    cost_unit: CostUnit | None = None
    saving_basis: Basis | None = None
    saving_method: Method | None = None
    engine_s: float | None = None  # what engines worked on it (suffice.executors.engine_time)

    @property
    def saved(self) -> float | None:
        """Share of the baseline's cost that was saved; None where it would have done the same."""
        return saved_of(self.compared_cost, self.baseline_cost, self.saving_basis)


class SampleRow(NamedTuple):
    """One action that reached an engine: a sample, probe or revision; fields are given by name."""

    request_id: str
    choice: int
    sample: int
    model: str
    purpose: str
    status: str
    prompt_tokens: int
    completion_tokens: int
    score: float | None = None
    confidence: float | None = None
    reason: str | None = None
    answer: str | None = None  # only where outputs are stored
    ttft_s: float | None = None
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallRow:
    """One call of a tool that was run here, without its texts; `number` counts them from 0."""

    request_id: str
    choice: int
    number: int
    tool: str
    status: str
    step: str = ""  # its name in the plan; "" where there is no plan
    version: int = 0  # of the plan
    cites: str = ""  # steps whose results it was given, with spaces between them
    reason: str | None = None  # why it failed: the tool's text, only where outputs are stored
    attempts: int = 0
    argument_chars: int = 0
    result_chars: int = 0
    cut_from: int | None = None
    began_s: float = 0.0  # after the request
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """What was asked and answered, redacted; written only where the operator asked for it."""

    request_id: str
    prompt: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRow:
    """A judgement of one request: right or wrong, or a score in [0, 1]."""

    id: str
    request_id: str
    at_s: float
    score: float
    key_id: str | None = None
    source: str | None = None  # who judged: user, check, the name of an evaluation
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """A covered answer that the baseline answered too, at the operator's cost, or that was judged.

    Tokens and money are of the samples that were drawn for the audit alone.
    """

    request_id: str
    at_s: float
    certificate: str
    zeros: int = 0
    differs: int | None = None  # whether the answers differ; None: they were not compared
    harmed: int | None = None  # only the baseline is right; None: nobody has judged
    helped: int | None = None  # only the certified answer is
    judged_s: float | None = None
    judge: str | None = None  # the key that judged
    samples: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None
    elapsed_s: float = 0.0
    error_code: str | None = None  # why there is nothing to compare
    engine_s: float | None = None  # what engines worked on the samples drawn for it alone


Row = RequestRow | SampleRow | ToolCallRow | TextRow | FeedbackRow | AuditRow

TABLES: dict[type, str] = {
    RequestRow: "requests",
    SampleRow: "samples",
    ToolCallRow: "tool_calls",
    TextRow: "texts",
    FeedbackRow: "feedback",
    AuditRow: "audits",
}
COLUMNS: dict[type, tuple[str, ...]] = {kind: tuple(kind.__annotations__) for kind in TABLES}
# The types of columns as they are written here.
TYPES: dict[type, dict[str, str]] = {
    kind: {name: str(getattr(found, "__forward_arg__", found)) for name, found in
           kind.__annotations__.items()}
    for kind in TABLES
}  # fmt: skip
_GETTERS = {
    kind: attrgetter(*names) for kind, names in COLUMNS.items() if not issubclass(kind, tuple)
}


def values_of(row: Row) -> tuple[Any, ...]:
    """The row's values in the order of COLUMNS, as every database takes them."""
    values: tuple[Any, ...] = row if isinstance(row, tuple) else _GETTERS[type(row)](row)
    for value in values:
        if type(value) is str and not (value.isascii() and "\x00" not in value):
            return tuple([_storable(each) if type(each) is str else each for each in values])
    return values


def _storable(value: str) -> str:
    """Text without what no database takes: NUL in PostgreSQL, lone surrogates in either."""
    if "\x00" in value:
        value = value.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Everything about one request, written together or not at all."""

    request: RequestRow
    samples: tuple[SampleRow, ...] = ()
    tool_calls: tuple[ToolCallRow, ...] = ()
    text: TextRow | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in which a key's use is counted; `kind` names its length."""

    key_id: str
    kind: str
    start_s: int


# The kind of the short windows in which rates are counted.
SLICE = "slice"


@dataclass(frozen=True, slots=True)
class Watched:
    """A key whose totals are wanted: of its budget's window, and of slices from `since_s` on."""

    budget: Window
    since_s: int


@dataclass(frozen=True, slots=True)
class Used:
    """Requests, tokens and money."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.requests + other.requests, self.tokens + other.tokens, self.usd + other.usd
        )


@dataclass(slots=True, kw_only=True)
class Batch:
    """What one transaction writes. Writing it twice counts once: its id is written with it."""

    id: str
    at_s: float
    entries: list[Entry] = field(default_factory=list)
    feedback: list[FeedbackRow] = field(default_factory=list)
    traffic: dict[tuple[int, str], tuple[float, ...]] = field(default_factory=dict)
    latency: dict[tuple[int, str, int], int] = field(default_factory=dict)
    used: dict[Window, Used] = field(default_factory=dict)
    watched: list[Watched] = field(default_factory=list)
    moved: dict[str, float] = field(default_factory=dict)  # shared numbers and their changes
    process: tuple[str, str] | None = None  # this process's name and its state as JSON
    monitors: dict[str, dict[int, float]] = field(default_factory=dict)  # by certificate, by cell
    alarms: dict[str, str] = field(default_factory=dict)  # by certificate; text for people
    promises: dict[str, Promise] = field(default_factory=dict)  # certificates, and what they say

    @property
    def rows(self) -> int:
        """Rows of requests, samples, calls of tools, texts and feedback."""
        return len(self.feedback) + sum(
            1 + len(e.samples) + len(e.tool_calls) + (e.text is not None) for e in self.entries
        )

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return bool(
            self.entries or self.feedback or self.traffic or self.used or self.moved
            or self.process or self.alarms or self.promises or any(self.monitors.values())
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Totals over all processes as the database has them, and the keys' version."""

    used: dict[Window, Used]
    shared: dict[str, float]
    keys_version: int
    monitors: dict[str, dict[int, float]] = field(default_factory=dict)  # of those in the batch
    alarms: dict[str, str] = field(default_factory=dict)
