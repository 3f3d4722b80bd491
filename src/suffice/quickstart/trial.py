"""Twenty questions before and after: the baseline's model alone, then the gateway."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from suffice.backends.openai import OpenAIBackend
from suffice.core.completions import Completion, Usage
from suffice.core.errors import UpstreamRejected
from suffice.core.prices import Prices
from suffice.evals.datasets import Item

CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Today:
    """The model that answers today, and what tokens cost."""

    model: str
    prices: Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one way of answering did with the trial's questions."""

    answers: tuple[str | None, ...]  # as they are compared; None where none was found
    right: int | None  # None: the questions hold no answers
    cost: float  # in the unit of the prices, else completion and prompt tokens
    by_model: Mapping[str, int]  # whose answer the client got
    texts: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeAndAfter:
    """Before and after."""

    questions: int
    before: Side
    after: Side
    reported_cost: float | None  # what the gateway's own receipts add up to
    differing: int

    @property
    def share(self) -> float:
        """Cost after over cost before."""
        return self.after.cost / self.before.cost if self.before.cost else 1.0


async def trial(
    items: Sequence[Item],
    *,
    before: OpenAIBackend,
    after: OpenAIBackend,
    today: Today,
    policy: str,
) -> BeforeAndAfter:
    """Ask today's model at `before`, `suffice/POLICY` at `after`, one question after the other."""
    old = [await _ask(before, item, today.model) for item in items]
    new = [await _ask(after, item, f"suffice/{policy}") for item in items]
    was, now = _side(items, old, today.prices), _side(items, new, today.prices)
    savings = [answer.get("suffice", {}).get("saving") for answer in new]
    told = [saving["cost"] for saving in savings if saving is not None]
    return BeforeAndAfter(
        questions=len(items),
        before=was,
        after=now,
        reported_cost=sum(told) if len(told) == len(items) else None,
        differing=sum(a != b for a, b in zip(was.answers, now.answers, strict=True)),
    )


async def _ask(backend: OpenAIBackend, item: Item, model: str) -> dict[str, Any]:
    body = {"model": model, "messages": json.loads(item.question.messages_json)}
    status, answer = await backend.post(CHAT, body)
    if status != 200:
        said = (answer.get("error") or {}).get("message") or answer
        raise UpstreamRejected(f"{model} answered {status}: {said}", status=status)
    return answer


def _side(items: Sequence[Item], answers: Sequence[dict[str, Any]], prices: Prices) -> Side:
    found, right, cost = [], 0, 0.0
    who: Counter[str] = Counter()
    texts = []
    for item, answer in zip(items, answers, strict=True):
        text = answer["choices"][0]["message"].get("content") or ""
        texts.append(text)
        checked = item.check(Completion(text=text, finish_reason="stop", usage=Usage()))
        found.append(checked.answer)
        right += checked.correct is not None and bool(checked.correct)
        who[str(answer.get("model"))] += 1
        cost += sum(prices.amount(model, usage) for model, usage in _spent(answer))
    checkable = all(item.question.reference is not None for item in items)
    return Side(
        answers=tuple(found),
        right=right if checkable else None,
        cost=cost,
        by_model=dict(who),
        texts=tuple(texts),
    )


def _spent(answer: Mapping[str, Any]) -> list[tuple[str, Usage]]:
    """What an answer took, by model: every sample of a receipt, else the answer's own usage."""
    samples = (answer.get("suffice") or {}).get("samples")
    if samples is None:
        return [(str(answer["model"]), _usage(answer.get("usage") or {}))]
    return [(each["model"], _usage(each)) for each in samples]


def _usage(told: Mapping[str, Any]) -> Usage:
    return Usage(
        prompt_tokens=int(told.get("prompt_tokens") or 0),
        completion_tokens=int(told.get("completion_tokens") or 0),
    )
