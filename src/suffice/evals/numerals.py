"""Numbers as people and models write them, read whole and exactly.

3/4, 2 1/2, 10^6, 3 x 10^5, 2.5e3, 1,234.5, 1.234,56, 10 000, -$20, 50%, 1.5 million, ½, ４２ are one
number each. 12:30, 2:3, 3-5, 1/2/2024, 2√3, 5x and GPT-4 hold digits and are none: they are found
as such, and never cut to their last digits. Every function takes time linear in its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from suffice.evals.number_spelling import plain
from suffice.evals.units import NONE, Unit, is_unit, one_letter, unit_of

# Digits of a number that is spelled out; more (10^10^10) would fill memory, and are no answer.
MOST_DIGITS = 1000
_LAST_LATIN = 0x0530  # letters beyond (中, ع, ก) stand right beside a number without a space


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


_BLOB = re.compile(
    r"(?:\d{1,3}(?: \d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,'_]\d+)*|\.\d+)(?:[eE][-+]?\d+(?!\w))?"
)
_SEPARATORS = re.compile(r"[.,'_ ]")
_THOUSANDS = re.compile(r"\d{1,3}(?:([.,'_ ])\d{3})(?:\1\d{3})*\Z")
_INDIAN = re.compile(r"\d{1,2}(?:,\d{2})+,\d{3}\Z")

_EXPONENT = r"(?:\{\s?([-+]?\d+)\s?\}|\(\s?([-+]?\d+)\s?\)|([-+]?\d+))"
_POWER = re.compile(rf" ?(?:\^|\*\*) ?{_EXPONENT}(?![\w.]*[\d])")
_OVER = re.compile(r" ?/ ?")
_MIXED = re.compile(r"(?: | and | & )(\d{1,9}) ?/ ?(\d{1,9})(?![\d/.,:]*\d)")
_TEN = re.compile(rf" ?(?:×|[xX*]) ?10 ?(?:\^|\*\*) ?{_EXPONENT}(?!\w)")
_PERCENT = re.compile(
    r" ?(?:%|(?:per ?cent|pct|percentage points?|prozent|procent|pour ?cents?|por ciento|por cento|"
    r"per cento|процент\w{0,3}|パーセント|퍼센트)(?![^\W\d_]))|百分点",
    re.IGNORECASE,
)
_PER_MILLE = re.compile(r" ?‰")
_WORD = re.compile(r"([ -]?)([^\W\d_]+)\.?")
_ATTACHED = re.compile(r"[^\W\d_]+")
_OPERATOR = re.compile(
    r" ?(?:[+÷±]|[-×*x/]| - | x | X ) ?[-+]?[$€£¥₹]?(?=\.?\d)"
)
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
# "mille", "mil" and "bin" also are other words ("5 bin" in English): only other languages' texts.
_ONLY_ATTACHED = {"k": 3, "K": 3, "M": 6, "B": 9, "bn": 9, "mn": 6, "T": 12}
_CJK = {"十": 1, "百": 2, "千": 3, "천": 3, "万": 4, "萬": 4, "만": 4, "亿": 8, "億": 8, "억": 8, "兆": 12}
_CURRENCY = "$€£¥₹₩₽฿₫₺¢"
_CODES = re.compile(
    r"(?:(?:US|CA|AU|NZ|HK)?[$€£¥₹₩₽฿₫₺]|\b(?:USD|EUR|GBP|INR|JPY|CNY|RMB|CHF|CAD|AUD|Rs\.?|Php))"
    r"\s?\Z"
)
_MONEY = re.compile(rf"[{_CURRENCY}]|USD|EUR|GBP|INR|JPY|CNY|RMB|CHF|CAD|AUD|Rs|Php")
# What a number is inside of: \\sqrt{3}, x^{2}, }{4} of a fraction, f(3).
_INSIDE = re.compile(r"(?:\\[a-zA-Z]+(?:\[\d\])?|[\^_}])\s?\{[-+]?\Z|[^\W_]\([-+]?\Z")
_MINUS_WORD = re.compile(
    r"(?:\b(?:minus|negative|moins|menos|meno|минус)\s|负|負|マイナス)\s?\Z", re.IGNORECASE
)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)(?![^\W\d_])", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(
    r"\b(?:antwort|ergebnis|beträgt|il totale|o total|el total|le total|ergibt|lautet|insgesamt|respuesta|resultado|résultat|réponse|"
    r"donc|risposta|risultato|quindi|resposta|antwoord|uitkomst|ответ|итого|svaret?|vastaus|"
    r"odpowiedź|odpověď|cevap|jawaban|total de|der|das|sind|und|los|las|les|des|della|são|også)\b",
    re.IGNORECASE,
)


def find(text: str, *, comma: bool | None = None) -> Iterator[Numeral]:
    """Every numeral of a text that `plain` has spelled, left to right.

    `comma`: the decimal point is a comma (1.234 is a thousand); None: where the words are of a
    language that writes so.
    """
    if comma is None:
        comma = decimal_comma(text)
    position = 0
    while True:
        blob = _BLOB.search(text, position)
        if blob is None:
            return
        found = _read(text, blob, comma=comma)
        position = max(found.end, blob.end())
        yield found


def decimal_comma(text: str) -> bool:
    """Whether a text is of a language that writes 1.234,5 for 1,234.5."""
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
    money = _MONEY.search(said)
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
            if len(inner) > 1 and inner[0] == left and inner[-1] == right:
                inner = inner[1:-1].strip()
        if inner.endswith(".") and not inner.endswith(".."):
            inner = inner[:-1].rstrip()
        if inner == text:
            return text
        text = inner


def _complex_fraction(text: str) -> Quantity | None:
    """\\frac of whole numbers that are not digits alone: \\frac{10^3}{4}, -\\frac{(2)}{\\frac12}."""
    match = re.fullmatch(r"([-+]?)\s*\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", text)
    if match is None:
        return None
    above, below = whole(match[2]), whole(match[3])
    if above is None or below is None or below.value == 0 or (above.unit, below.unit) != (NONE, NONE):
        return None
    value = above.value / below.value
    return Quantity(-value if match[1] == "-" else value)


def _read(text: str, blob: re.Match[str], *, comma: bool) -> Numeral:
    start, sign, fits, operand = _before(text, blob.start())
    value = _decimal(blob[0], comma=comma)
    end = blob.end()
    if value is None:
        return Numeral(None, start, end)
    value, end, fits_behind = _extended(text, end, value, blob[0], comma=comma)
    if value is None or not fits or not fits_behind:
        return Numeral(None, start, end)
    operand = operand or _OPERATOR.match(text, end) is not None
    return Numeral(-value if sign == "-" else value, start, end, operand)


def _before(text: str, at: int) -> tuple[int, str, bool, bool]:
    """Where a number with its sign and currency begins, its sign, whether it is one, an operand."""
    start, sign = at, ""
    ahead = text[max(0, at - 8) : at]
    currency = _CODES.search(ahead)
    if currency is not None:
        start = at - len(ahead) + currency.start()
    if start and text[start - 1] in "-+":
        sign, start = text[start - 1], start - 1
        money = _CODES.search(text[max(0, start - 8) : start])
        if currency is None and money is not None:  # $-20
            start -= len(money[0])
    last = text[start - 1] if start else ""
    if last in ("{", "(") and _INSIDE.search(text[max(0, start - 16) : start]):
        return start, "", False, False
    words = _MINUS_WORD.search(text, max(0, start - 12), start)
    if words is not None:
        left = text[max(0, words.start() - 2) : words.start()].rstrip(" ")
        return words.start(), "-", True, left[-1:].isdigit()
    if sign:
        if last.isdigit() or (last and last in ")]}%"):  # 8-3, 3-5: a sum or a range
            return start, "", True, True
        if _letter(last):  # GPT-4
            return start, "", False, False
        return start, sign, last not in ("^", "_"), False
    if last == "_" and not text[start - 2 : start - 1].isalnum():  # _20_ in Markdown
        return start, "", True, False
    if _letter(last) or last in ("^", "_", "\\", "√") or (last == "#" and text[start - 2 : start - 1] != "#"):
        return start, "", last == "#", False
    if last == "/" or last == ":":
        earlier = text[start - 2 : start - 1]
        return start, "", not (earlier.isdigit() or (last == "/" and earlier.isalpha())), False
    if last == ".":
        return start, "", not text[start - 2 : start - 1].isdigit(), False
    return (start, *_spaced(text, start, last))


def _spaced(text: str, start: int, last: str) -> tuple[str, bool, bool]:
    """The sign, whether it is a number, an operand; where an operator stands before it."""
    operator, end = last, start - 1
    if last == " " and start > 1:
        operator, end = text[start - 2], start - 2
    left = text[max(0, end - 2) : end].rstrip(" ")
    follows = left[-1:].isdigit() or left[-1:] in (")", "}", "%")
    if operator in ("+", "÷", "±") or (operator == "×" or (operator in "*-xX" and follows and operator)):
        return "", True, follows or operator in ("÷", "±", "×")
    if operator == "-" and last == " " and (left[-1:] in ("=", ":", "(", "is")):
        return "-", True, False
    return "", True, False


def _letter(character: str) -> bool:
    return bool(character) and character.isalpha() and ord(character) < _LAST_LATIN


def _decimal(blob: str, *, comma: bool) -> Fraction | None:
    """The value of digits with separators; None for a list, a date, a version."""
    digits, _, exponent = blob.lower().partition("e")
    if len(digits) > MOST_DIGITS or len(exponent) > 5:
        return None
    separators = _SEPARATORS.findall(digits)
    if not separators:
        plain_digits, point = digits, ""
    else:
        parted = _parted(digits, separators, comma=comma)
        if parted is None:
            return None
        plain_digits, point = parted
    value = Fraction(int((plain_digits + point) or "0"), 10 ** len(point))
    return value if not exponent else _times_ten(value, int(exponent))


def _parted(digits: str, separators: list[str], *, comma: bool) -> tuple[str, str] | None:
    """Digits before and behind the decimal point."""
    last = separators[-1]
    kinds = set(separators)
    before, _, behind = digits.rpartition(last)
    alone = separators.count(last) == 1
    if len(kinds) == 1 and last in ".,":
        grouped = _THOUSANDS.match(digits) is not None and not digits.startswith("0")
        usual = last == ("." if comma else ",")  # what parts thousands in this language
        if grouped and (not alone or usual):
            return digits.replace(last, ""), ""
        if _INDIAN.match(digits):
            return digits.replace(",", ""), ""
        return (before, behind) if alone else None
    if len(kinds) == 1:
        return (digits.replace(last, ""), "") if _THOUSANDS.match(digits) else None
    if len(kinds) == 2 and alone and last in ".,":
        if _THOUSANDS.match(before) or _INDIAN.match(before):
            return re.sub(r"\D", "", before), behind
    return None


def _times_ten(value: Fraction, exponent: int) -> Fraction | None:
    """value × 10^exponent, None beyond what is spelled out."""
    if abs(exponent) > MOST_DIGITS:
        return Fraction(0) if value == 0 else None
    return value * Fraction(10) ** exponent


def _extended(
    text: str, end: int, value: Fraction, blob: str, *, comma: bool
) -> tuple[Fraction | None, int, bool]:
    """The value with what belongs to it behind: power, fraction, 10^n, scale, percent."""
    found: Fraction | None = value
    if text[end : end + 1] in "^*/ -x×Xa&":
        found, end = _arithmetic(text, end, value, blob, comma=comma)
        if found is None:
            return None, end, False
    found, end = _scaled(text, end, found)
    percent = _PERCENT.match(text, end)
    mille = _PER_MILLE.match(text, end)
    if percent or mille:
        found /= 100 if percent else 1000
        end = (percent or mille).end()  # type: ignore[union-attr]
    return found, end, _ends(text, end)


def _arithmetic(
    text: str, end: int, value: Fraction, blob: str, *, comma: bool
) -> tuple[Fraction | None, int]:
    power = _POWER.match(text, end)
    if power is not None:
        return _raised(value, int(power[1] or power[2] or power[3])), power.end()
    over = _OVER.match(text, end)
    if over is not None:
        below = _BLOB.match(text, over.end())
        if below is not None:
            bottom = _decimal(below[0], comma=comma)
            end = below.end()
            if not bottom or re.compile(r" ?/ ?\d|\^").match(text, end):
                return None, end
            return value / bottom, end
        return value, end
    if blob.isdigit():
        mixed = _MIXED.match(text, end)
        if mixed is not None and 0 < int(mixed[1]) < int(mixed[2]):
            return value + Fraction(int(mixed[1]), int(mixed[2])), mixed.end()
    ten = _TEN.match(text, end)
    if ten is not None:
        exponent = ten[1] or ten[2] or ten[3]
        return (_times_ten(value, int(exponent)) if len(exponent) < 6 else None), ten.end()
    return value, end


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
            rest = re.compile(r"\d{1,8}").match(text, end)
            if rest is not None and value.denominator == 1:  # 3万5000
                value, end = value + int(rest[0]), rest.end()
            continue
        word = _WORD.match(text, end)
        if word is None:
            return value, end
        places = (
            _SCALES.get(word[2].lower())
            if word[1] or len(word[2]) > 3
            else _ONLY_ATTACHED.get(word[2])
        )
        if places is None or (word[1] and len(word[2]) == 1):
            return value, end
        value, end = value * 10**places, word.end(2)
        if text[end : end + 1] == "." and word[2].lower() in ("mio", "mrd", "тыс", "млн", "млрд"):
            end += 1
    return value, end


_NOT_WHOLE = re.compile(
    r" ?(?:√|π|\\|±)|\^|:\d|[-/]\d|\(|\*?√| ?\*\* ?\d|!(?=\s*[=)*×])|_\d|\)\s?(?:\^|\*|×|\(|/ ?\d)"
)


def _ends(text: str, end: int) -> bool:
    """Whether a number may end here, and not inside a product, a time, a name."""
    if end >= len(text):
        return True
    if _NOT_WHOLE.match(text, end):
        return False
    attached = _ATTACHED.match(text, end)
    if attached is None or not _letter(text[end]):
        return True
    word = attached[0]
    if _ORDINAL.match(text, end):
        return True
    behind = text[attached.end() : attached.end() + 1]
    if len(word) == 1:
        return one_letter(word) and not behind.isalnum()
    return is_unit(word) or len(word) >= 3
