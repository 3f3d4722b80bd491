"""Many requests at once, each under its own policy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from suffice.backends.protocol import Backend
from suffice.core.completions import Budget, CostModel, Outcome, count_tokens_only
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, SufficeError
from suffice.core.requests import Request
from suffice.executors.live import Extract, Score, run


async def run_batch(
    policies: Sequence[AnyPolicy],
    requests: Sequence[Request],
    backend: Backend,
    *,
    at_once: int = 16,
    budget: Budget | None = None,
    extract: Extract | None = None,
    score: Score | None = None,
    cost_model: CostModel = count_tokens_only,
) -> list[Outcome | SufficeError]:
    """Outcomes of `requests`, each under the policy at its place; an error takes its own place.

    `budget` holds for each request. For an allocation over the batch, give each request the policy
    with its share (suffice.policies.allocation.allocate).
    """
    if len(policies) != len(requests):
        raise InputError(
            f"{len(policies)} policies for {len(requests)} requests: give one for each"
        )
    gate = asyncio.Semaphore(at_once)

    async def one(policy: AnyPolicy, request: Request) -> Outcome | SufficeError:
        async with gate:
            try:
                return await run(
                    policy,
                    request,
                    backend,
                    budget=budget,
                    extract=extract,
                    score=score,
                    cost_model=cost_model,
                )
            except SufficeError as error:
                return error

    pairs = zip(policies, requests, strict=True)
    return list(await asyncio.gather(*(one(policy, request) for policy, request in pairs)))
