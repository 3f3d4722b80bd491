"""The receipt: what was run for an answer and why it was accepted, as an object and as headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from suffice.core.completions import Outcome, SampleRecord, Usage

PREFIX = "x-suffice-"


def receipt(outcome: Outcome) -> dict[str, Any]:
    """The receipt of one outcome; None where something is not known."""
    return {
        "arm": outcome.arm,
        "why": outcome.why,
        "model": outcome.completion.model,
        "confidence": outcome.confidence,
        "escalated": outcome.escalated,
        "exit": outcome.exit,
        "certificate": None if outcome.certificate is None else asdict(outcome.certificate),
        "accepted_sample": outcome.sample,
        "samples_run": outcome.samples_run,
        "samples_cancelled": outcome.samples_cancelled,
        "baseline_samples": outcome.baseline_samples,
        "saved": outcome.saved,
        "votes": dict(outcome.votes),
        "samples": [_sample(record) for record in outcome.records],
        "usage": usage_json(outcome.usage),
        "cost": asdict(outcome.cost),
        "elapsed_ms": round(outcome.elapsed_s * 1e3, 3),
        "overhead_ms": round(outcome.overhead_s * 1e3, 3),
    }


def receipts(outcomes: Sequence[Outcome]) -> dict[str, Any] | list[dict[str, Any]]:
    """The receipt of the only choice, or those of all."""
    made = [receipt(outcome) for outcome in outcomes]
    return made[0] if len(made) == 1 else made


def headers(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """The receipt's main figures; those of the first choice where they cannot be summed."""
    first = outcomes[0]
    figures: dict[str, object] = {
        "arm": first.arm,
        "why": first.why,
        "model": first.completion.model,
        "confidence": None if first.confidence is None else f"{first.confidence:.4f}",
        "samples": sum(outcome.samples_run for outcome in outcomes),
        "samples-cancelled": sum(outcome.samples_cancelled for outcome in outcomes),
        "completion-tokens": sum(outcome.usage.completion_tokens for outcome in outcomes),
        "saved": None if first.saved is None else f"{first.saved:.4f}",
        "overhead-ms": f"{sum(outcome.overhead_s for outcome in outcomes) * 1e3:.2f}",
    }
    return {
        PREFIX + name: header_text(str(value))
        for name, value in figures.items()
        if value is not None and value != ""
    }


def header_text(text: str) -> str:
    """Text as a header may carry it: printable ASCII on one line."""
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
        "completion_tokens": record.usage.completion_tokens,
        "answer": record.answer,
        "confidence": record.confidence,
        "mode_bias_nats": record.mode_bias_nats,
        "reason": record.reason,
    }
