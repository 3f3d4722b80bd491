"""Where a number stands: its sign and currency before it, and whether it is a number by itself.

Digits inside a name (GPT-4, x2), an exponent, a root, a time, a date or a product with letters are
not a number by themselves.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from suffice.evals.answers.units import is_unit, one_letter

_LAST_LATIN = 0x0530  # letters beyond (中, ع, ก) stand right beside a number without a space
CURRENCY = "$€£¥₹₩₽฿₫₺¢"
MONEY = re.compile(rf"[{CURRENCY}]|USD|EUR|GBP|INR|JPY|CNY|RMB|CHF|CAD|AUD|Rs|Php")
_CODES = re.compile(
    rf"(?:(?:US|CA|AU|NZ|HK)?[{CURRENCY}]|\b(?:USD|EUR|GBP|INR|JPY|CNY|RMB|CHF|CAD|AUD|Rs\.?|Php))"
    r"\s?\Z"
)
_LONGEST_CODE = 8
_MINUS_WORD = re.compile(
    r"(?:\b(?:minus|negative|moins|menos|meno|минус)\s|负|負|マイナス)\s?\Z", re.IGNORECASE
)
# What a number is inside of: \sqrt{3}, x^{2}, }{4} of a fraction, f(3).
_INSIDE = re.compile(r"(?:\\[a-zA-Z]+(?:\[\d\])?|[\^_}])\s?\{[-+]?\Z|[^\W_]\([-+]?\Z")
_SIGNED_BRACKET = re.compile(r"(?<![\w)\]}])(-)\(\Z")
# 5 cm x 3 cm: the unit stands between.
_UNIT_TIMES = re.compile(r"\d ?[a-zA-Z]{1,3} (?:[xX×*]|by) \Z")
_TIMES_UNIT = re.compile(r" ?[a-zA-Z]{1,3} (?:[xX×*]|by) (?=\.?\d)")
_OPERATOR = re.compile(r" ?(?:[+÷±]|[-×*x/]| - | x | X ) ?[-+]?[$€£¥₹]?(?=\.?\d)")
_NOT_WHOLE = re.compile(
    r" ?(?:√|π|\\|±)|\^|:\d|[-/]\d|\(|\*?√| ?\*\* ?\d|!(?=\s*[=)*×])|_\d|"
    r"\)\s?(?:\^|\*|×|\(|/ ?\d)"
)
_LETTERS = re.compile(r"[^\W\d_]+")
_ORDINAL = re.compile(r"(?:st|nd|rd|th)(?![^\W\d_])", re.IGNORECASE)


class Lead(NamedTuple):
    """What stands before a number: where it all begins, the sign, and what the number is part of.

    `fits` False: it is no number by itself. `operand`: it is part of a sum, product or range.
    """

    start: int
    sign: str = ""
    fits: bool = True
    operand: bool = False


def lead(text: str, at: int) -> Lead:
    """What stands before the digits at `at`."""
    money = _CODES.search(text, max(0, at - _LONGEST_CODE), at)
    start = at if money is None else money.start()
    last = text[start - 1 : start]
    bracketed = _SIGNED_BRACKET.search(text, max(0, start - 3), start) if last == "(" else None
    if bracketed is not None:  # -(3/4)
        return Lead(bracketed.start(1), "-")
    if last in ("{", "(") and _INSIDE.search(text, max(0, start - 16), start):
        return Lead(start, fits=False)
    worded = _MINUS_WORD.search(text, max(0, start - 12), start)
    if worded is not None:
        left = text[max(0, worded.start() - 2) : worded.start()].rstrip(" ")
        return Lead(worded.start(), "-", operand=left[-1:].isdigit())
    if last and last in "-+":
        return _signed(text, start - 1, last, money is None)
    return _unsigned(text, start, last)


def _signed(text: str, start: int, sign: str, may_be_money: bool) -> Lead:
    money = _CODES.search(text, max(0, start - _LONGEST_CODE), start) if may_be_money else None
    if money is not None:  # $-20
        return Lead(money.start(), sign)
    last = text[start - 1 : start]
    if last and (last.isdigit() or last in ")]}%"):  # 8-3, 3-5: a sum or a range
        return Lead(start, operand=True)
    if _letter(last):  # GPT-4
        return Lead(start, fits=False)
    return Lead(start, sign, fits=last not in ("^", "_"))


def _unsigned(text: str, start: int, last: str) -> Lead:
    earlier = text[start - 2 : start - 1] if start > 1 else ""
    if last == "_":  # _20_ in Markdown, x_20
        return Lead(start, fits=not earlier.isalnum())
    if last == "#":
        return Lead(start)
    if _letter(last) or last in ("^", "\\", "√"):
        return Lead(start, fits=False)
    if last == "/":
        return Lead(start, fits=not earlier.isalnum())
    if last in (":", "."):
        return Lead(start, fits=not earlier.isdigit())
    return _behind_operator(text, start, last)


def _behind_operator(text: str, start: int, last: str) -> Lead:
    """A number behind an operator, which may stand apart from it: 3 + 4, = - 5."""
    operator, end = last, start - 1
    if last == " " and start > 1:
        operator, end = text[start - 2], start - 2
    left = text[max(0, end - 2) : max(0, end)].rstrip(" ")[-1:]
    follows = left.isdigit() or left in (")", "}", "%")
    if operator and operator in "÷±×":
        return Lead(start, operand=True)
    if operator and operator in "+*-xX" and follows:
        return Lead(start, operand=True)
    if operator and operator in "xXy" and _UNIT_TIMES.search(text, max(0, start - 12), start):
        return Lead(start, operand=True)
    if operator == "-" and last == " " and left in ("=", ":", "("):
        return Lead(start, "-")
    return Lead(start)


def ends(text: str, end: int) -> bool:
    """Whether a number may end at `end`, and not inside a product, a time, a name."""
    if end >= len(text):
        return True
    if _NOT_WHOLE.match(text, end):
        return False
    if not _letter(text[end]) or _ORDINAL.match(text, end):
        return True
    attached = _LETTERS.match(text, end)
    assert attached is not None
    if len(attached[0]) == 1:
        return one_letter(attached[0]) and not text[end + 1 : end + 2].isalnum()
    return is_unit(attached[0]) or len(attached[0]) >= 3


def continues(text: str, end: int) -> bool:
    """Whether an operator and a further number follow."""
    return (_OPERATOR.match(text, end) or _TIMES_UNIT.match(text, end)) is not None


def _letter(character: str) -> bool:
    return bool(character) and character.isalpha() and ord(character) < _LAST_LATIN
