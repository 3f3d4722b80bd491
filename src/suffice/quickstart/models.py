"""What a user's servers offer, and what a token of each model probably costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from suffice.backends.openai import OpenAIBackend
from suffice.core.errors import InputError
from suffice.core.model_names import billions
from suffice.core.prices import Prices, TokenPrice


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One model at one address."""

    upstream: str
    model: str


async def offers_of(upstreams: Sequence[str]) -> tuple[Offer, ...]:
    """Every model of every upstream, in the order given. Raises InputError where there is none."""
    found: list[Offer] = []
    for upstream in upstreams:
        backend = OpenAIBackend(upstream)
        try:
            status, listed = await backend.post("/v1/models", None)
        finally:
            await backend.aclose()
        cards = listed.get("data") if status == 200 else None
        names = [card.get("id") for card in cards or () if isinstance(card, dict)]
        if not names:
            raise InputError(
                f"{upstream} lists no model (GET /v1/models answered {status}): is it an "
                "OpenAI-compatible server, and has it finished loading?"
            )
        found += [Offer(upstream=upstream, model=str(name)) for name in names if name]
    return tuple(found)


def largest(models: Iterable[str]) -> str:
    """The model with the most parameters by its name; the first one where no name tells."""
    names = list(models)
    return max(names, key=lambda name: billions(name) or 0.0)


def assumed_prices(models: Sequence[str]) -> Prices | None:
    """A token costs in proportion to the parameters in the names; None where a name tells none.

    Only ratios are used, so the unit is 0.01 per billion parameters and million tokens.
    """
    sizes: Mapping[str, float | None] = {model: billions(model) for model in models}
    if any(size is None for size in sizes.values()):
        return None
    return Prices(
        tuple(
            (model, TokenPrice(prompt_usd=_rate(size, 0.25), completion_usd=_rate(size, 1.0)))
            for model, size in sizes.items()
            if size is not None
        )
    )


def _rate(size_b: float, share: float) -> float:
    """A prompt token is read in parallel: it is priced at a quarter of a completion token."""
    return round(0.01 * size_b * share, 6)
