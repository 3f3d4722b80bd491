"""What a certificate is about, read off the recording: format, sampling, template, engine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any, Literal

import numpy as np

from suffice.core.model_names import precision
from suffice.core.prices import Prices
from suffice.core.text import normalised, text_sha256
from suffice.evals.extract import VERSION
from suffice.evals.traces.trace_set import ANSWER_MODE, Question, TraceSet
from suffice.policies.policy_file import About
from suffice.policies.subject import COMPARED
from suffice.recipes.recordings import RECORDED_FORMAT

# Of what all prompts share, less than this may be chance; fewer questions tell of no template.
LEAST_TEMPLATE_CHARACTERS = 24
LEAST_TEMPLATE_QUESTIONS = 20


def about_of(
    traces: TraceSet, questions: Iterable[int], models: Sequence[str], prices: Prices
) -> About:
    """What was the same for every sample of `models` on `questions`."""
    chosen = sorted({int(question) for question in questions})
    asked = [traces.questions[question] for question in chosen]
    arms = [number for number, arm in enumerate(traces.arms) if arm.model in models]
    rows = np.flatnonzero(np.isin(traces.question, chosen) & np.isin(traces.arm, arms))
    drawn = _same_sampling(traces, rows)
    told: dict[str, Any] = _template(asked)
    if drawn is not None:
        told["completions"] = drawn.pop("endpoint", None) == "completions"
        told["sampling"] = {k: v for k, v in drawn.items() if k in COMPARED and v is not None}
        told |= _limit(traces, rows, told["sampling"])
    return About(
        answer_formats=_formats(asked),
        extraction_version=VERSION,
        thinking=_thinking(traces, arms),
        tools=any(question.tools_json for question in asked),
        engine=str(getattr(traces.information, "server", "")),
        precision={m: found for m in models if (found := precision(m))},
        prices=prices.table(),
        **told,
    )


def _formats(asked: Sequence[Question]) -> tuple[str, ...]:
    """Answer formats, the most frequent first; none where answers came by other means."""
    names = [question.answer_format for question in asked]
    known = {name for name in names if name and name != RECORDED_FORMAT}
    return tuple(sorted(known, key=lambda name: (-names.count(name), name)))


def _same_sampling(traces: TraceSet, rows: Any) -> dict[str, Any] | None:
    """Options that every sample was drawn with; None where any sample does not say."""
    texts = set(traces.column("sampling").take(rows).to_pylist())
    if None in texts or not texts:
        return None
    options = [json.loads(text) for text in texts]
    same = dict(options[0])
    for other in options[1:]:
        same = {name: value for name, value in same.items() if other.get(name) == value}
    if isinstance(same.get("stop"), list):
        same["stop"] = tuple(same["stop"])
    return same


def _limit(traces: TraceSet, rows: Any, sampling: dict[str, Any]) -> dict[str, Any]:
    """Where no sample was cut short, its limit is no part of how it was drawn: a larger one is."""
    ends = set(traces.column("finish_reason").take(rows).to_pylist())
    lengths = traces.completion_tokens[rows]
    if "length" in ends or not np.isfinite(lengths).all():
        return {}
    sampling.pop("max_tokens", None)
    return {"least_max_tokens": int(lengths.max())}


def _thinking(traces: TraceSet, arms: Sequence[int]) -> Literal["default", "on", "off"] | None:
    modes = {traces.arms[arm].mode.partition(":")[0] for arm in arms}
    if modes == {ANSWER_MODE}:
        return "default"
    return {frozenset({"think"}): "on", frozenset({"direct"}): "off"}.get(  # type: ignore[return-value]
        frozenset(modes)
    )


def _template(asked: Sequence[Question]) -> dict[str, Any]:
    """System prompt and the text around the questions, as far as all share it."""
    systems = {
        "\n".join(t.text for t in question.messages if t.role in ("system", "developer"))
        for question in asked
    }
    talks = [[t for t in q.messages if t.role in ("user", "assistant")] for q in asked]
    found: dict[str, Any] = {
        "system_sha256": text_sha256(systems.pop()) if len(systems) == 1 else None,
        "single_turn": all(len(turns) == 1 and turns[0].role == "user" for turns in talks),
    }
    prompts = {normalised(question.prompt) for question in asked}
    if len(prompts) < LEAST_TEMPLATE_QUESTIONS:
        return found
    before = _shared_start(prompts)
    after = _shared_start({prompt[::-1] for prompt in prompts})[::-1]
    for name, text in (("prefix", before), ("suffix", after)):
        if len(text) >= LEAST_TEMPLATE_CHARACTERS:
            found |= {f"{name}_characters": len(text), f"{name}_sha256": text_sha256(text)}
    return found


def _shared_start(texts: set[str]) -> str:
    """What all texts begin with, up to its last space: half a word is shared by chance."""
    # What the first and the last in order share is shared by all between.
    pairs = zip(min(texts), max(texts), strict=False)
    shared = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared[: shared.rfind(" ") + 1].strip()
