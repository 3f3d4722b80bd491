"""Requests that are only passed on: which model they are for, from JSON, a form or the path."""

from __future__ import annotations

from typing import Any

from suffice.backends.pool import BackendPool
from suffice.core.errors import InputError
from suffice.gateway.admission import TrafficConfig
from suffice.gateway.calls import Call
from suffice.gateway.policy_router import NAMESPACE, PolicyRoute
from suffice.gateway.wire.errors import Refusal
from suffice.gateway.wire.json_body import parse_json
from suffice.gateway.wire.multipart import fields_of, is_form
from suffice.gateway.wire.requests import wants_stream


async def understand(call: Call, pool: BackendPool, limits: TrafficConfig) -> PolicyRoute:
    """How a call to an endpoint that nobody here reads is answered: by its model's upstream.

    Raises InputError if it names no model and there are several upstreams, or if it names a policy.
    """
    assert call.endpoint is not None
    kind = call.header("content-type") or ""
    if is_form(kind):
        value: dict[str, Any] = dict(fields_of(call.body, kind))
        call.stream = value.get("stream", "").lower() == "true"
    else:
        value = parse_json(call.body, limits)
        call.stream = wants_stream(value)
    call.value = value
    model = call.endpoint.model or value.get("model")
    if model is not None and not isinstance(model, str):
        raise InputError("model must be text")
    if model and model.startswith(NAMESPACE):
        raise InputError(
            f"model: {model} is a policy, which answers chat; {call.path} wants an upstream's model"
        )
    if not model and len(pool.backends) > 1:
        raise InputError(
            f"model: name the model that {call.path} is for; GET /v1/models lists what is served"
        )
    call.model = model or ""
    call.named = (model,) if model else ()
    call.target = model or (pool.served_by(pool.backends[0].name) or ("",))[0]
    call.arm = "bypass"
    return PolicyRoute(policy=None, model=call.target)


def not_served(call: Call) -> Refusal:
    """No upstream of this model speaks HTTP: it is one of this process."""
    return Refusal(
        f"{call.path} is not served for {call.target}: it is a model of this process, which "
        "answers /v1/chat/completions",
        status=404,
        code="not_found",
    )
