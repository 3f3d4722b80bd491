"""English number words: twelve, twenty-five, one hundred and five, three quarters, half."""

from __future__ import annotations

import re
from fractions import Fraction

_SMALL = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS = {
    word: 10 * number
    for number, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fifth": 5,
    "fifths": 5, "fourth": 4, "fourths": 4, "sixth": 6, "sixths": 6,
    "eighth": 8, "eighths": 8, "tenth": 10, "tenths": 10,
}  # fmt: skip
_NEGATIVE = re.compile(r"\b(?:minus|negative)\s\Z", re.IGNORECASE)
_WORD = re.compile(r"[a-z]+")
_RUN = re.compile(
    r"\b(?:(?:{0})(?:[\s-]+(?:and[\s-]+)?(?:{0}))*)\b".format(
        "|".join([*_SMALL, *_TENS, "hundred", *_LARGE, *_PARTS])
    ),
    re.IGNORECASE,
)


def first_words(text: str) -> Fraction | None:
    """The first number that is spelled in words, None if there is none."""
    run = _RUN.search(text)
    found = None if run is None else value_of(run[0])
    if run is None or found is None:
        return None
    return -found if _NEGATIVE.search(text, 0, run.start()) else found


def value_of(text: str) -> Fraction | None:
    """The number that words name, None if they name none or several."""
    words = [word for word in _WORD.findall(text.lower()) if word != "and"]
    if not words or len(words) > 16:
        return None
    if words[-1] not in _PARTS:
        return _cardinal(words)
    above = Fraction(1) if words[:-1] in ([], ["a"]) else _cardinal(words[:-1])
    return None if above is None else above / _PARTS[words[-1]]


def _cardinal(words: list[str]) -> Fraction | None:
    total = group = 0
    last = 10**15  # what may still be added must be smaller
    for word in words:
        value = _SMALL.get(word, _TENS.get(word))
        fits = False
        if value is not None:
            fits = value < last and (value > 0 or len(words) == 1)
            group, last = group + value, 10 if word in _TENS else 1
        elif word == "hundred":
            fits = 0 < group < 100
            group, last = group * 100, 100
        elif word in _LARGE:
            fits = group > 0 and (total == 0 or total >= _LARGE[word])
            total, group, last = total + group * _LARGE[word], 0, 1000
        if not fits:
            return None
    return Fraction(total + group)
