"""Passing a call on in its own protocol, or as chat where its upstream knows no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from suffice.backends.openai import OpenAIBackend
from suffice.backends.pool import Placement
from suffice.gateway.bypass import Outgoing, Verdict, forward
from suffice.gateway.endpoints import CHAT
from suffice.gateway.stream import Client
from suffice.gateway.translate.client import TranslatedClient

# What a server answers to a path that it does not have.
_NO_PATH = (404, 405, 501)


async def pass_on(
    client: Client, placed: Placement, backends: Sequence[OpenAIBackend], sent: Outgoing
) -> None:
    """Forward a call; one in another protocol than chat is translated if nobody else does it.

    Which upstream lacks the endpoint is found out by asking it, and remembered for a while.
    Raises Verdict.
    """
    if not isinstance(client, TranslatedClient):
        await forward(client, placed, backends, sent)
        return
    if not any(backend.lacks(sent.path) for backend in backends):
        try:
            await forward(client, placed, backends, sent)
        except Verdict as verdict:
            if client.began or verdict.status not in _NO_PATH:
                raise
        else:
            return
    chat = as_chat(client.translate(client.call.value), client.call.target)
    await forward(client, placed, backends, replace(sent, path=CHAT, kind="chat", body=chat))
    # It does serve the model: what it refused was the path.
    for backend in backends:
        if backend.name == client.call.upstream:
            backend.lacked(sent.path)


def as_chat(value: Mapping[str, Any], model: str) -> bytes:
    """A translated request as it goes to an upstream."""
    fields = {name: field for name, field in value.items() if name != "suffice"}
    return orjson.dumps({**fields, "model": model})
