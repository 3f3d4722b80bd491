"""What came back and what it took: completions, usage, cost, budgets, outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from suffice.core.coverage import Coverage, Exit, Note
from suffice.core.errors import InputError
from suffice.core.requests import ToolCall
from suffice.core.savings import Promise, Saving
from suffice.core.thinking import Thinking

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled"]

# Engines report impossible tokens as -9999 (vLLM, DeepSeek) or -inf; averaging such a value in
# would turn any confidence into noise.
SENTINEL_LOGPROB = -1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """One drawn token with its natural-log probability and the engine's best alternatives.

    `top` holds (token, logprob) pairs, as the engine sent them: with or without the drawn token.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()

    def confidence(self, k: int = 20) -> float | None:
        """Minus the mean logprob of the top `k` alternatives (nats); high means peaked.

        Sentinels are dropped first; None when nothing is left. Without alternatives it is minus
        the drawn token's own logprob, which runs the other way: callers ask for `top` instead.
        Reference: 2508.15260 eq. 2.
        """
        kept = sorted((p for _, p in self.top if p > SENTINEL_LOGPROB), reverse=True)[:k]
        return -sum(kept) / len(kept) if kept else None


def _add(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


def _add_float(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else a + b


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens consumed; OpenAI names, inclusive: cached are prompt, reasoning are completion tokens.

    None means the engine did not say, which is not 0.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=_add(self.cached_tokens, other.cached_tokens),
            reasoning_tokens=_add(self.reasoning_tokens, other.reasoning_tokens),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What usage amounts to; None where no price, shape or hardware is known."""

    tokens: int = 0
    flops: float | None = None
    gpu_s: float | None = None
    usd: float | None = None

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            tokens=self.tokens + other.tokens,
            flops=_add_float(self.flops, other.flops),
            gpu_s=_add_float(self.gpu_s, other.gpu_s),
            usd=_add_float(self.usd, other.usd),
        )


def total_usage(usages: Iterable[Usage]) -> Usage:
    """Usages summed."""
    found = list(usages)
    return found[0] if len(found) == 1 else sum(found, Usage())


def total_cost(costs: Iterable[Cost]) -> Cost:
    """Costs summed; what is not known of one of them is not known of the sum."""
    found = list(costs)
    if len(found) == 1:
        return found[0]

    def total(name: str) -> float | None:
        values = [getattr(each, name) for each in found]
        return None if not values or None in values else sum(values)

    return Cost(
        tokens=sum(each.tokens for each in found),
        flops=total("flops"),
        gpu_s=total("gpu_s"),
        usd=total("usd"),
    )


# (model, usage) -> cost; how money, FLOPs and GPU-seconds enter without a dependency on their plane
CostModel = Callable[[str, Usage], Cost]


def count_tokens_only(model: str, usage: Usage) -> Cost:
    """Cost of `usage` where nothing but the tokens is known."""
    del model
    return Cost(tokens=usage.total_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one request may consume at most; None is unlimited. Enforced by the executor."""

    completion_tokens: int | None = None
    samples: int | None = None
    elapsed_s: float | None = None
    usd: float | None = None
    tool_calls: int | None = None  # attempts of one call count once
    tool_s: float | None = None  # time of all calls together

    def __post_init__(self) -> None:
        for name in ("completion_tokens", "samples", "elapsed_s", "usd", "tool_calls", "tool_s"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"budget {name} must be 0 or more, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Fields of an answer that suffice does not model, as JSON objects; passed on as they came.

    Their values stand in place of what would be written for the modelled fields, too: a server's
    own finish reason, content in parts.
    """

    message_json: str = "{}"  # of the message, or of a stream's delta
    choice_json: str = "{}"
    response_json: str = "{}"  # of the whole answer, or of a stream's event


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One finished (or cancelled) sample. `text` excludes the think block, includes any prefill."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    model: str = ""
    reasoning_text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: Sequence[TokenLogprob] = ()
    prefill: str = ""  # the part of `text` that we wrote, not the model
    extras: Extras | None = None


SampleStatus = Literal["finished", "cancelled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecord:
    """What became of one sample: the receipt's line."""

    sample: int
    model: str
    purpose: str
    status: SampleStatus
    usage: Usage
    plain: bool = True  # drawn of the request as it came, but for model and think block
    prompt_chars: int = 0  # of its conversation and tools; counted where tools are run
    reached: bool = True  # its request was with an engine; if not, it took nothing
    told: bool = True  # the engine told its usage; if not, it was counted or guessed here
    usage_refused: bool = False  # the engine told one that cannot be: negative, or beyond reason
    thinking: Thinking | None = None
    mode_bias_nats: float | None = None  # what the effort added to the log odds of thinking
    answer: str | None = None
    score: float | None = None
    confidence: float | None = None  # mean token confidence in nats, where logprobs were asked for
    reason: str | None = None  # why it failed or who cancelled it
    ttft_s: float | None = None
    e2e_s: float = 0.0

    @property
    def is_vote(self) -> bool:
        """Whether it ended by itself with an answer of its own that can be compared."""
        return self.status == "finished" and self.answer is not None and self.purpose != "probe"


ToolStatus = Literal["finished", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRecord:
    """What became of one call of a tool: the receipt's line. Nothing of its texts is kept."""

    call: int
    tool: str
    status: ToolStatus
    step: str = ""  # its name in the plan
    version: int = 0  # of the plan
    cites: tuple[str, ...] = ()  # steps whose results it was given
    reason: str | None = None  # why it failed, or who cancelled it
    attempts: int = 0  # 0: it was refused, or stopped before its turn came
    argument_chars: int = 0
    result_chars: int = 0  # as the policy saw it
    cut_from: int | None = None  # characters before the result was cut
    began_s: float = 0.0  # after the request
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The accepted completion and the facts of its receipt."""

    completion: Completion
    sample: int  # the accepted sample
    arm: str  # the policy that answered, e.g. adaptive_consistency
    why: str  # for people: no code reads it
    # Calibrated P(right) under a policy file, else the share of comparable samples that gave this
    # answer; None with fewer than two of them. The same for every policy.
    confidence: float | None
    usage: Usage  # summed over every sample
    cost: Cost
    records: tuple[SampleRecord, ...]  # by sample number
    elapsed_s: float
    overhead_s: float  # elapsed time not spent waiting for a backend or the reader
    measure: float | None = None  # what the policy itself went by (core.decisions.Answer)
    escalated: bool = False  # the policy gave up; the completion is its best so far
    exit: Exit | None = None  # how it ended; None: the policy has one way, or the budget ended it
    certificate: Coverage | None = None  # None: no certificate is in play
    saving: Saving | None = None  # against the baseline; None: not compared, or not known
    promised: Promise | None = None  # of the certificate that covers it
    note: Note | None = None  # why nothing, or no more, was compared
    tool_records: tuple[ToolRecord, ...] = ()  # by call number

    def beside(self, saving: Saving | None, promised: Promise | None) -> Outcome:
        """The same with what the baseline would have cost; `replace` takes three times as long."""
        return Outcome(
            completion=self.completion,
            sample=self.sample,
            arm=self.arm,
            why=self.why,
            confidence=self.confidence,
            usage=self.usage,
            cost=self.cost,
            records=self.records,
            elapsed_s=self.elapsed_s,
            overhead_s=self.overhead_s,
            measure=self.measure,
            escalated=self.escalated,
            exit=self.exit,
            certificate=self.certificate,
            saving=saving,
            promised=promised,
            note=self.note,
            tool_records=self.tool_records,
        )

    @property
    def tool_calls_run(self) -> int:
        """Calls that reached their tool."""
        return sum(record.attempts > 0 for record in self.tool_records)

    @property
    def tool_s(self) -> float:
        """Time of all calls together."""
        return sum(record.elapsed_s for record in self.tool_records)

    @property
    def samples_run(self) -> int:
        """Samples that reached an engine."""
        return sum([record.reached for record in self.records])

    @property
    def samples_cancelled(self) -> int:
        """Samples stopped before their end."""
        return sum([record.status == "cancelled" for record in self.records])

    @property
    def accepted_usage(self) -> Usage:
        """What the accepted sample alone took."""
        for record in self.records:
            if record.sample == self.sample:
                return record.usage
        return self.completion.usage

    @property
    def tokens_by_sample(self) -> tuple[tuple[int, int], ...]:
        """(sample, completion tokens) pairs."""
        return tuple((record.sample, record.usage.completion_tokens) for record in self.records)

    @property
    def saved(self) -> float | None:
        """Share of the baseline's cost that was saved; negative: more was spent than it would have.

        None where the baseline would have done the same, or its cost is not known.
        """
        return None if self.saving is None else self.saving.saved

    @property
    def votes(self) -> tuple[tuple[str, int], ...]:
        """(answer, count) pairs, most frequent first, ties by first appearance."""
        counts: dict[str, int] = {}
        for record in self.records:
            if record.is_vote and record.answer is not None:
                counts[record.answer] = counts.get(record.answer, 0) + 1
        return tuple(sorted(counts.items(), key=lambda item: -item[1]))
