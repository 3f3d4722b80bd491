"""Settings of a training run from TOML or plain values, and how two differ."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from suffice.core.errors import ConfigError, InputError
from suffice.core.files import read_json, read_toml

T = TypeVar("T")


def from_toml(kind: type[T], path: Path, *, table: str | None = None) -> T:
    """`kind` from a TOML file or one of its tables; raises ConfigError that names the field."""
    try:
        values, _ = read_toml(path, what="config")
    except InputError as error:
        raise ConfigError(str(error)) from None
    return from_values(kind, values if table is None else values.get(table, {}), source=str(path))


def from_values(kind: type[T], values: dict[str, Any], *, source: str) -> T:
    """`kind` from plain values, nested ones included; unknown fields are errors."""
    try:
        return TypeAdapter(kind).validate_python(_over_defaults(kind, values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"config {source!r}: {where or 'file'}: {first['msg']}") from None


def _over_defaults(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    """`values` with each nested table laid over the default that `kind` has for it.

    A recipe's `[routing]` that names one setting keeps the recipe's other settings, not those of
    `Routing` alone.
    """
    found = dict(values)
    for entry in fields(kind):
        table = values.get(entry.name)
        if isinstance(table, dict) and entry.default_factory is not MISSING:
            default = entry.default_factory()
            if is_dataclass(default):
                inner = _over_defaults(type(default), table)
                known = {field.name: getattr(default, field.name) for field in fields(default)}
                found[entry.name] = {**known, **inner}
    return found


def differences(old: dict[str, Any], new: dict[str, Any], at: str = "") -> list[str]:
    """`name: old -> new` for every value in which two nested tables differ."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{at}{name}.")
        elif a != b:
            found.append(f"{at}{name}: {a} -> {b}")
    return found


def plain(config: Any) -> dict[str, Any]:
    """A config as JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values


def refuse_another(result: Path, config: Any) -> None:
    """Raise ConfigError where the result that lies there came from another config."""
    if not result.exists():
        return
    changed = differences(read_json(result, what="result")["config"], plain(config))
    if changed:
        raise ConfigError(
            f"{str(result.parent)!r} holds a run of another config ({'; '.join(changed)}): choose "
            "another --out, or delete it"
        )
