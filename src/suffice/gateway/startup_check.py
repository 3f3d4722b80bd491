"""What the upstreams serve, asked before the first request comes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from suffice.backends.discovery import cards_of
from suffice.backends.protocol import Backend
from suffice.core.errors import BackendError, ConfigError
from suffice.gateway.app import HEALTH_TIMEOUT_S, backends_of
from suffice.gateway.config import GatewayConfig
from suffice.policies.certified import Certified
from suffice.policies.registry import build_policy


def check_served(
    config: GatewayConfig, backends: Sequence[Backend] | None = None, *, always: bool = False
) -> list[str]:
    """Raise ConfigError if a certified policy was calibrated for models that nobody here serves.

    Gives a note for every upstream that could not be asked: what it serves shows later. Without a
    certified policy nothing is asked, unless `always`. `backends` as for `create_app`.
    """
    certified = {
        name: policy
        for name, table in config.policies.items()
        if isinstance(policy := build_policy(table), Certified)
    }
    if not (certified or always) or not (config.upstreams or backends):
        return []
    served, notes = asyncio.run(_served(config, backends))
    for name, policy in certified.items():
        lacking = [model for model in policy.models if model not in served]
        if lacking and not notes:
            raise ConfigError(
                f"policies.{name} was calibrated for {', '.join(policy.models)}, but no upstream "
                f"serves {', '.join(lacking)} (served: {', '.join(served) or 'nothing'}): "
                "calibrate on traces of the models you serve, or add the upstream that has them"
            )
    return notes


async def _served(
    config: GatewayConfig, backends: Sequence[Backend] | None
) -> tuple[tuple[str, ...], list[str]]:
    """Models of all upstreams that answer, and why the others do not."""
    own = backends is None
    asked = backends_of(config) if backends is None else backends
    try:
        found = await asyncio.gather(*map(_models, asked))
    finally:
        if own:
            await asyncio.gather(*(backend.aclose() for backend in asked))
    models = tuple(dict.fromkeys(model for each in found for model in each[0]))
    return models, [why for _, why in found if why]


async def _models(backend: Backend) -> tuple[tuple[str, ...], str]:
    try:
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            return tuple(card.id for card in await cards_of(backend)), ""
    except TimeoutError:
        why = f"silent for {HEALTH_TIMEOUT_S:g} s"
    except BackendError as error:
        why = str(error)
    return (), f"what {backend.name} serves is not known yet ({why})"
