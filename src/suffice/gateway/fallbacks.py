"""Another model for a question whose own cannot answer, where the operator allows it by name.

    [[fallback]]
    model = "large"
    to = ["small"]
    on = ["unavailable", "server_error"]

Nothing of an answer has reached the client by then; who answers instead is in the header
`x-suffice-fallback` (unless headers have left with a keep-alive), in the answer's `model` or its
receipt, and in the ledger. A certified policy is never
answered by another model: its certificate is about its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from suffice.core.errors import (
    BackendError,
    InputError,
    SufficeError,
    UnknownName,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from suffice.core.settings import STRICT, About
from suffice.gateway.connection.client import Client

# What went wrong: it cannot be reached (or is served nowhere now), it is silent, it says that it is
# asked too often, it fails (5xx, nonsense), it does not want this request (4xx).
Failure = Literal["unavailable", "timeout", "rate_limited", "server_error", "rejected"]
_USUAL: tuple[Failure, ...] = ("unavailable", "timeout", "server_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """Which models may answer for one that cannot, in their order."""

    __pydantic_config__ = STRICT
    model: Annotated[str, About("an upstream's model", example="large")]
    to: Annotated[tuple[str, ...], About("models that answer instead", example=("small",))]
    on: Annotated[
        tuple[Failure, ...],
        About("after unavailable, timeout, rate_limited, server_error or rejected"),
    ] = _USUAL

    def __post_init__(self) -> None:
        if not self.to or self.model in self.to or len(set(self.to)) < len(self.to):
            raise InputError(
                f"fallback: {self.model} must fall back to other models, each once, got "
                f"{', '.join(self.to) or 'none'}"
            )


def fallbacks_of(tables: Sequence[Fallback]) -> dict[str, Fallback]:
    """By the model that is asked. Raises InputError if one is given twice."""
    found = {each.model: each for each in tables}
    if len(found) < len(tables):
        raise InputError("fallback: give each model once, with all models that may answer for it")
    return found


# The first that fits counts.
_FAILURES: tuple[tuple[type[SufficeError], Failure], ...] = (
    (UpstreamRefused, "unavailable"),
    (UpstreamDisconnected, "unavailable"),
    (UpstreamUnreachable, "unavailable"),
    (UnknownName, "unavailable"),
    (UpstreamTimeout, "timeout"),
    (BackendError, "server_error"),
)


def failure_of(error: SufficeError) -> Failure | None:
    """What an error is, None for one that another model would meet with too."""
    if isinstance(error, UpstreamRejected):
        known: dict[int, Failure] = {429: "rate_limited", 404: "unavailable"}
        usual: Failure = "rejected" if 400 <= error.status < 500 else "server_error"
        return known.get(error.status, usual)
    return next((what for kind, what in _FAILURES if isinstance(error, kind)), None)


async def answered(client: Client, rule: Fallback, attempt: Callable[[], Awaitable[None]]) -> None:
    """Answer a call from its model, or from those that the rule allows after it.

    `attempt` answers from `call.target`. If all fail, the first one's error is raised.
    """
    call = client.call
    first: SufficeError | None = None
    for target in (rule.model, *rule.to):
        call.target = target
        if first is not None:
            call.fallback = f"{rule.model} -> {target}; {failure_of(first)}"
        try:
            await attempt()
        except SufficeError as error:
            first = first or error
            # A keep-alive of a stream, which is all that may have been sent, is nothing of it.
            said = client.began and (call.sent_bytes > 0 or not client.is_stream)
            if said or failure_of(error) not in rule.on:
                break
        else:
            return
    call.target, call.fallback = rule.model, None
    assert first is not None
    raise first
