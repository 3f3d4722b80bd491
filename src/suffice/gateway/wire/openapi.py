"""The gateway's own OpenAPI description, made from the models that read requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from suffice.core.version import __version__
from suffice.gateway.endpoints import AT_ROOT, MESSAGES, PASSED_ON, RESPONSES
from suffice.gateway.wire.requests import ChatBody, CompletionBody

_REFERENCE = "#/components/schemas/{model}"
_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_ERROR = {
    "message": _TEXT,
    "type": _TEXT,
    "param": _TEXT_OR_NULL,
    "code": {"type": ["string", "integer", "null"]},
}
_ANSWER = {
    "id": _TEXT,
    "object": _TEXT,
    "created": {"type": "integer"},
    "model": _TEXT,
    "choices": {"type": "array", "items": {"type": "object"}},
    "usage": {"type": ["object", "null"]},
    "suffice": {"type": ["object", "array"], "description": "the receipt, or one per choice"},
}
_ERRORS = {
    "400": "the request cannot be answered as it is",
    "401": "a key is wanted, or this one is not known",
    "403": "the key does not allow it",
    "404": "no upstream, policy or request of that name",
    "408": "the request did not come in time",
    "409": "there is nothing to judge here, or it was judged before",
    "413": "the body is too large",
    "415": "the body is compressed",
    "422": "the upstream's own verdict",
    "429": "a rate limit or budget of the key, or of the upstream; see Retry-After",
    "431": "the headers are too large",
    "500": "a bug of the gateway",
    "502": "the upstream failed",
    "503": "no place is free, the ledger is away, or the gateway is shutting down; see Retry-After",
    "504": "the upstream, or the whole call, took too long",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """Routes of a hook's own, and the schemas that they name."""

    paths: dict[str, Any]
    schemas: dict[str, Any] = field(default_factory=dict)


def description(more: Sequence[Described] = ()) -> dict[str, Any]:
    """OpenAPI 3.1 of what create_app serves, with what its hooks add."""
    schemas: dict[str, Any] = {
        "Error": _object({"error": _object(_ERROR, "message")}, "error"),
        "Answer": _object(_ANSWER, "choices"),
        "Model": _object({"id": _TEXT, "object": {"const": "model"}}, "id", "object"),
        "Models": _object({"object": {"const": "list"}, "data": {"type": "array"}}, "data"),
        "Health": _object({"status": {"enum": ["ok", "degraded", "down"]}}, "status"),
        "Ready": _object({"ready": {"type": "boolean"}, "why": _TEXT_OR_NULL}, "ready"),
    }
    for body in (ChatBody, CompletionBody):
        schemas |= schemas_of(body)
    for each in more:
        schemas |= each.schemas
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "suffice gateway",
            "version": __version__,
            "description": "OpenAI's API, spending just enough per request. Requests for an "
            "upstream's own model pass through unchanged and may hold whatever it understands; "
            "those for suffice/<policy> are read as described here.",
        },
        "paths": {
            "/v1/chat/completions": {"post": _completion("ChatBody", "chat")},
            "/v1/completions": {"post": _completion("CompletionBody", "completion")},
            **{path: {"post": _passed_on(path)} for path in (RESPONSES, MESSAGES)},
            **{path: {"post": _passed_on(path)} for path in (*PASSED_ON, *AT_ROOT)},
            "/v1/models": {
                "get": get("Models", "what can be asked for", "401", "403", "502", "504")
            },
            "/v1/models/{id}": {
                "get": get("Model", "one of them", "401", "403", "404", "502", "504"),
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": _TEXT},
                ],
            },
            "/live": {"get": get(None, "whether the process answers")},
            "/health": {"get": get("Health", "whether upstreams answer", own="503")},
            "/ready": {"get": get("Ready", "whether a call would be taken up", own="503")},
            "/openapi.json": {"get": get(None, "this description")},
            **{path: item for each in more for path, item in each.paths.items()},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {
                "type": "http", "scheme": "bearer",
                "description": "of `suffice keys add`; not asked for before there are keys",
            }},
        },
        "security": [{}, {"key": []}],
    }  # fmt: skip


def schemas_of(body: type[BaseModel]) -> dict[str, Any]:
    """A body's schema and those that it names."""
    schema = body.model_json_schema(ref_template=_REFERENCE)
    inner: dict[str, Any] = schema.pop("$defs", {})
    return {**{name.removeprefix("_"): value for name, value in _renamed(inner).items()},
            body.__name__: _renamed(schema)}  # fmt: skip


def _renamed(value: Any) -> Any:
    """The same schema with references to private classes under their public names."""
    if isinstance(value, dict):
        return {
            key: item.replace("schemas/_", "schemas/") if key == "$ref" else _renamed(item)
            for key, item in value.items()
        }
    return [_renamed(item) for item in value] if isinstance(value, list) else value


def _completion(body: str, name: str) -> dict[str, Any]:
    answer = {"schema": reference("Answer")}
    found = {
        "description": "the answer; with `stream`, chunks of it as server-sent events",
        "content": {
            "application/json": answer,
            "text/event-stream": {"schema": {"type": "string"}},
        },
    }
    schema = {"schema": reference(body)}
    return {
        "operationId": f"create_{name}",
        "requestBody": {"required": True, "content": {"application/json": schema}},
        "responses": {"200": found, **errors(*(each for each in _ERRORS if each != "409"))},
    }


def _passed_on(path: str) -> dict[str, Any]:
    """An endpoint whose bodies are those of the engine that serves the model."""
    schema = {"schema": {
        "type": "object", "properties": {"model": _TEXT}, "additionalProperties": True,
    }}  # fmt: skip
    content = {"application/json": schema}
    if path.startswith("/v1/audio/t") or path.startswith("/v1/images/edits"):
        content["multipart/form-data"] = schema
    good = {"description": "the engine's answer", "content": {"*/*": {"schema": {}}}}
    return {
        "operationId": "post" + path.replace("/", "_"),
        "requestBody": {"required": True, "content": content},
        "responses": {"200": good, **errors(*_ERRORS)},
    }


def get(schema: str | None, summary: str, *statuses: str, own: str | None = None) -> dict[str, Any]:
    """A GET that answers with JSON; with status `own` too, where the answer is a no."""
    kind: Any = {"type": "object"} if schema is None else reference(schema)
    good = {"description": summary, "content": {"application/json": {"schema": kind}}}
    responses = {"200": good, **errors(*statuses)}
    if own is not None:
        responses[own] = {**good, "description": "no"}
    return {"summary": summary, "responses": responses}


def get_text(media_type: str, summary: str, *statuses: str) -> dict[str, Any]:
    """A GET that answers with a text."""
    content = {media_type: {"schema": _TEXT}}
    good = {"description": summary, "content": content}
    return {"summary": summary, "responses": {"200": good, **errors(*statuses)}}


def reference(schema: str) -> dict[str, str]:
    """What stands for a schema."""
    return {"$ref": _REFERENCE.format(model=schema)}


def errors(*statuses: str) -> dict[str, Any]:
    """Answers with the error object, by status."""
    content = {"application/json": {"schema": reference("Error")}}
    return {status: {"description": _ERRORS[status], "content": content} for status in statuses}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}
