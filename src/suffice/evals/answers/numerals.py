"""Numbers as people and models write them, read whole and exactly.

3/4, 2 1/2, 10^6, 3 x 10^5, 2.5e3, 1,234.5, 1.234,56, 10 000, -$20, 50%, 1.5 million, ½, ４２ are
one number each. 12:30, 2:3, 3-5, 1/2/2024, 2√3, 5x and GPT-4 hold digits and are none: they are
found as such, and never cut to their last digits. Every function is linear in its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from suffice.evals.answers.context import MONEY, continues, ends, lead
from suffice.evals.answers.digits import DIGITS, value_of_digits
from suffice.evals.answers.extent import extent
from suffice.evals.answers.spelling import plain
from suffice.evals.answers.units import NONE, Unit, unit_of

_PAIR = re.compile(r"[(\[{]\d+,(?!\d{3}[)\]}])\d+[)\]}]\Z")  # (2,3): two numbers


_FRESH = re.compile(r"\b(?!and )[A-Za-z]{2,} ?(?=\d)", re.IGNORECASE)


class Numeral(NamedTuple):
    """Digits in a text: a number, or None where what they belong to is not one number.

    `operand`: a number that is part of a sum, product or range with further numbers.
    """

    value: Fraction | None
    start: int
    end: int
    operand: bool = False


class Quantity(NamedTuple):
    """A number with its unit."""

    value: Fraction
    unit: Unit = NONE


# Words by which answers are announced in languages that do so; place names have the small ones.
_COMMA_WORDS = (
    "antwort", "ergebnis", "beträgt", "ergibt", "lautet", "insgesamt", "also sind", "respuesta",
    "resultado", "résultat", "réponse", "donc", "il totale", "o total", "el total", "le total",
    "risposta", "risultato", "quindi", "resposta", "antwoord", "uitkomst", "ответ", "итого",
    "svar", "vastaus", "odpowiedź", "odpověď", "cevap", "jawaban", "sont", "sind",
)  # fmt: skip
_DECIMAL_COMMA = re.compile(
    r"\b(?:" + "|".join(_COMMA_WORDS).replace("svar", "svaret?") + r")\b", re.IGNORECASE
)
_COMMA_ASCII = tuple(word for word in _COMMA_WORDS if word.isascii())


def find(text: str, *, comma: bool | None = None, start: int = 0) -> Iterator[Numeral]:
    """Every numeral of a text that `plain` has spelled, left to right, from `start` on.

    `comma`: the decimal point is a comma (1.234 is a thousand); None: where the words are of a
    language that writes so. `start`: 0, or what `beginning` gave.
    """
    if comma is None:
        comma = decimal_comma(text)
    position = start
    while True:
        digits = DIGITS.search(text, position)
        if digits is None:
            return
        found = _read(text, digits, comma=comma)
        position = max(found.end, digits.end())
        yield found


def beginning(text: str, at: int) -> int | None:
    """Digits at or behind `at` that no numeral before them can reach; None if there are none.

    They follow a word of two Latin letters or more: what a numeral takes in between its digits is
    spaces, marks, single letters (3 x 10^5), "and" (2 and 1/2) and CJK scales.
    """
    found = _FRESH.search(text, at)
    return None if found is None else found.end()


def decimal_comma(text: str) -> bool:
    """Whether a text is of a language that writes 1.234,5 for 1,234.5."""
    if text.isascii():  # as good as always; the pattern takes ten times as long
        low = text.lower()
        if not any(word in low for word in _COMMA_ASCII):
            return False
    return _DECIMAL_COMMA.search(text) is not None


def whole(text: str, *, comma: bool = False) -> Quantity | None:
    """The number that the whole text is, with its unit if it has one; None if it is not one."""
    text = _bare(plain(text))
    found = next(find(text, comma=comma), None)
    if found is None or found.value is None or found.operand:
        return _complex_fraction(text)
    before, said, behind = text[: found.start], text[found.start : found.end], text[found.end :]
    value = found.value
    if before.strip() in ("-", "+"):
        before, value = "", -value if before.strip() == "-" else value
    money = MONEY.search(said)
    unit = unit_of(behind if money is None else f"{behind} {money[0].strip('.')}")
    return None if unit is None or before.strip() else Quantity(value, unit)


def canonical(value: Fraction) -> str:
    """One spelling per value: a decimal if it ends, else a fraction in lowest terms."""
    bottom, twos, fives = value.denominator, 0, 0
    while bottom % 2 == 0:
        bottom, twos = bottom // 2, twos + 1
    while bottom % 5 == 0:
        bottom, fives = bottom // 5, fives + 1
    places = max(twos, fives)
    if bottom != 1:
        return f"{value.numerator}/{value.denominator}"
    if places == 0:
        return str(value.numerator)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _bare(text: str) -> str:
    """Without what only surrounds: dollars of LaTeX, brackets, a final dot."""
    text = text.strip()
    while True:
        inner = text
        for left, right in (("$", "$"), ("(", ")"), ("{", "}"), ("[", "]"), ("*", "*"), ("`", "`")):
            listed = left in "([{" and "," in inner
            if len(inner) > 1 and inner[0] == left and inner[-1] == right and not listed:
                inner = inner[1:-1].strip()
        if inner.endswith(".") and not inner.endswith(".."):
            inner = inner[:-1].rstrip()
        if inner == text:
            return text
        text = inner


def _complex_fraction(text: str) -> Quantity | None:
    """\\frac of numbers that are not digits alone: \\frac{10^3}{4}."""
    match = re.fullmatch(r"([-+]?)\s*\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", text)
    if match is None:
        return None
    above, below = whole(match[2]), whole(match[3])
    if (
        above is None
        or below is None
        or below.value == 0
        or (above.unit, below.unit) != (NONE, NONE)
    ):
        return None
    value = above.value / below.value
    return Quantity(-value if match[1] == "-" else value)


def _read(text: str, digits: re.Match[str], *, comma: bool) -> Numeral:
    before = lead(text, digits.start())
    value = value_of_digits(digits[0], comma=comma)
    if value is None:
        return Numeral(None, before.start, digits.end())
    value, end = extent(text, digits, value, comma=comma)
    if _PAIR.match(text, max(0, before.start - 1), end + 1):
        value = None
    if value is None or not before.fits or not ends(text, end):
        return Numeral(None, before.start, end)
    operand = before.operand or continues(text, end)
    return Numeral(-value if before.sign == "-" else value, before.start, end, operand)
