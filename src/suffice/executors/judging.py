"""A model as a judge: asked greedily."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from suffice.backends.protocol import Backend
from suffice.core.completions import Budget
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import UpstreamRejected
from suffice.core.requests import Message, Request, Sampling
from suffice.executors import live

# Statuses by which a server refuses this question. Others (no such model, too many requests, a
# fault) say nothing of the answers that were to be judged: they are raised.
REFUSED = frozenset({400, 413, 422})


def asking(
    policy: AnyPolicy, backend: Backend, model: str, *, max_tokens: int | None = None,
    budget: Budget | None = None,
) -> Callable[[tuple[Message, ...]], Awaitable[str | None]]:  # fmt: skip
    """What asks `model` by `policy`: its text, None where the server refuses the question."""
    sampling = Sampling(temperature=0.0, max_tokens=max_tokens)

    async def ask(messages: tuple[Message, ...]) -> str | None:
        request = Request(messages=messages, model=model, sampling=sampling)
        try:
            outcome = await live.run(policy, request, backend, budget=budget)
        except UpstreamRejected as error:
            if error.status not in REFUSED:
                raise
            return None
        return outcome.completion.text

    return ask
