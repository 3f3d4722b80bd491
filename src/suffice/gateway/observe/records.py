"""The ledger's rows of a call that has ended. Made in the ledger's thread."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from suffice.core.completions import Cost, Outcome, SampleRecord, ToolRecord, Usage
from suffice.core.savings import together
from suffice.gateway.calls import Call
from suffice.ledger.records import (
    CallEnding,
    Entry,
    RequestRow,
    SampleRow,
    TextRow,
    ToolCallRow,
    UsageSource,
)

# A rough size where no engine told the true one: bytes of English text and JSON per token.
BYTES_PER_TOKEN = 4
LEFT = 499
_NO_USAGE = Usage()


def ending_of(call: Call) -> CallEnding:
    """How the call ended for its client."""
    if call.left or call.status in (0, LEFT):
        return "left"
    if call.error is not None or call.status >= 400:
        return "failed"
    return "answered" if call.complete else "left"


Spent = list[tuple[str, Usage]]


def spent_of(call: Call, body_bytes: int) -> tuple[Spent, UsageSource]:
    """What the call took of each model: as engines told it, else as far as it can be told here.

    Only what reached an engine counts. Nothing did if the list is empty.
    """
    live = call.samples
    prompt = body_bytes // BYTES_PER_TOKEN
    records: list[SampleRecord] = []
    if call.outcomes:
        records = [record for outcome in call.outcomes for record in outcome.records]
    if records and (live is None or len(call.outcomes) == len({c for c, _ in live.samples})):
        spent = [(record.model, record.usage) for record in records if record.reached]
        return spent, _source(record.told for record in records)
    if live is not None and live.samples:
        # A policy whose client left, or that failed: what its samples drew was drawn.
        drawn_by = live.spent(call.reached, prompt)
        source = _source(known for _, _, known in drawn_by)
        return [(sample.model, usage) for sample, usage, _ in drawn_by], source
    if call.usage is not None:
        return [(call.target, call.usage)], "engine"
    if call.endpoint is not None and call.endpoint.kind == "other":
        return [], "estimated"  # sound, pictures, vectors: bytes tell nothing of tokens
    if call.cache == "hit" or not call.reached.get(0) or call.error == "upstream_rejected":
        return [], "estimated"
    drawn = call.pieces or call.sent_bytes // BYTES_PER_TOKEN
    return [(call.target, Usage(prompt_tokens=prompt, completion_tokens=drawn))], "estimated"


def _source(from_engine: Iterable[bool]) -> UsageSource:
    return "engine" if all(from_engine) else "estimated"


def entry_of(
    call: Call,
    *,
    usage: Usage | None,
    source: UsageSource,
    cost: Cost,
    price: float | None,
    text: TextRow | None,
    answers: bool,
    body_bytes: int,
) -> Entry:
    """The rows of `call`; `answers` says whether what samples answered may be kept."""
    outcomes = call.outcomes
    first = outcomes[0] if outcomes else None
    ending = ending_of(call)
    saving = None
    if outcomes and ending == "answered":
        saving = together(outcome.saving for outcome in outcomes)
    usage_or_zeros = usage or _NO_USAGE
    standing = first.certificate if first else None
    request = RequestRow(
        id=call.id,
        started_s=call.began_unix_s,
        endpoint=call.path,
        model=_short(call.model),
        served_model=_short(_answered_by(call)),
        arm=(first.arm if first else call.arm) or None,
        key_id=call.principal,
        ending=ending,
        status=call.status or None,
        error_code=call.error,
        stream=int(call.stream),
        choices=max(1, len(outcomes)),
        prompt_tokens=None if usage is None else usage_or_zeros.prompt_tokens,
        completion_tokens=None if usage is None else usage_or_zeros.completion_tokens,
        cached_tokens=usage_or_zeros.cached_tokens,
        reasoning_tokens=usage_or_zeros.reasoning_tokens,
        usage_source=None if usage is None else source,
        samples=_total(outcomes, lambda o: o.samples_run),
        samples_cancelled=_total(outcomes, lambda o: o.samples_cancelled),
        confidence=first.confidence if first else None,
        escalated=int(any(o.escalated for o in outcomes)) if outcomes else None,
        accepted_sample=first.sample if first else None,
        why=_short(first.why) if first else None,
        exit=first.exit if first else None,
        certificate=None if standing is None else standing.id,
        certificate_status=None if standing is None else standing.status,
        zeros=call.zeros,
        usd=cost.usd,
        flops=cost.flops,
        gpu_s=cost.gpu_s,
        first_byte_s=call.first_byte_s,
        elapsed_s=call.ended_s or 0.0,
        overhead_s=sum(o.overhead_s for o in outcomes) if outcomes else None,
        lambda_price=price,
        trace_id=call.trace_id,
        request_id=call.own_id,
        baseline=None if saving is None else saving.baseline,
        compared_cost=None if saving is None else saving.cost,
        baseline_cost=None if saving is None else saving.baseline_cost,
        cost_unit=None if saving is None else saving.unit,
        saving_basis=None if saving is None else saving.basis,
        saving_method=None if saving is None else saving.method,
        engine_s=None if call.timed is None else call.timed.total_s,
    )
    if not outcomes:
        return Entry(request=request, samples=_left_behind(call, body_bytes), text=text)
    samples = tuple([
        _sample(call.id, choice, record, answers=answers)
        for choice, outcome in enumerate(outcomes)
        for record in outcome.records
        if record.reached
    ])  # fmt: skip
    tool_calls = tuple([
        _tool_call(call.id, choice, record, texts=answers)
        for choice, outcome in enumerate(outcomes)
        for record in outcome.tool_records
    ])  # fmt: skip
    return Entry(
        request=request,
        samples=samples or _left_behind(call, body_bytes),
        tool_calls=tool_calls,
        text=text,
    )


def _answered_by(call: Call) -> str | None:
    """The model whose answer was sent, whole or in part; None if none was, or nobody can tell."""
    if call.outcomes:
        return call.outcomes[0].completion.model
    live = call.samples
    if call.answered_by is None and call.sent_bytes and live is not None:
        models = {sample.model for sample in live.samples.values()}
        return models.pop() if len(models) == 1 else None
    return call.answered_by


def _total(outcomes: Sequence[Outcome], count: Callable[[Outcome], int]) -> int | None:
    return sum(map(count, outcomes)) if outcomes else None


def _sample(request_id: str, choice: int, record: SampleRecord, *, answers: bool) -> SampleRow:
    # Why a sample failed is the upstream's text, which may quote the prompt.
    keep_reason = answers or record.status != "failed"
    return SampleRow(
        request_id=request_id,
        choice=choice,
        sample=record.sample,
        model=record.model,
        purpose=record.purpose,
        status=record.status,
        prompt_tokens=record.usage.prompt_tokens,
        completion_tokens=record.usage.completion_tokens,
        score=record.score,
        confidence=record.confidence,
        reason=_short(record.reason) if keep_reason else None,
        answer=record.answer if answers else None,
        ttft_s=record.ttft_s,
        elapsed_s=record.e2e_s,
    )


def _tool_call(request_id: str, choice: int, record: ToolRecord, *, texts: bool) -> ToolCallRow:
    # Why a call failed is the tool's text, which may quote what it was asked.
    keep_reason = texts or record.status == "cancelled"
    return ToolCallRow(
        request_id=request_id,
        choice=choice,
        number=record.call,
        tool=record.tool,
        status=record.status,
        step=record.step,
        version=record.version,
        cites=" ".join(record.cites),
        reason=_short(record.reason) if keep_reason else None,
        attempts=record.attempts,
        argument_chars=record.argument_chars,
        result_chars=record.result_chars,
        cut_from=record.cut_from,
        began_s=record.began_s,
        elapsed_s=record.elapsed_s,
    )


def _left_behind(call: Call, body_bytes: int) -> tuple[SampleRow, ...]:
    """Samples of a policy that never settled."""
    live = call.samples
    if live is None:
        return ()
    return tuple(
        SampleRow(
            request_id=call.id,
            choice=sample.choice,
            sample=sample.sample,
            model=sample.model,
            purpose=sample.purpose,
            status="cancelled" if sample.status == "running" else sample.status,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
        for sample, usage, _ in live.spent(call.reached, body_bytes // BYTES_PER_TOKEN)
    )


def _short(text: str | None, longest: int = 300) -> str | None:
    """Text that a client may have made as long as it likes."""
    return None if not text else text[:longest]


def prompt_text(value: dict[str, Any]) -> str | None:
    """What was asked, as the client wrote it: the messages or the prompt."""
    asked = value.get("messages", value.get("prompt", value.get("input")))
    if asked is None:
        return None
    if isinstance(asked, str):
        return asked
    return json.dumps(asked, ensure_ascii=False)


def output_text(call: Call) -> str | None:
    """What was answered: the accepted text of every choice, or the passed-through bytes."""
    if call.outcomes:
        return "\n".join(outcome.completion.text for outcome in call.outcomes)
    return bytes(call.kept).decode("utf-8", "replace") if call.kept else None


def usage_was_refused(call: Call) -> bool:
    """Whether an upstream told a usage that cannot be."""
    live = call.samples
    if live is None and not call.outcomes:
        return call.usage_refused
    return (
        call.usage_refused
        or any(record.usage_refused for outcome in call.outcomes for record in outcome.records)
        or (live is not None and any(sample.usage_refused for sample in live.samples.values()))
    )
