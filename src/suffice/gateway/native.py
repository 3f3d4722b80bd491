"""Passing a call on in its own protocol, or as chat where its upstream knows no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from suffice.backends.openai import OpenAIBackend
from suffice.backends.placement import Placement
from suffice.gateway.connection.client import JSON, Client
from suffice.gateway.endpoints import CHAT, COUNT_TOKENS
from suffice.gateway.pass_through import Outgoing, UpstreamErrorResponse, forward
from suffice.gateway.translate.client import TranslatedClient
from suffice.gateway.translate.messages_request import chat_of_messages

# What a server answers to a path that it does not have.
_NO_PATH = (404, 405, 501)


async def pass_on(
    client: Client, placed: Placement, backends: Sequence[OpenAIBackend], sent: Outgoing
) -> None:
    """Forward a call; one in another protocol than chat is translated if nobody else does it.

    Which upstream lacks the endpoint is found out by asking it, and remembered for a while.
    Raises UpstreamErrorResponse.
    """
    if not isinstance(client, TranslatedClient):
        try:
            await forward(client, placed, backends, sent)
        except UpstreamErrorResponse as response:
            if sent.path != COUNT_TOKENS or client.began or response.status not in _NO_PATH:
                raise
            await _count(client, backends[0], response)
        return
    if not any(backend.lacks(sent.path) for backend in backends):
        try:
            await forward(client, placed, backends, sent)
        except UpstreamErrorResponse as response:
            if client.began or response.status not in _NO_PATH:
                raise
        else:
            return
    chat = as_chat(client.translate(client.call.value), client.call.target)
    await forward(client, placed, backends, replace(sent, path=CHAT, kind="chat", body=chat))
    # It does serve the model: what it refused was the path.
    for backend in backends:
        if backend.name == client.call.upstream:
            backend.lacked(sent.path)


async def _count(client: Client, backend: OpenAIBackend, response: UpstreamErrorResponse) -> None:
    """Count a message's tokens by /tokenize, which vLLM and others have. Raises the response."""
    call = client.call
    chat = chat_of_messages(call.value)
    asked = {"model": call.target, "messages": chat["messages"]}
    if "tools" in chat:
        asked["tools"] = chat["tools"]
    status, found = await backend.post("/tokenize", asked)
    if status != 200 or not isinstance(found.get("count"), int):
        raise response
    call.answered_by = call.target
    await client.answer(200, orjson.dumps({"input_tokens": found["count"]}), JSON)


def as_chat(value: Mapping[str, Any], model: str) -> bytes:
    """A translated request as it goes to an upstream."""
    fields = {name: field for name, field in value.items() if name != "suffice"}
    return orjson.dumps({**fields, "model": model})
