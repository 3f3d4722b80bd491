"""Whether a value is what a JSON Schema asks for: the part of the standard that tools use.

Known: type, enum, const, properties, required, additionalProperties, items, minItems, maxItems,
minimum, maximum, minLength, maxLength, anyOf, oneOf, allOf, local $ref. Every other keyword is left
to the tool itself, which checks its arguments too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Json = Any
# A schema that refers to itself ends somewhere in the values it is held against; this is for those
# that do not.
MOST_DEPTH = 32

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}


def problems(value: Json, schema: Json, *, at: str = "") -> list[str]:
    """What is wrong with `value`, a sentence each; empty where nothing is."""
    return list(_Checker(schema).check(value, schema, at, 0))


def type_of(schema: Json, name: str) -> str | None:
    """The one type that a property of an object schema has; None if it may have several."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    found = properties.get(name) if isinstance(properties, Mapping) else None
    kind = found.get("type") if isinstance(found, Mapping) else None
    return kind if isinstance(kind, str) else None


def parameters(schema: Json) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of an object schema's properties, those that are required first, and of the latter."""
    if not isinstance(schema, Mapping):
        return (), ()
    properties = schema.get("properties")
    names = tuple(properties) if isinstance(properties, Mapping) else ()
    asked = schema.get("required")
    required = tuple(name for name in names if isinstance(asked, Sequence) and name in asked)
    return (*required, *(name for name in names if name not in required)), required


class Unknown:
    """Stands for a value that is known later: it is right wherever it stands."""


UNKNOWN = Unknown()


class _Checker:
    def __init__(self, root: Json) -> None:
        self._root = root

    def check(self, value: Json, schema: Json, at: str, depth: int) -> list[str]:
        if schema is False:
            return [f"{at or 'the value'} is not allowed"]
        if isinstance(value, Unknown) or not isinstance(schema, Mapping) or depth > MOST_DEPTH:
            return []
        if "$ref" in schema:
            return self.check(value, self._target(schema["$ref"]), at, depth + 1)
        found = self._kind(value, schema, at)
        if found:
            return found
        found = self._choice(value, schema, at, depth)
        if isinstance(value, Mapping):
            found += self._object(value, schema, at, depth)
        elif isinstance(value, list | tuple):
            found += self._array(value, schema, at, depth)
        elif isinstance(value, str):
            found += _bounds(len(value), schema, "minLength", "maxLength", f"{at}: its length")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found += _bounds(value, schema, "minimum", "maximum", at)
        return found

    def _target(self, reference: Json) -> Json:
        """What a reference within the schema points at; anything goes where it points elsewhere."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        found = self._root
        for part in reference.lstrip("#/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key, {}) if isinstance(found, Mapping) else {}
        return found

    def _kind(self, value: Json, schema: Mapping[str, Json], at: str) -> list[str]:
        kinds = schema.get("type")
        asked = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
        known = [kind for kind in asked if kind in _TYPES]
        if known and not any(_is(value, kind) for kind in known):
            return [f"{at or 'the value'} must be {' or '.join(known)}, got {shown(value)}"]
        return []

    def _choice(self, value: Json, schema: Mapping[str, Json], at: str, depth: int) -> list[str]:
        choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(choices, list) and value not in choices:
            allowed = ", ".join(shown(choice) for choice in choices)
            return [f"{at or 'the value'} must be one of {allowed}, got {shown(value)}"]
        found: list[str] = []
        for keyword in ("anyOf", "oneOf"):
            options = schema.get(keyword)
            if isinstance(options, list) and options:
                tried = [self.check(value, option, at, depth + 1) for option in options]
                if all(tried):
                    found.append(min(tried, key=len)[0])
        for each in schema.get("allOf") or ():
            found += self.check(value, each, at, depth + 1)
        return found

    def _object(
        self, value: Mapping[str, Json], schema: Mapping[str, Json], at: str, depth: int
    ) -> list[str]:
        properties = schema.get("properties")
        known = properties if isinstance(properties, Mapping) else {}
        others = schema.get("additionalProperties", True)
        found = [
            f"{_joined(at, str(name))} is missing"
            for name in schema.get("required") or ()
            if name not in value
        ]
        for name, item in value.items():
            if name in known:
                found += self.check(item, known[name], _joined(at, name), depth + 1)
            elif others is False:
                allowed = ", ".join(known) or "none"
                found.append(f"{_joined(at, name)} is no parameter (it has {allowed})")
            else:
                found += self.check(item, others, _joined(at, name), depth + 1)
        return found

    def _array(
        self, value: Sequence[Json], schema: Mapping[str, Json], at: str, depth: int
    ) -> list[str]:
        found = _bounds(len(value), schema, "minItems", "maxItems", f"{at}: its length")
        for number, item in enumerate(value):
            found += self.check(item, schema.get("items", {}), f"{at}[{number}]", depth + 1)
        return found


def _is(value: Json, kind: str) -> bool:
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _bounds(
    value: float, schema: Mapping[str, Json], least: str, most: str, what: str
) -> list[str]:
    low, high = schema.get(least), schema.get(most)
    if isinstance(low, int | float) and value < low:
        return [f"{what} must be at least {low}, got {value}"]
    if isinstance(high, int | float) and value > high:
        return [f"{what} must be at most {high}, got {value}"]
    return []


def _joined(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def shown(value: Json) -> str:
    """A value as JSON, cut to what fits into a sentence."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
