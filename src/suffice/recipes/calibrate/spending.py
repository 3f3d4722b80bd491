"""What an option costs: samples and tokens of every model, by question and play."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.errors import InputError
from suffice.core.prices import NOTATION, Prices
from suffice.policies.policy_file import ModelTokens

CostUnit = Literal["usd", "tokens", "samples"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Spent:
    """Of one model, in arrays of questions by plays; cached tokens are prompt tokens too."""

    samples: FloatArray
    prompt_tokens: FloatArray
    cached_tokens: FloatArray
    completion_tokens: FloatArray

    def __add__(self, other: Spent) -> Spent:
        return Spent(**{name: getattr(self, name) + getattr(other, name) for name in _FIELDS})

    def where(self, asked: NDArray[np.bool_]) -> Spent:
        """The same where `asked`, nothing elsewhere."""
        return Spent(**{name: np.where(asked, getattr(self, name), 0.0) for name in _FIELDS})

    def at(self, index: IntArray) -> Spent:
        """Some of the questions."""
        return Spent(**{name: getattr(self, name)[index] for name in _FIELDS})


_FIELDS = ("samples", "prompt_tokens", "cached_tokens", "completion_tokens")
Spending = Mapping[str, Spent]


def added(first: Spending, second: Spending) -> Spending:
    """Both together. Samples of one model share its prefix cache."""
    found = dict(first)
    for model, spent in second.items():
        if model in found:
            # The second one's first sample finds the prompt cached wherever the first had any.
            fresh = spent.prompt_tokens - spent.cached_tokens
            again = np.where(found[model].samples > 0, fresh, 0.0)
            spent = found[model] + Spent(  # noqa: PLW2901
                samples=spent.samples,
                prompt_tokens=spent.prompt_tokens,
                cached_tokens=spent.cached_tokens + again,
                completion_tokens=spent.completion_tokens,
            )
        found[model] = spent
    return found


def where(spending: Spending, asked: NDArray[np.bool_]) -> Spending:
    """The spending where `asked`, nothing elsewhere."""
    return {model: spent.where(asked) for model, spent in spending.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """Prices, and what they are of: tokens, or samples where a recording counts no tokens."""

    prices: Prices
    by_sample: bool = False

    @classmethod
    def of(cls, prices: Prices, models: Sequence[str], *, by_sample: bool) -> Tariff:
        """The tariff of these models; raises InputError where some have a price and others none."""
        lacking = prices.lacking(models)
        if prices and lacking:
            raise InputError(
                f"{', '.join(lacking)} has no price, and others have: add --price "
                f"{lacking[0]}=… ({NOTATION})"
            )
        return cls(prices=prices, by_sample=by_sample)

    @property
    def unit(self) -> CostUnit:
        """What costs are counted in. Priced samples cost the price of a million tokens each."""
        return "samples" if self.by_sample else self.prices.unit

    def cost(self, spending: Spending) -> FloatArray:
        """Cost of a spending, questions by plays."""
        found = [self._of(model, spent) for model, spent in spending.items()]
        total: FloatArray = np.sum(found, axis=0)
        return total

    def _of(self, model: str, spent: Spent) -> FloatArray:
        price = self.prices.of(model)
        if self.by_sample:
            return spent.samples * (1.0 if price is None else price.completion_usd)
        if price is None:
            return spent.prompt_tokens + spent.completion_tokens
        cached_usd = price.prompt_usd if price.cached_usd is None else price.cached_usd
        found: FloatArray = (
            (spent.prompt_tokens - spent.cached_tokens) * price.prompt_usd
            + spent.cached_tokens * cached_usd
            + spent.completion_tokens * price.completion_usd
        ) / 1e6
        return found


def tokens_by_model(
    spending: Spending, *, prompts: bool, completions: bool
) -> tuple[ModelTokens, ...]:
    """Means per request; `prompts`, `completions`: whether the recording counts them."""

    def mean(values: FloatArray, known: bool) -> float | None:
        return round(float(values.mean()), 4) if known else None

    return tuple(
        ModelTokens(
            model=model,
            samples=round(float(spent.samples.mean()), 4),
            prompt_tokens=mean(spent.prompt_tokens, prompts),
            cached_tokens=mean(spent.cached_tokens, prompts),
            completion_tokens=mean(spent.completion_tokens, completions),
        )
        for model, spent in spending.items()
    )
