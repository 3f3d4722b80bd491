"""The value of digits with separators: thousands and decimals in all their spellings."""

from __future__ import annotations

import re
from fractions import Fraction

# Digits of a number that is spelled out; more (10^10^10) would fill memory, and are no answer.
MOST_DIGITS = 1000

DIGITS = re.compile(
    r"(?:\d{1,3}(?: \d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,'_]\d+)*|\.\d+)(?:[eE][-+]?\d+(?!\w))?"
)
_SEPARATORS = re.compile(r"[.,'_ ]")
_THOUSANDS = re.compile(r"\d{1,3}(?:([.,'_ ])\d{3})(?:\1\d{3})*\Z")
_INDIAN = re.compile(r"\d{1,2}(?:,\d{2})+,\d{3}\Z")


def value_of_digits(text: str, *, comma: bool) -> Fraction | None:
    """The value of what `DIGITS` matches; None for a list, a date, a version, or too many digits.

    `comma`: in this language the decimal point is a comma.
    """
    digits, _, exponent = text.lower().partition("e")
    if len(digits) > MOST_DIGITS or len(exponent) > 5:
        return None
    separators = _SEPARATORS.findall(digits)
    parted = _parted(digits, separators, comma=comma) if separators else (digits, "")
    if parted is None:
        return None
    whole, point = parted
    value = Fraction(int((whole + point) or "0"), 10 ** len(point))
    return times_ten(value, int(exponent)) if exponent else value


def times_ten(value: Fraction, exponent: int) -> Fraction | None:
    """value × 10^exponent, None beyond what is spelled out."""
    if abs(exponent) > MOST_DIGITS:
        return Fraction(0) if value == 0 else None
    return value * Fraction(10) ** exponent


def _parted(digits: str, separators: list[str], *, comma: bool) -> tuple[str, str] | None:
    """Digits before and behind the decimal point."""
    last = separators[-1]
    if len(set(separators)) == 1:
        return _of_one_kind(digits, last, len(separators) == 1, comma=comma)
    before, _, behind = digits.rpartition(last)
    point = len(set(separators)) == 2 and separators.count(last) == 1 and last in ".,"
    if point and (_THOUSANDS.match(before) or _INDIAN.match(before)):
        return re.sub(r"\D", "", before), behind
    return None


def _of_one_kind(digits: str, mark: str, alone: bool, *, comma: bool) -> tuple[str, str] | None:
    grouped = _THOUSANDS.match(digits) is not None
    if mark not in ".,":
        return (digits.replace(mark, ""), "") if grouped else None
    usual = mark == ("." if comma else ",")  # what parts thousands in this language
    if grouped and not digits.startswith("0") and (usual or not alone):
        return digits.replace(mark, ""), ""
    if _INDIAN.match(digits):
        return digits.replace(",", ""), ""
    before, _, behind = digits.rpartition(mark)
    return (before, behind) if alone else None
