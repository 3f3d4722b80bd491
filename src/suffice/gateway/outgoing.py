"""What is sent upstream for a call that passes through."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from suffice.gateway.calls import Call
from suffice.gateway.connection.client import JSON
from suffice.gateway.pass_through import Outgoing, outgoing
from suffice.gateway.service import Service
from suffice.gateway.wire.multipart import is_form


def outgoing_of(service: Service, call: Call, headers: Mapping[str, str]) -> Outgoing:
    """What goes upstream: the very bytes, unless the model's name or our field is in them."""
    endpoint = call.endpoint
    assert endpoint is not None
    kind = JSON if endpoint.kind != "other" else call.header("content-type") or JSON
    form = kind is not JSON and is_form(kind)
    if form:
        body = call.body
    elif endpoint.model is None and (call.model == call.target or not call.model):
        body = outgoing(call.body, call.value)
    else:
        body = outgoing(b"", {**call.value, "model": call.target, "suffice": None})
    return Outgoing(
        path=endpoint.path,
        kind=endpoint.kind,
        body=body,
        content_type=kind if form else JSON,
        query=call.query,
        headers=headers,
        lists=service.headers,
        most_bytes=service.config.traffic.max_response_bytes,
        counted=_counted(call, body) if service.config.traffic.ask_usage else None,
    )


def _counted(call: Call, body: bytes) -> bytes | None:
    """The body that asks for the stream's usage; None where it is no stream, or asks already."""
    assert call.endpoint is not None
    options = call.value.get("stream_options") or {}
    asks = isinstance(options, dict) and not options.get("include_usage")
    if not call.stream or call.endpoint.kind not in ("chat", "completion") or not asks:
        return None
    return orjson.dumps(
        {**orjson.loads(body), "stream_options": {**options, "include_usage": True}}
    )
