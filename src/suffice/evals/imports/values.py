"""Cells of foreign tables as verdicts, numbers and texts; a wrong one is named by its line."""

from __future__ import annotations

import json
import math
from typing import Any

from suffice.core.errors import InputError

_RIGHT = frozenset(("true", "yes", "y", "correct", "right", "pass", "passed", "c", "t", "1", "✓"))
_WRONG = frozenset(("false", "no", "n", "incorrect", "wrong", "fail", "failed", "i", "f", "0", "✗"))


def verdict(value: Any, where: str, name: str) -> float | None:
    """A verdict as a number from 0 (wrong) to 1 (right); None where there is none."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        low = value.strip().lower()
        if low in ("", "nan", "none", "null", "na", "n/a"):
            return None
        if low in _RIGHT:
            return 1.0
        if low in _WRONG:
            return 0.0
    number = _float(value)
    if number is None or not 0.0 <= number <= 1.0:
        if isinstance(value, float) and math.isnan(value):
            return None
        raise InputError(
            f"{where}: {name} {str(value)[:40]!r} is no verdict: write true or false, 1 or 0, "
            "correct or incorrect, or a score from 0 to 1"
        )
    return number


def count(value: Any, where: str, name: str) -> int | None:
    """A number of tokens; None where there is none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    number = _float(value)
    if number is not None and math.isnan(number):
        return None
    if number is None or number < 0 or number != round(number) or number >= 2**31:
        raise InputError(f"{where}: {name} {str(value)[:40]!r} is no number of tokens")
    return int(number)


def measure(value: Any, where: str, name: str) -> float | None:
    """A finite number; None where there is none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    number = _float(value)
    if number is not None and math.isnan(number):
        return None
    if number is None or math.isinf(number):
        raise InputError(f"{where}: {name} {str(value)[:40]!r} is no number")
    return number


def text(value: Any) -> str | None:
    """A cell as text: numbers as they are written, lists and objects as JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
