"""Errors in the form that OpenAI's clients expect, with a status they act upon."""

from __future__ import annotations

import math
from typing import Any

from starlette.responses import JSONResponse

from suffice.core.errors import (
    BudgetTooSmall,
    InputError,
    LacksCapability,
    MalformedStream,
    MissingExtra,
    NoAnswer,
    SufficeError,
    UnknownName,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.ledger.database import LedgerError
from suffice.tools.protocol import ToolLost

# (error, status, type, code); the first that fits counts. Clients retry 5xx, so what they could
# retry in vain is 4xx.
_TABLE: tuple[tuple[type[SufficeError], int, str, str], ...] = (
    (BudgetTooSmall, 400, "invalid_request_error", "budget_too_small"),
    (LacksCapability, 400, "invalid_request_error", "lacks_capability"),
    (MissingExtra, 400, "invalid_request_error", "not_installed"),
    (UnknownName, 404, "invalid_request_error", "model_not_found"),
    (InputError, 400, "invalid_request_error", "invalid_value"),
    (UpstreamTimeout, 504, "upstream_error", "upstream_timeout"),
    (UpstreamRefused, 502, "upstream_error", "upstream_refused"),
    (UpstreamDisconnected, 502, "upstream_error", "upstream_disconnected"),
    (MalformedStream, 502, "upstream_error", "upstream_malformed"),
    (ToolLost, 502, "upstream_error", "tool_server_lost"),
    (NoAnswer, 502, "upstream_error", "no_answer"),
)

LEDGER_AWAY = "the ledger cannot be used now: try again later"


class BodyTooLarge(InputError):
    """The request's body exceeds the gateway's limit."""


class Refusal(SufficeError):
    """The gateway itself says no: a key, a limit, a full queue, an ending process.

    `retry_after_s` becomes the header Retry-After, in whole seconds rounded up.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        kind: str = "invalid_request_error",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.kind = kind
        self.retry_after_s = retry_after_s


def describe(error: SufficeError) -> tuple[int, dict[str, Any]]:
    """Status and envelope of an error."""
    message = " ".join(str(error).split())
    if not message.isascii():  # an upstream's own words may hold what no JSON writer takes
        message = message.encode("utf-8", "replace").decode("utf-8")
    if isinstance(error, Refusal):
        return error.status, _envelope(message, error.kind, error.code)
    if isinstance(error, BodyTooLarge):
        return 413, _envelope(message, "invalid_request_error", "body_too_large")
    if isinstance(error, UpstreamRejected):
        # The upstream's verdict on the request is passed on; its verdict on our key is not the
        # client's to act upon.
        known = 400 <= error.status <= 599
        status = error.status if known and error.status not in (401, 403) else 502
        kind = "invalid_request_error" if status < 500 else "upstream_error"
        return status, _envelope(message, kind, "upstream_rejected")
    if isinstance(error, LedgerError):  # its own words name the database's user and host
        return 503, _envelope(LEDGER_AWAY, "server_error", "ledger_unavailable")
    for kind_of, status, kind, code in _TABLE:
        if isinstance(error, kind_of):
            return status, _envelope(message, kind, code)
    return 500, _envelope(message, "server_error", "internal_error")


def error_response(error: SufficeError) -> JSONResponse:
    """The error as an answer."""
    status, envelope = describe(error)
    return JSONResponse(envelope, status_code=status, headers=retry_after(error))


def retry_after(error: SufficeError) -> dict[str, str]:
    """The Retry-After header of an error that names a time."""
    wait_s = getattr(error, "retry_after_s", None)
    if wait_s is None or not math.isfinite(wait_s):
        return {}
    return {"retry-after": str(max(1, math.ceil(wait_s)))}


def _envelope(message: str, kind: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
