"""Which of an engine's endpoints a path means, and how it is written upstream.

    /v1/chat/completions/          /v1/chat/completions      a trailing slash changes nothing
    /chat/completions              /v1/chat/completions      /v1 may be left out
    /openai/v1/responses           /v1/responses             Azure's two ways of writing it
    /openai/deployments/x/embeddings?api-version=…           /v1/embeddings, for model x
    /tokenize, /rerank, …          as they are               what engines serve at their root
    any other /v1/…                as it is                  goes to the upstream of its model

What manages an upstream's account or its process (files, fine-tuning, loading adapters) is never
passed on: the upstream's key is the operator's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import parse_qsl, urlencode

# How requests and answers are written: the first four are understood, others only passed on.
Kind = Literal["chat", "completion", "responses", "messages", "other"]

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"

_KINDS: dict[str, Kind] = {
    CHAT: "chat", TEXT: "completion", RESPONSES: "responses", MESSAGES: "messages",
}  # fmt: skip
# Known under /v1, so that clients whose base URL lacks it are understood.
PASSED_ON = (
    COUNT_TOKENS, "/v1/embeddings", "/v1/rerank", "/v1/score", "/v1/moderations",
    "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations",
    "/v1/images/generations", "/v1/images/edits", "/v1/images/variations",
)  # fmt: skip
# What engines serve beside /v1.
AT_ROOT = (
    "/tokenize", "/detokenize", "/rerank", "/score", "/pooling", "/classify",
    "/v2/rerank", "/v2/embed",
)  # fmt: skip
_MANAGEMENT = frozenset((
    "admin", "assistants", "batches", "chatkit", "containers", "conversations", "evals", "files",
    "fine-tunes", "fine_tuning", "load_lora_adapter", "models", "organization", "organizations",
    "projects", "realtime", "skills", "threads", "unload_lora_adapter", "uploads", "usage",
    "vector_stores", "videos",
))  # fmt: skip
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)(/.+)")
# Of a client's query these stay here: its key, and the version of an API that ours is not.
_OWN_PARAMETERS = frozenset(
    ("key", "api_key", "api-key", "apikey", "access_token", "token", "api-version")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One of an engine's endpoints. `model` is set where the path itself names it."""

    path: str
    kind: Kind = "other"
    model: str | None = None


@lru_cache(maxsize=1024)
def endpoint_of(path: str) -> Endpoint | None:
    """What a POST to `path` means; None if it is not passed on."""
    path = path.rstrip("/")
    model = None
    deployment = _DEPLOYMENT.fullmatch(path)
    if deployment is not None:
        model, path = deployment.group(1), "/v1" + deployment.group(2)
    elif path.startswith("/openai/v1/"):
        path = path.removeprefix("/openai")
    elif f"/v1{path}" in _KINDS or (f"/v1{path}" in PASSED_ON and path not in AT_ROOT):
        path = f"/v1{path}"
    if path in _KINDS:
        return Endpoint(path=path, kind=_KINDS[path], model=model)
    if path in PASSED_ON or path in AT_ROOT or _may_pass(path):
        return Endpoint(path=path, model=model)
    return None


def _may_pass(path: str) -> bool:
    segments = path.split("/")[1:]
    return (
        len(segments) > 1
        and segments[0] == "v1"
        and segments[1] not in _MANAGEMENT
        and all(_SEGMENT.fullmatch(segment) for segment in segments)
    )


def query_upstream(query: bytes) -> str:
    """What of a client's query parameters goes upstream."""
    if not query:
        return ""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return urlencode([pair for pair in pairs if pair[0].lower() not in _OWN_PARAMETERS])
