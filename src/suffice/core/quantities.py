"""Quantities as people write them (100B, 40GB, 1e9) to numbers and back."""

from __future__ import annotations

import math
import re

from suffice.core.errors import InputError

_DECIMAL = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_NUMBER = re.compile(
    r"^\s*([0-9][0-9_,]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)\s*$"
)
_DURATION_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_count(text: str, *, what: str = "number") -> float:
    """Number behind `100B`, `1.5T`, `2e9`, `4096` (dimensionless; K, M, B or G, T are decimal)."""
    match = _NUMBER.match(text)
    if not match or match[2].upper() not in _DECIMAL:
        raise InputError(f"{what} {text!r} is not a number: write 4096, 2e9, 100B or 1.5T")
    value = float(match[1].replace("_", "").replace(",", "")) * _DECIMAL[match[2].upper()]
    if not math.isfinite(value) or value <= 0:
        raise InputError(f"{what} must be positive and finite, got {text!r}")
    return value


def parse_integer(text: str, *, what: str = "number") -> int:
    """Whole number behind `4096`, `4K`, `100B`."""
    value = parse_count(text, what=what)
    if value != int(value):
        raise InputError(f"{what} must be a whole number, got {text!r}")
    return int(value)


def parse_share(text: str, *, what: str = "share") -> float:
    """A share from 0 to 1, written as `1%` or `0.01`."""
    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError:
        raise InputError(f"{what} {text!r} is no share: write 1% or 0.01") from None
    share = number / 100.0 if text.strip().endswith("%") else number
    if not 0.0 <= share <= 1.0:
        raise InputError(f"{what} must lie between 0 and 1 (or 100%), got {text!r}")
    return share


def parse_duration(text: str, *, what: str = "duration") -> float:
    """Seconds behind `500ms`, `90s`, `30m`, `2h`, `1d`, or a bare number of seconds."""
    match = _NUMBER.match(text)
    unit = match[2].lower() if match else ""
    if not match or (unit and unit not in _DURATION_S):
        raise InputError(f"{what} {text!r} is not a duration: write 500ms, 90s, 30m, 2h or 1d")
    return float(match[1].replace("_", "").replace(",", "")) * _DURATION_S.get(unit, 1.0)


def parse_rate(text: str) -> float:
    """A rate such as 5/s or 90/min, per second."""
    units = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
    number, _, unit = text.partition("/")
    try:
        value = float(number) / units[unit]
    except (ValueError, KeyError):
        raise InputError(f"rate {text!r}: write a number per s, min or h, such as 5/s") from None
    if not value > 0:
        raise InputError(f"rate {text!r} must be positive")
    return value


def format_count(value: float, digits: int = 3) -> str:
    """`973.1M`, `100B`: `value` to `digits` significant digits with a decimal suffix."""
    if value == 0:
        return "0"
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= scale:
            return _significant(value / scale, digits) + suffix
    return _significant(value, digits)


def counted(number: int, noun: str) -> str:
    """`1 sample`, `4 samples`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_bytes(value: float, digits: int = 3) -> str:
    """`32.0 KiB`, `1.92 GiB`: bytes with a binary suffix."""
    for suffix, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= scale:
            return f"{_significant(value / scale, digits)} {suffix}"
    return f"{value:.0f} B"


def format_seconds(value: float) -> str:
    """`3.16 ms`, `1.20 s`: seconds with the unit that reads best."""
    if value < 1e-3:
        return f"{_significant(value * 1e6, 3)} µs"
    if value < 1.0:
        return f"{_significant(value * 1e3, 3)} ms"
    return f"{_significant(value, 3)} s"


def _significant(value: float, digits: int) -> str:
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{decimals}f}"
