"""Errors in the form that OpenAI's clients expect, with a status they act upon."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from suffice.core.errors import (
    BudgetTooSmall,
    InputError,
    LacksCapability,
    MalformedStream,
    NoAnswer,
    SufficeError,
    UnknownName,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)

# (error, status, type, code); the first that fits counts. Clients retry 5xx, so what they could
# retry in vain is 4xx.
_TABLE: tuple[tuple[type[SufficeError], int, str, str], ...] = (
    (BudgetTooSmall, 400, "invalid_request_error", "budget_too_small"),
    (LacksCapability, 400, "invalid_request_error", "lacks_capability"),
    (UnknownName, 404, "invalid_request_error", "model_not_found"),
    (InputError, 400, "invalid_request_error", "invalid_value"),
    (UpstreamTimeout, 504, "upstream_error", "upstream_timeout"),
    (UpstreamRefused, 502, "upstream_error", "upstream_refused"),
    (UpstreamDisconnected, 502, "upstream_error", "upstream_disconnected"),
    (MalformedStream, 502, "upstream_error", "upstream_malformed"),
    (NoAnswer, 502, "upstream_error", "no_answer"),
)


class BodyTooLarge(InputError):
    """The request's body exceeds the gateway's limit."""


def describe(error: SufficeError) -> tuple[int, dict[str, Any]]:
    """Status and envelope of an error."""
    message = " ".join(str(error).split())
    if isinstance(error, BodyTooLarge):
        return 413, _envelope(message, "invalid_request_error", "body_too_large")
    if isinstance(error, UpstreamRejected):
        # The upstream's verdict on the request is passed on; its verdict on our key is not the
        # client's to act upon.
        status = 502 if error.status in (401, 403) or error.status < 400 else error.status
        kind = "invalid_request_error" if status < 500 else "upstream_error"
        return status, _envelope(message, kind, "upstream_rejected")
    for kind_of, status, kind, code in _TABLE:
        if isinstance(error, kind_of):
            return status, _envelope(message, kind, code)
    return 500, _envelope(message, "server_error", "internal_error")


def error_response(error: SufficeError) -> JSONResponse:
    """The error as an answer."""
    status, envelope = describe(error)
    return JSONResponse(envelope, status_code=status)


def _envelope(message: str, kind: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
