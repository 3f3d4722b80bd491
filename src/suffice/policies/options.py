"""Options of policies: from text to their own types, and how they are shown."""

from __future__ import annotations

import types
from dataclasses import MISSING
from typing import Any, Literal, Union, get_args, get_origin

from suffice.core.errors import InputError

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def convert(name: str, hint: Any, value: Any) -> Any:
    """An option's value in its own type, from text or from a parsed file."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = [each for each in get_args(hint) if each is not types.NoneType]
        # An effort of "none" is an effort: the sample shall not think.
        words = ("",) if name == "effort" else ("none", "")
        absent = value is None or (isinstance(value, str) and value.lower() in words)
        return None if absent else convert(name, inner[0], value)
    if origin is tuple:
        parts = value.split("+") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise InputError(f"option {name}={value} must be a list")
        return tuple(convert(name, get_args(hint)[0], part) for part in parts)
    if origin is Literal:
        return value  # the policy's own check names the choices
    if hint is not str:
        return _scalar(name, hint, value)
    if isinstance(value, str | int | float):
        return str(value)
    raise InputError(f"option {name}={value} must be text")


def _scalar(name: str, hint: Any, value: Any) -> bool | int | float:
    if hint is bool:
        if str(value).lower() not in _TRUTH:
            raise InputError(f"option {name}={value} must be true or false")
        return _TRUTH[str(value).lower()]
    kind = "a whole number" if hint is int else "a number"
    try:
        number = float(value)
        if hint is float:
            return number
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"option {name}={value} must be {kind}")


def type_name(hint: Any) -> str:
    """An option's type as people write it."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(each) for each in get_args(hint))
    if origin is Literal:
        return " | ".join(get_args(hint))
    if origin is tuple:
        return f"{type_name(get_args(hint)[0])}+…"
    return "none" if hint is types.NoneType else str(hint.__name__)


def shown(default: Any) -> str:
    """An option's default as people write it."""
    if default is None or default is MISSING:
        return "none"
    if isinstance(default, tuple):
        return "+".join(str(item) for item in default)
    return repr(default) if isinstance(default, str) else str(default)
