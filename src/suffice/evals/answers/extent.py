"""What belongs to a number behind its digits: power, fraction, 10^n, scale, percent."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from suffice.evals.answers.digits import DIGITS, MOST_DIGITS, times_ten, value_of_digits

_EXPONENT = r"(?:\{\s?([-+]?\d+)\s?\}|\(\s?([-+]?\d+)\s?\)|([-+]?\d+))"
_POWER = re.compile(rf" ?(?:\^|\*\*) ?{_EXPONENT}(?![\w.]*[\d])")
_OVER = re.compile(r" ?/ ?")
_OVER_AGAIN = re.compile(r" ?/ ?\d|\^")
_MIXED = re.compile(r"(?: | and | & )(\d{1,9}) ?/ ?(\d{1,9})(?![\d/.,:]*\d)")
_TEN = re.compile(rf" ?(?:×|[xX*]) ?10 ?(?:\^|\*\*) ?{_EXPONENT}(?!\w)")
_REST = re.compile(r"\d{1,8}")
_PERCENT = re.compile(
    r" ?(?:%|(?:per ?cent|pct|percentage points?|prozent|procent|pour ?cents?|por ciento|por cento|"
    r"per cento|процент\w{0,3}|パーセント|퍼센트)(?![^\W\d_]))|百分点",
    re.IGNORECASE,
)
_PER_MILLE = re.compile(r" ?‰")
_WORD = re.compile(r"([ -]?)([^\W\d_]+)\.?")
_SCALES = {
    "k": 3, "bn": 9, "mn": 6, "mln": 6, "mio": 6, "mrd": 9, "tn": 12, "mil": 3,
    "hundred": 2, "hundreds": 2, "thousand": 3, "thousands": 3, "million": 6, "millions": 6,
    "billion": 9, "billions": 9, "trillion": 12, "trillions": 12, "quadrillion": 15,
    "lakh": 5, "lakhs": 5, "lac": 5, "crore": 7, "crores": 7,
    "tausend": 3, "millionen": 6, "milliarde": 9, "milliarden": 9, "billionen": 12,
    "mille": 3, "milliard": 9, "milliards": 9,
    "millón": 6, "millones": 6, "billones": 12, "milhão": 6, "milhões": 6, "bilhão": 9,
    "bilhões": 9, "trilhões": 12, "mila": 3, "milione": 6, "milioni": 6, "miliardo": 9,
    "miliardi": 9, "duizend": 3, "miljoen": 6, "miljard": 9, "milion": 6, "miliony": 6,
    "milionów": 6, "tysiąc": 3, "tysięcy": 3, "tysiące": 3, "bin": 3, "milyon": 6, "milyar": 9,
    "тыс": 3, "тысяча": 3, "тысячи": 3, "тысяч": 3, "млн": 6, "миллион": 6, "миллиона": 6,
    "миллионов": 6, "млрд": 9, "миллиард": 9, "миллиарда": 9, "миллиардов": 9,
}  # fmt: skip
_ATTACHED = {"k": 3, "K": 3, "M": 6, "B": 9, "bn": 9, "mn": 6, "T": 12}
_CJK = {
    "十": 1,
    "百": 2,
    "千": 3,
    "천": 3,
    "万": 4,
    "萬": 4,
    "만": 4,
    "亿": 8,
    "億": 8,
    "억": 8,
    "兆": 12,
}

_DOTTED = ("mio", "mrd", "тыс", "млн", "млрд")  # abbreviations: their dot ends no sentence


class Extent(NamedTuple):
    """A number with what belongs to it, and where that ends; None if it is not one number."""

    value: Fraction | None
    end: int


def extent(text: str, digits: re.Match[str], value: Fraction, *, comma: bool) -> Extent:
    """The number that begins with `digits`, whose value is `value`."""
    found = Extent(value, digits.end())
    if text[found.end : found.end + 1] in "^*/ -x×Xa&":
        found = _arithmetic(text, digits, value, comma=comma)
        if found.value is None:
            return found
    assert found.value is not None
    value, end = _scaled(text, found.end, found.value)
    for pattern, share in ((_PERCENT, 100), (_PER_MILLE, 1000)):
        sign = pattern.match(text, end)
        if sign is not None:
            return Extent(value / share, sign.end())
    return Extent(value, end)


def _arithmetic(text: str, digits: re.Match[str], value: Fraction, *, comma: bool) -> Extent:
    end = digits.end()
    power = _POWER.match(text, end)
    if power is not None:
        return Extent(_raised(value, int(power[1] or power[2] or power[3])), power.end())
    over = _OVER.match(text, end)
    below = over and DIGITS.match(text, over.end())
    if below:
        bottom = value_of_digits(below[0], comma=comma)
        again = _OVER_AGAIN.match(text, below.end())
        return Extent(value / bottom if bottom and not again else None, below.end())
    mixed = _MIXED.match(text, end) if digits[0].isdigit() else None
    if mixed is not None and 0 < int(mixed[1]) < int(mixed[2]):
        return Extent(value + Fraction(int(mixed[1]), int(mixed[2])), mixed.end())
    ten = _TEN.match(text, end)
    if ten is not None:
        exponent = ten[1] or ten[2] or ten[3]
        return Extent(times_ten(value, int(exponent)) if len(exponent) < 6 else None, ten.end())
    return Extent(value, end)


def _raised(value: Fraction, exponent: int) -> Fraction | None:
    size = max(len(str(value.numerator)), len(str(value.denominator)))
    if abs(exponent) * size > MOST_DIGITS or (value == 0 and exponent <= 0):
        return None
    return value**exponent


def _scaled(text: str, end: int, value: Fraction) -> tuple[Fraction, int]:
    """1.5 million, 5k, 3万: times the scale."""
    while end < len(text):
        if text[end] in _CJK:
            value, end = value * 10 ** _CJK[text[end]], end + 1
            rest = _REST.match(text, end)
            if rest is not None and value.denominator == 1:  # 3万5000
                value, end = value + int(rest[0]), rest.end()
            continue
        word = _WORD.match(text, end)
        places = None if word is None else _places(word[1], word[2])
        if word is None or places is None:
            return value, end
        value, end = value * 10**places, word.end(2)
        if text[end : end + 1] == "." and word[2].lower() in _DOTTED:
            end += 1
    return value, end


def _places(space: str, word: str) -> int | None:
    """Zeros of a scale word; a short one counts only right behind the digits (5k, not 5 k)."""
    if not space and len(word) <= 3:
        return _ATTACHED.get(word)
    return None if len(word) == 1 else _SCALES.get(word.lower())
