"""The decision loop's vocabulary: what a policy sees (Evidence) and what it may ask for (Action).

Policies are pure. `start(request)` gives a state and the first actions, `step(state, evidence)` the
next ones. A policy has no clock, no I/O and no randomness, so that the same object runs live and
over recorded evidence. An executor carries the actions out and enforces the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from suffice.core.completions import Completion, Cost
from suffice.core.coverage import Coverage, Exit, Note
from suffice.core.requests import Message, Request, Tool, ToolCall
from suffice.core.thinking import Thinking

# What happened to a sample that gave nothing usable. "budget": the executor refused or cut it.
Failure = Literal["refused", "timeout", "disconnected", "malformed", "rejected", "budget"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSeen:
    """Tokens of one running sample, as they stream in."""

    sample: int
    text: str  # the answer's text in this chunk, without any prefill
    reasoning_text: str = ""
    tokens: int = 0  # completion tokens in this chunk
    confidences: Sequence[float] = ()  # nats per token; empty without logprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFinished:
    """One sample ended by itself; `answer` is its comparable key, None if none was found."""

    sample: int
    completion: Completion
    answer: str | None = None
    score: float | None = None  # the verifier's or reward function's, where one was given
    confidences: Sequence[float] = ()  # nats per token, of the whole sample


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFailed:
    """One sample gave nothing: it never will."""

    sample: int
    reason: Failure
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time and cost so far; sent at set intervals."""

    elapsed_s: float
    cost: Cost


# Why a call of a tool gave no result. "raised": the tool said it went wrong; "unknown": there is no
# such tool; "arguments": they are not what it takes; "lost": its server went away; "budget": the
# executor refused it.
ToolFailure = Literal["raised", "timeout", "unknown", "arguments", "lost", "budget"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFinished:
    """A tool's result, as text; `cut_from`: the characters it had before it was cut."""

    call: int
    result: str
    cut_from: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFailed:
    """A call gave no result: it never will."""

    call: int
    reason: ToolFailure
    message: str = ""


Evidence = ChunkSeen | SampleFinished | SampleFailed | ToolFinished | ToolFailed | Tick


Purpose = Literal["answer", "probe", "revision", "plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Draw the samples numbered `samples`, all alike but for their seed.

    The policy numbers them itself, each number once, so that it can cancel them and composed
    policies can shift each other's. None takes the request's own value.
    """

    samples: tuple[int, ...]
    model: str | None = None
    thinking: Thinking | None = None
    max_tokens: int | None = None
    prefill: str = ""  # text that the assistant's turn begins with
    # Sent before the prefill, but no part of the answer: a closed think block, or what another
    # sample has said. It is not shown, and no answer is looked for in it.
    preface: str = ""
    messages: tuple[Message, ...] | None = None  # another conversation, e.g. to revise an attempt
    temperature: float | None = None
    stop: tuple[str, ...] = ()  # in addition to the request's
    top_logprobs: int | None = None  # alternatives per token that the policy needs
    purpose: Purpose = "answer"
    final: bool = False  # the policy will answer with this one: its tokens may be shown at once
    # The policy acts on nothing before their end and takes none of them back: an engine need not
    # stream them.
    whole: bool = False
    tools: tuple[Tool, ...] | None = None  # that the model is shown; (): none


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTool:
    """Run a tool of the request that is run here.

    The policy numbers its calls itself, each number once. A `step` of a plan is called at most once
    per `version` of the plan, which the executor holds.
    """

    call: int
    tool: str
    arguments_json: str
    step: str = ""  # its name in the plan; "" where there is no plan
    version: int = 0
    cites: tuple[str, ...] = ()  # steps whose results its arguments were made of


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Stop a running sample; its tokens so far stay paid for."""

    sample: int
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTool:
    """Stop a call that runs or waits; what it has done by then is done."""

    call: int
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Accept `sample` and cancel everything still running.

    `text` replaces the sample's own, for answers put together from several (a partial trace and
    the probe that ended it). `why` is for people; what other code needs are the fields below.

    `measure` is what the policy itself went by, which a step of a cascade is held against: the
    agreement of a vote, a verifier's score, the token probability of a single sample. Each policy
    has its own; what an outcome calls its confidence means the same for all.
    """

    sample: int
    why: str
    measure: float | None = None
    probability: float | None = None  # calibrated P(right), where a policy file has one
    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()  # for the client to run; they replace the sample's own
    exit: Exit | None = None  # None: the policy has one way to end
    certificate: Coverage | None = None
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalate:
    """Give up: hand over to whoever is above, with the best sample so far (None: there is none)."""

    why: str
    best: int | None = None
    measure: float | None = None
    probability: float | None = None
    text: str | None = None
    exit: Exit | None = None
    certificate: Coverage | None = None
    note: Note | None = None


Action = Sample | CallTool | Cancel | CancelTool | Answer | Escalate
Actions = tuple[Action, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowBelow:
    """Acts once the mean of the sample's last `size` token confidences is below `threshold`.

    No sooner than `size` tokens; the mean is that of suffice.policies.confidence_signals.Window.
    """

    size: int
    threshold: float


# What of a running sample's tokens a policy acts on. "nothing": it waits for the end of a sample.
# "everything": it may act on any chunk.
Trigger = Literal["nothing", "everything"] | WindowBelow

# What a policy cannot do without.
Need = Literal["logprobs", "prefill", "score"]

S = TypeVar("S")


class Policy(Protocol[S]):
    """How much now? A pure state machine; its state is frozen data that core.serial can store."""

    @property
    def name(self) -> str:
        """The arm's name on the receipt."""
        ...

    @property
    def needs(self) -> frozenset[Need]:
        """Capabilities without which the executor refuses to start."""
        ...

    @property
    def waits_for_ends(self) -> bool:
        """Whether it acts on ends of samples only, in every state."""
        ...

    def draws_once(self, request: Request) -> bool:
        """Whether it asks once for one sample, and answers with it or gives up without it."""
        ...

    def start(self, request: Request) -> tuple[S, Actions]:
        """The first state and actions for `request`."""
        ...

    def step(self, state: S, evidence: Evidence) -> tuple[S, Actions]:
        """The next state and actions after `evidence`."""
        ...

    def acts_on(self, state: S, sample: int) -> Trigger:
        """What of a running sample's tokens it acts on in this state.

        It lets recorded samples be played in long pieces: a policy promises that, in this state,
        it will not act on tokens of the sample that do not fulfil it.
        """
        ...


AnyPolicy = Policy[Any]


class BasePolicy:
    """Base of policies: one that may act on any chunk of a running sample."""

    __slots__ = ()

    @property
    def waits_for_ends(self) -> bool:
        """Whether it acts on ends of samples only, in every state."""
        return False

    def draws_once(self, request: Request) -> bool:
        """It may ask for others."""
        del request
        return False

    def acts_on(self, state: Any, sample: int) -> Trigger:
        """Every chunk."""
        del state, sample
        return "everything"


class WholeSamples(BasePolicy):
    """Base of policies that act on ends of samples only."""

    __slots__ = ()

    @property
    def waits_for_ends(self) -> bool:
        """It does, in every state."""
        return True

    def acts_on(self, state: Any, sample: int) -> Trigger:
        """Nothing before the end."""
        del state, sample
        return "nothing"
