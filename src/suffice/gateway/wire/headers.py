"""Headers that pass between clients and engines; all others stay on their side.

A client's key, cookies and address never reach an engine, and nothing that belongs to one
connection (hop by hop) passes at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from suffice.core.errors import InputError
from suffice.core.settings import STRICT, About

REQUEST_ID = "x-request-id"
# To the engine.
TO_UPSTREAM = (
    "traceparent",
    "tracestate",
    "x-session-id",
    "x-session-affinity",
    "session-id",
    "x-correlation-id",
    "x-data-parallel-rank",  # vLLM: the replica inside the engine
    "openai-organization",
    "openai-project",
    "openai-beta",
    "anthropic-version",
    "anthropic-beta",
    "idempotency-key",
)
# To the client, and all that begin with one of the prefixes. Retry-After is read, and sent on if it
# is a time (`suffice.gateway.wire.errors.retry_after`).
TO_CLIENT = (
    "retry-after-ms",
    "x-should-retry",
    "openai-processing-ms",
    "openai-version",
    "server-timing",
)
TO_CLIENT_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
# What an engine calls the request, where that is not what it was told.
UPSTREAM_ID = "x-suffice-upstream-request-id"

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~+/=@-]{0,127}")
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]{0,4096}")
_NEVER = frozenset((
    "authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie", "set-cookie", "host",
    "content-length", "content-type", "content-encoding", "accept-encoding", "expect",
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade", "x-forwarded-for", "x-real-ip", "forwarded",
    REQUEST_ID,
))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadersConfig:
    """Names of headers that pass besides the documented ones."""

    __pydantic_config__ = STRICT
    to_upstream: Annotated[
        tuple[str, ...], About("more headers of clients that engines are to see")
    ] = ()
    to_client: Annotated[
        tuple[str, ...], About("more headers of engines that clients are to see")
    ] = ()

    def __post_init__(self) -> None:
        for name in (*self.to_upstream, *self.to_client):
            if not _NAME.fullmatch(name.lower()):
                raise InputError(f"headers: {name!r} is not the name of a header")
            if name.lower() in _NEVER:
                raise InputError(f"headers: {name} never passes; leave it out")


@dataclass(frozen=True, slots=True)
class HeaderLists:
    """The names that pass, in lower case."""

    to_upstream: frozenset[bytes]
    to_client: frozenset[str]

    @classmethod
    def of(cls, config: HeadersConfig) -> HeaderLists:
        """The documented names and the operator's."""
        return cls(
            frozenset(n.lower().encode() for n in (*TO_UPSTREAM, *config.to_upstream)),
            frozenset((*TO_CLIENT, *map(str.lower, config.to_client))),
        )

    def upstream(self, headers: Sequence[tuple[bytes, bytes]], request_id: str) -> dict[str, str]:
        """A client's headers as an engine gets them, with the request's id."""
        found = {REQUEST_ID: request_id}
        wanted = self.to_upstream
        for name, value in headers:
            if name in wanted:
                text = value.decode("latin-1")
                if _VALUE.fullmatch(text):
                    found.setdefault(name.decode("latin-1"), text)
        return found

    def client(self, headers: Mapping[str, str], request_id: str) -> dict[str, str]:
        """An engine's headers as a client gets them."""
        found = {
            name: value
            for name, value in headers.items()
            if (name in self.to_client or name.startswith(TO_CLIENT_PREFIXES))
            and _VALUE.fullmatch(value)
        }
        own = headers.get(REQUEST_ID) or headers.get("request-id")
        if own and own != request_id and _REQUEST_ID.fullmatch(own):
            found[UPSTREAM_ID] = own
        return found


def request_id_of(given: str | None) -> str | None:
    """The id that a client gave its request, if it can be kept: 128 plain characters at most."""
    return given if given is not None and _REQUEST_ID.fullmatch(given) else None
