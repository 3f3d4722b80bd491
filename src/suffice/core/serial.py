"""Frozen data to JSON values and back: policy states, evidence, actions.

A dataclass becomes an object with its class under "$"; tuples become arrays. Only classes that were
registered with `@stored` can be read back, so that stored text never chooses what gets built.
"""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

from suffice.core import completions, coverage, decisions, requests, thinking
from suffice.core.errors import InputError

T = TypeVar("T")

_CLASSES: dict[str, type] = {}
_TAG = "$"
_FLOAT = "$float"


def stored(cls: type[T]) -> type[T]:
    """Register a frozen dataclass, so that `loads` may build it; use as a decorator."""
    name = cls.__name__
    known = _CLASSES.setdefault(name, cls)
    if known is not cls and known.__module__ != cls.__module__:
        raise InputError(
            f"two stored classes are named {name}: one in {known.__module__}, "
            f"one in {cls.__module__}; rename one"
        )
    _CLASSES[name] = cls
    return cls


@cache
def _names(cls: Any) -> dict[str, None]:
    """Names of a dataclass's fields, in order."""
    return dict.fromkeys(field.name for field in fields(cls))


def encode(value: Any) -> Any:
    """JSON value of frozen data; raises InputError on anything mutable or unregistered."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    cls = type(value)
    if _CLASSES.get(cls.__name__) is cls and is_dataclass(cls):
        encoded = {name: encode(getattr(value, name)) for name in _names(cls)}
        return {_TAG: cls.__name__, **encoded}
    raise InputError(
        f"cannot store a {cls.__name__}: states hold None, numbers, text, tuples and dataclasses "
        "marked @stored"
    )


def decode(value: Any) -> Any:
    """Frozen data behind a JSON value that `encode` made."""
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    if _FLOAT in value:
        return float(value[_FLOAT])
    name = value.get(_TAG)
    cls = _CLASSES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise InputError(f"stored data names {name!r}, which is no stored class of this version")
    given = {key: decode(item) for key, item in value.items() if key != _TAG}
    if not given.keys() <= _names(cls).keys():
        extra = ", ".join(sorted(given.keys() - _names(cls).keys()))
        raise InputError(f"stored {name} has fields of another version: {extra}")
    return cls(**given)


def dumps(value: Any) -> str:
    """JSON text of frozen data."""
    return json.dumps(encode(value), allow_nan=False, ensure_ascii=False)


def loads(text: str) -> Any:
    """Frozen data behind JSON text of `dumps`."""
    return decode(json.loads(text))


for _module in (thinking, coverage, requests, completions, decisions):
    for _cls in vars(_module).values():
        if is_dataclass(_cls) and isinstance(_cls, type) and _cls.__module__ == _module.__name__:
            stored(_cls)
