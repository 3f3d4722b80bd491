"""The receipt: what was run for an answer and why it was accepted, as an object and as headers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from suffice.core.completions import Outcome, SampleRecord, Usage, total_cost, total_usage
from suffice.core.coverage import Coverage
from suffice.core.savings import Promise, Saving, together

PREFIX = "x-suffice-"


def receipt(outcomes: Sequence[Outcome], *, first: int = 0) -> dict[str, Any]:
    """The receipt of one or several choices, the first of which has the number `first`.

    One form for all: sums over the choices, what cannot be summed of the first, and every choice
    by itself in `choices`. None where something is not known.
    """
    saving = together(outcome.saving for outcome in outcomes)
    choices = [
        {
            "index": first + number,
            **_verdict(outcome),
            "saved": outcome.saved,
            "usage": usage_json(outcome.usage),
            "accepted_usage": usage_json(outcome.accepted_usage),
        }
        for number, outcome in enumerate(outcomes)
    ]
    one, leading = outcomes[0], choices[0]
    alone = len(outcomes) == 1  # as good as always: its figures are the sums
    accepted = [outcome.accepted_usage for outcome in outcomes] if not alone else []
    return {
        "arm": one.arm,
        **{name: leading[name] for name in _VERDICT},
        "samples_run": sum([outcome.samples_run for outcome in outcomes]),
        "samples_cancelled": sum([outcome.samples_cancelled for outcome in outcomes]),
        **_saved(saving, one.promised),
        "samples": [
            {"choice": first + number, **_sample(record)}
            for number, outcome in enumerate(outcomes)
            for record in outcome.records
        ],
        "tools": [
            {"choice": first + number, **(fields_of(record) or {})}
            for number, outcome in enumerate(outcomes)
            for record in outcome.tool_records
        ],
        "usage": leading["usage"] if alone else usage_json(summed(outcomes)),
        "accepted_usage": (
            leading["accepted_usage"] if alone else usage_json(total_usage(accepted))
        ),
        "cost": fields_of(one.cost if alone else total_cost(outcome.cost for outcome in outcomes)),
        "elapsed_ms": round(max([outcome.elapsed_s for outcome in outcomes]) * 1e3, 3),
        "overhead_ms": round(sum([outcome.overhead_s for outcome in outcomes]) * 1e3, 3),
        "choices": choices,
    }


_VERDICT = (
    "why", "model", "confidence", "measure", "note", "escalated", "exit", "certificate",
    "accepted_sample", "votes",
)  # fmt: skip


def _verdict(outcome: Outcome) -> dict[str, Any]:
    """Why a choice was accepted."""
    return {
        "why": outcome.why,
        "model": outcome.completion.model,
        "confidence": outcome.confidence,
        "measure": outcome.measure,
        "note": outcome.note,
        "escalated": outcome.escalated,
        "exit": outcome.exit,
        "certificate": _certificate(outcome.certificate),
        "accepted_sample": outcome.sample,
        "votes": dict(outcome.votes),
    }


# Facts that a live certificate alone has.
_OF_LIVE = frozenset({"target", "confidence", "shadowed", "candidate"})


def _certificate(standing: Coverage | None) -> dict[str, Any] | None:
    """How the certificate stands, a live one with its own facts."""
    found = fields_of(standing)
    if standing is None or found is None or standing.candidate is not None:
        return found
    return {name: value for name, value in found.items() if name not in _OF_LIVE}


def _saved(saving: Saving | None, promised: Promise | None) -> dict[str, Any]:
    """Saved against the baseline, how that is known, and what the certificate promises."""
    baseline = None if saving is None else saving.baseline
    return {
        "saved": None if saving is None else saving.saved,
        "saving": fields_of(saving),
        "promised": None if promised is None else promise_json(promised, baseline),
    }


def promise_json(promised: Promise, baseline: str | None) -> dict[str, Any]:
    """A promise, and whether what is seen against `baseline` can be held against it."""
    return (fields_of(promised) or {}) | {"comparable": promised.comparable(baseline)}


_NAMES: dict[type[Any], tuple[str, ...]] = {}


def fields_of(value: object | None) -> dict[str, Any] | None:
    """A flat dataclass as an object; `asdict` copies what need not be copied, at ten times this."""
    if value is None:
        return None
    kind: type[Any] = type(value)
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in fields(kind))
    return {name: getattr(value, name) for name in names}


def summed(outcomes: Iterable[Outcome]) -> Usage:
    """Usage of all samples of all choices."""
    return total_usage(outcome.usage for outcome in outcomes)


def headers(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """The receipt's main figures; those of the first choice where they cannot be summed."""
    first = outcomes[0]
    saving = together(outcome.saving for outcome in outcomes)
    saved = None if saving is None else saving.saved
    found = {
        "arm": header_text(first.arm),
        "why": header_text(first.why),
        "model": header_text(first.completion.model),
        "confidence": "" if first.confidence is None else f"{first.confidence:.4f}",
        "samples": str(sum([outcome.samples_run for outcome in outcomes])),
        "samples-cancelled": str(sum([outcome.samples_cancelled for outcome in outcomes])),
        "completion-tokens": str(sum([o.usage.completion_tokens for o in outcomes])),
        "saved": "" if saved is None else f"{saved:.4f}",
        "baseline": "" if saving is None or saved is None else header_text(saving.baseline),
        "saved-basis": "" if saving is None or saved is None else saving.basis,
        "overhead-ms": f"{sum([outcome.overhead_s for outcome in outcomes]) * 1e3:.2f}",
    }
    return {PREFIX + name: value for name, value in found.items() if value}


@lru_cache(maxsize=1024)  # names of upstreams, models and policies are few
def header_text(text: str) -> str:
    """Text as a header may carry it: printable ASCII on one line."""
    if text.isascii() and text.isprintable():  # as good as always
        return " ".join(text.split())
    return "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split()))


def usage_json(usage: Usage) -> dict[str, Any]:
    """Usage in OpenAI's form; details that no engine told are left out."""
    found: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        found["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        found["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return found


def _sample(record: SampleRecord) -> dict[str, Any]:
    return {
        "sample": record.sample,
        "model": record.model,
        "purpose": record.purpose,
        "status": record.status,
        "prompt_tokens": record.usage.prompt_tokens,
        "cached_tokens": record.usage.cached_tokens,
        "completion_tokens": record.usage.completion_tokens,
        "answer": record.answer,
        "score": record.score,
        "token_confidence_nats": record.confidence,
        "mode_bias_nats": record.mode_bias_nats,
        "reason": record.reason,
    }
