"""What replayed requests spent, by model, and what that is against a baseline's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from suffice.core.completions import SampleRecord, Usage
from suffice.core.prices import Prices
from suffice.core.savings import Saving

# (model, usage) of every sample of a request.
Spent = tuple[tuple[str, Usage], ...]


def spent_of(records: Iterable[SampleRecord]) -> Spent:
    """What samples took: a model's first reads the prompt, later ones find it in the cache."""
    seen: set[str] = set()
    found = []
    for record in records:
        usage = Usage(
            prompt_tokens=record.usage.prompt_tokens,
            completion_tokens=record.usage.completion_tokens,
            cached_tokens=record.usage.prompt_tokens if record.model in seen else 0,
        )
        seen.add(record.model)
        found.append((record.model, usage))
    return tuple(found)


def saving_of(
    spent: Sequence[Spent], baseline: Sequence[Spent], *, text: str, prices: Prices
) -> Saving | None:
    """Requests under a policy beside the same requests under the baseline `text`.

    None where the costs cannot be compared: several models, and not all of them have a price.
    """
    models = {model for each in (*spent, *baseline) for model, _ in each}
    if prices.lacking(models) if prices else len(models) > 1:
        return None
    same = list(spent) == list(baseline)
    cost, baseline_cost = (
        sum(prices.amount(model, usage) for each in side for model, usage in each)
        for side in (spent, baseline)
    )
    return Saving(
        baseline=text,
        cost=cost,
        baseline_cost=baseline_cost,
        unit=prices.unit,
        basis="same" if same else "measured",
        method="calls",
    )
