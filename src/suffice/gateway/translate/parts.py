"""Reading other protocols' requests: fields of a wanted type, or an InputError that names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from suffice.core.errors import InputError

Json = dict[str, Any]


def text_at(value: Any, where: str) -> str:
    """Text, or an InputError that names the place."""
    if not isinstance(value, str):
        raise InputError(f"{where} must be text")
    return value


def object_at(value: Any, where: str) -> Mapping[str, Any]:
    """An object."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be an object")
    return value


def list_at(value: Any, where: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list")
    return value


def only_engines(what: str, where: str) -> InputError:
    """The error for what only its inventor's service can do."""
    return InputError(
        f"{where}: {what} runs at its provider, and this model's engine has no such thing; "
        "leave it out"
    )


def content_of(parts: list[Json]) -> str | list[Json]:
    """Parts as a message's content: plain text where it is nothing else."""
    if all(part["type"] == "text" and len(part) == 2 for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def without_nulls(fields: Json) -> Json:
    """The fields that are set."""
    return {name: value for name, value in fields.items() if value is not None}
