"""A model as a judge: asked greedily."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from suffice.backends.protocol import Backend
from suffice.core.completions import Budget
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import UpstreamRejected
from suffice.core.requests import Message, Request, Sampling
from suffice.executors import live


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
        except UpstreamRejected:
            return None
        return outcome.completion.text

    return ask
