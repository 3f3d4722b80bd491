"""What a token costs, by model: one notation for the command line, suffice.toml and policy files.

    MODEL=PROMPT/COMPLETION[/CACHED]      USD per million tokens, e.g. Qwen/Qwen3-8B=0.05/0.2/0.01

CACHED is the price of a prompt token that the engine found in its prefix cache; without it such a
token costs as much as any prompt token. `*` as the model stands for every model that is not named.
Where costs are only compared, ratios are all that matters: small=1/1 and large=4/4 say that a token
of the large model costs four of the small one.

Without any price a cost is a number of tokens, each counted once, cached ones too. That compares
answers of one model; answers of two models cannot be compared before both have a price.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from suffice.core.completions import Cost, Usage
from suffice.core.errors import InputError, UnknownName
from suffice.core.savings import CostUnit

NOTATION = "MODEL=PROMPT/COMPLETION[/CACHED] in USD per million tokens"
# Stands for every model that has no price of its own.
EVERY_OTHER = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrice:
    """A model's price in USD per million tokens; `cached_usd` None: as any prompt token."""

    prompt_usd: float
    completion_usd: float
    cached_usd: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_usd", "completion_usd", "cached_usd"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise InputError(f"price {name} must be 0 or more, got {value}")

    def usd(self, usage: Usage) -> float:
        """Money (USD) for `usage`."""
        cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
        cached_usd = self.prompt_usd if self.cached_usd is None else self.cached_usd
        return (
            (usage.prompt_tokens - cached) * self.prompt_usd
            + cached * cached_usd
            + usage.completion_tokens * self.completion_usd
        ) / 1e6

    def cost(self, usage: Usage) -> Cost:
        """Money for `usage`; FLOPs and GPU-seconds stay unknown."""
        return Cost(tokens=usage.total_tokens, usd=self.usd(usage))

    def __str__(self) -> str:
        rates = (self.prompt_usd, self.completion_usd, self.cached_usd)
        return "/".join(_number(rate) for rate in rates if rate is not None)


def parse_rates(text: str, *, given: str) -> TokenPrice:
    """PROMPT/COMPLETION[/CACHED]; `given` is how an error names what was read."""
    parts = text.split("/")
    try:
        rates = [float(part) for part in parts]
    except ValueError:
        rates = []
    if len(rates) not in (2, 3) or not all(rate >= 0 and math.isfinite(rate) for rate in rates):
        raise InputError(
            f"{given} is no price: write {NOTATION}, numbers of 0 or more "
            "(e.g. Qwen/Qwen3-8B=0.05/0.2)"
        )
    return TokenPrice(
        prompt_usd=rates[0],
        completion_usd=rates[1],
        cached_usd=rates[2] if len(rates) == 3 else None,
    )


def parse_price(text: str, *, option: str = "--price") -> tuple[str, TokenPrice]:
    """(model, price) of MODEL=PROMPT/COMPLETION[/CACHED]. Raises InputError."""
    model, equals, rates = text.rpartition("=")
    given = f"{option} {text!r}"
    if not equals or not model.strip():
        raise InputError(f"{given} names no model: write {NOTATION} (e.g. Qwen/Qwen3-8B=0.05/0.2)")
    return model.strip(), parse_rates(rates, given=given)


@dataclass(frozen=True)
class Prices:
    """The prices that are known, in the order given; empty: costs are counted in tokens."""

    by_model: tuple[tuple[str, TokenPrice], ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str], *, option: str = "--price") -> Prices:
        """Prices from the command line. Raises InputError, also for a model that is named twice."""
        return cls._once([parse_price(text, option=option) for text in texts], option)

    @classmethod
    def of_table(cls, table: Mapping[str, str], *, where: str = "prices") -> Prices:
        """Prices from a table of MODEL = "PROMPT/COMPLETION[/CACHED]", as files hold them."""
        return cls(
            tuple(
                (model, parse_rates(rates, given=f"{where}: {model} = {rates!r}"))
                for model, rates in table.items()
            )
        )

    @classmethod
    def _once(cls, found: list[tuple[str, TokenPrice]], option: str) -> Prices:
        seen: set[str] = set()
        for model, _ in found:
            if model in seen:
                raise InputError(f"{option} gives {model} two prices: keep one")
            seen.add(model)
        return cls(tuple(found))

    def __bool__(self) -> bool:
        return bool(self.by_model)

    def table(self) -> dict[str, str]:
        """As a file holds them; `of_table` reads it back."""
        return {model: str(price) for model, price in self.by_model}

    def over(self, other: Prices) -> Prices:
        """These prices, and those of `other` for models that have none here."""
        own = self._known
        return Prices((*self.by_model, *((m, p) for m, p in other.by_model if m not in own)))

    @cached_property
    def _known(self) -> dict[str, TokenPrice]:
        return dict(self.by_model)

    def of(self, model: str) -> TokenPrice | None:
        """A model's price; None if nothing is known of it."""
        return self._known.get(model) or self._known.get(EVERY_OTHER)

    def lacking(self, models: Iterable[str]) -> tuple[str, ...]:
        """Those of `models` that have no price."""
        return tuple(model for model in dict.fromkeys(models) if self.of(model) is None)

    @property
    def unit(self) -> CostUnit:
        """What `amount` is counted in."""
        return "usd" if self.by_model else "tokens"

    def amount(self, model: str, usage: Usage) -> float:
        """Cost of `usage`: USD, or without any price the number of its tokens.

        Raises InputError for a model without a price where others have one.
        """
        if not self.by_model:
            return float(usage.total_tokens)
        price = self.of(model)
        if price is None:
            raise InputError(
                f"{model} has no price, {', '.join(m for m, _ in self.by_model)} has: add "
                f"--price {model}=PROMPT/COMPLETION"
            )
        return price.usd(usage)

    def check(self, models: Iterable[str], *, where: str) -> None:
        """Raise UnknownName for the price of a model that is not among `models`."""
        known = tuple(models)
        for model, _ in self.by_model:
            if model != EVERY_OTHER and model not in known:
                raise UnknownName.of(
                    "model", model, known, f"in a price ({where}: {', '.join(known)})"
                )

    def __call__(self, model: str, usage: Usage) -> Cost:
        """As a cost model: only tokens are known of a model without a price."""
        price = self.of(model)
        return Cost(tokens=usage.total_tokens) if price is None else price.cost(usage)


def _number(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return str(int(value)) if value == int(value) and value < 1e15 else repr(value)
