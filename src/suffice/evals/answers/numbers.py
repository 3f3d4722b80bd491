"""The one number that a text answers with: the box, else what an anchor announces, else the last.

A box, or an anchor's sentence, that holds digits which are not one number (12:30, 2√3, 3 and 4)
answers with no number: it is never cut to its last digits, nor is another part of the text taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from suffice.evals.answers.anchors import anchored, told
from suffice.evals.answers.boxes import last_boxed
from suffice.evals.answers.numerals import Numeral, beginning, decimal_comma, find, whole
from suffice.evals.answers.spelling import plain
from suffice.evals.answers.units import is_unit
from suffice.evals.answers.words import first_words, value_of

# An anchor announces what stands close behind it.
_NEAR_CHARACTERS = 80
_SENTENCE_CHARACTERS = 600
# Of a longer text only the end is read: it costs microseconds a character, and others wait.
_LONGEST_CHARACTERS = 2**15
# The last number is looked for so close to the end, then so far away from it.
_CLOSE_CHARACTERS = 1000
_FAR_CHARACTERS = 20_000
# In that stretch it is looked for in so many characters from the end first.
_REACHES = (60, 240)
_END = re.compile(r"[.!?](?=\s|\Z)|\n\s*\n|(?<=\S)\n(?=\S)")
_SUMMED = re.compile(
    r"\b(?:sum|product|difference|quotient|adding|multiply\w*|subtract\w*|divid\w*|follows|"
    r"found by|obtained|from|given by|times|plus|minus)\b",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"(?<!difference )(?<!ratio )\bbetween\s\Z", re.IGNORECASE)
# "2 hours and 30 minutes", "3 and 4": no one number.
_AND_ANOTHER = re.compile(r"(?:\s[^\W\d_]+){0,2},?\s(?:and|und|et|y|e|to)\s", re.IGNORECASE)
_SPACED_SIGN = re.compile(r"\A[*$]{0,4}-\s(?=[$€£]?\.?\d)")
_GIVES = re.compile(r"\s?(?:=|\bequals\b|\bis\b|\bgives\b|\bmakes\b|\bor\b)", re.IGNORECASE)
_SECONDARY = re.compile(
    r"(?:\b(?:not|neither|nor|not just|not only|instead of|rather than|as opposed to|steps?|"
    r"equation|eq\.|figure|table|question|problem|exercise|part|case|example|section|chapter|page|"
    r"line|method|version)|"
    r"\[|(?<!#)#)\s?[-$]?\Z",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"\s*(?:let me know|would you like|feel free|if you (?:want|need|have|would|like)|i hope|hope|"
    r"note(?: that)?:?\b|p\.?s\b|do you|please let)",
    re.IGNORECASE,
)
# A part of each of its ways to begin.
_COURTESIES = (
    "let me know", "would you like", "feel free", "if you", "hope", "note", "ps", "p.s", "do you",
    "please let",
)  # fmt: skip
_ITEM = re.compile(r"(?:^|\n)[ \t]*(?:\(?\d{1,3}[.)]|-)[ \t]+(?=\S)")
_CORRECTED = re.compile(
    r"\b(?:wait|actually|correction|hold on|let me re-?(?:check|do|compute|calculate|consider)|"
    r"i made an? (?:mistake|error)|scratch that|oops)\b",
    re.IGNORECASE,
)
_SUBTOTAL = re.compile(
    r"\b(?:total|sum|altogether|in all|insgesamt|en total|in totale|итого)\b[^.!?\n\d=:]{0,40}?"
    r"(?:\b(?:is|are|comes to|becomes|equals|ist|es|est|è)\b|[:=])",
    re.IGNORECASE,
)


_BRACKET = re.compile(r"\([^()\n]{0,200}\)|\[[^\[\]\n]{0,200}\]")
_THAT_IS = re.compile(
    r"(?<=[\d\w]),?\s(?:i\.\s?e\.|e\.\s?g\.|that is,)[^.!?\n]{0,200}", re.IGNORECASE
)
_NUMBER_BEFORE = re.compile(r"\d[*$%]{0,3}(?:\s[^\W\d_]+){0,3}\s?\Z")


# What a percent sign or its name looks like, in answers and in questions.
PERCENT_WORDS = (
    "%", "％", "٪", "percent", "per cent", "prozent", "procent", "pourcent", "pour cent", "porcent",
    "por ciento", "por cento", "per cento", "процент", "百分", "パーセント", "퍼센트",
)  # fmt: skip


_CALLED = re.compile(
    r"\s(?:is|as|are) (?:the|my|our)(?: final| correct| right)* answer\b(?!\s*(?:to|:|is))",
    re.IGNORECASE,
)


class NumberFound(NamedTuple):
    """What was found; `value` None where the answer is not one number."""

    value: Fraction | None
    percent: bool = False  # written with a percent sign

    @property
    def in_percent(self) -> NumberFound:
        """The same with the percent sign as a unit: 25% is 25."""
        if self.value is None or not self.percent:
            return self
        return NumberFound(self.value * 100)


NOTHING = NumberFound(None)


def number_answer(text: str) -> NumberFound:
    """The number that a text answers with."""
    if len(text) <= _NEAR_CHARACTERS and (entire := whole(text)) is not None:
        return NumberFound(entire.value, written_in_percent(text))
    box = last_boxed(text)
    if box is not None and (inside := _of_box(box)) is not None:
        return inside
    text = plain(told(text[-_LONGEST_CHARACTERS:]))
    comma = decimal_comma(text)
    for behind in anchored(text):
        found = _announced(behind, comma=comma)
        if found is not None:
            return found
    return _called(text, comma=comma) or _last(text, comma=comma)


def _of_box(content: str) -> NumberFound | None:
    """The number of a box; None if it holds no digit and no number word."""
    text = plain(content)
    text = re.sub(r"\s*\([^()\d]*[^\W\d_]{2}[^()]*\)\s*\Z", "", text) or text
    if not any(character.isdigit() for character in text):
        words = value_of(text)
        return None if words is None else NumberFound(words)
    text = re.sub(r"\A\s*[^\W\d_]{2,20}\s*:\s*", "", text)
    left, equals, right = text.rpartition("=")
    if equals and not (re.search(r"[,;]|\band\b|\bor\b", left) and re.search(r"\d", left)):
        text = right
    said = whole(text)
    if said is not None:
        return NumberFound(said.value, written_in_percent(text))
    found = list(find(text))
    if len(found) == 1 and found[0].value is not None and not re.search(r"[\\^√π=<>±:!]", text):
        return NumberFound(found[0].value, written_in_percent(text))
    return NOTHING


def _called(text: str, *, comma: bool) -> NumberFound | None:
    """The number that is called the answer behind it: "5 is the final answer"."""
    calls = list(_CALLED.finditer(text)) if "answer" in text.lower() else ()
    if not calls:
        return None
    begin = max(0, calls[-1].start() - _NEAR_CHARACTERS // 2)
    found = [
        each
        for each in find(text[begin : calls[-1].start()], comma=comma)
        if each.value is not None and not each.operand
    ]
    return _answer(text[begin:], found[-1]) if found else None


def _announced(behind: str, *, comma: bool) -> NumberFound | None:
    """The number right behind an anchor; None if what follows is no number at all."""
    behind = behind[: _NEAR_CHARACTERS + _SENTENCE_CHARACTERS]
    behind = _SPACED_SIGN.sub("-", behind, count=1)
    sentence = _sentence(behind)
    found = [each for each in find(sentence, comma=comma) if not _second(sentence, each)]
    if not found or found[0].start > _NEAR_CHARACTERS:
        words = None if found else first_words(sentence[:_NEAR_CHARACTERS])
        return None if words is None else NumberFound(words)
    if re.search(r"\b(?:yes|no|true|false)\b", sentence[: found[0].start], re.IGNORECASE):
        return None
    corrected = _CORRECTED.search(behind, found[0].end)
    if corrected is not None and any(
        n.value is not None for n in find(behind[corrected.end() :], comma=comma)
    ):
        return None
    summed = _SUMMED.search(sentence, 0, found[0].start) is not None
    if (
        len(found) > 1
        and not summed
        and (
            _BETWEEN.search(sentence, 0, found[0].start)
            or _AND_ANOTHER.fullmatch(sentence, found[0].end, found[1].start)
            or _of_two_units(sentence[found[0].end : found[1].start])
        )
    ):
        return NOTHING
    chosen = _through(sentence, found, len(found) - 1 if summed else 0)
    return NOTHING if chosen is None else _answer(sentence, chosen)


def _of_two_units(between: str) -> bool:
    """Whether a number goes on in a smaller unit: 5 ft 3 in."""
    return is_unit(between.strip(" .,")) and between[-1:] == " "


def _through(text: str, found: Sequence[Numeral], at: int) -> Numeral | None:
    """Past a sum to what it comes to: 2 + 3 = 5; None if it stays a sum."""
    summed = False
    while found[at].operand or found[at].value is None:
        if found[at].value is None and not found[at].operand and not summed:
            later = at + 1 < len(found) and "=" in text[found[at].end : found[at + 1].start]
            if not later:
                return None
        summed = True
        if at + 1 >= len(found):
            return None
        between = text[found[at].end : found[at + 1].start]
        at += 1
        if "=" in between and not found[at].operand and found[at].value is not None:
            return found[at]
    if summed:  # a sum without an equals sign: "2 + 3, which is 5" is one, "2 + 3 boxes" is not
        between = text[found[at - 1].end : found[at].start]
        return found[at] if _GIVES.search(between) else None
    words = re.compile(
        r"\s(?:times|plus|minus|divided by|multiplied by|added to)\s", re.IGNORECASE
    ).match(text, found[at].end)
    if words is not None and at + 1 < len(found):
        return _last_of(found[at + 1 :]) if len(found) > at + 2 else None
    return found[at]


def _last_of(found: Sequence[Numeral]) -> Numeral | None:
    good = [each for each in found if each.value is not None and not each.operand]
    return good[-1] if good else None


def _sentence(text: str) -> str:
    """Up to the first end of a sentence that has a digit or a word in it."""
    for end in _END.finditer(text):
        if re.search(r"\w", text[: end.start()]):
            return text[: end.start() + 1]
    return text


def _second(text: str, numeral: Numeral) -> bool:
    """Whether a number is said beside the point: "not 8", "step 3", "[1]"."""
    return _SECONDARY.search(text, max(0, numeral.start - 16), numeral.start) is not None


def _last(text: str, *, comma: bool) -> NumberFound:
    """The last number of a text that is not beside the point; else the last there is.

    Looked for in the end of the text first: reading a number takes 60 µs, and a text may have a
    hundred thousand. One that is further away from the end than _FAR_CHARACTERS is not the answer.
    """
    close = _last_in(_tail(text, _CLOSE_CHARACTERS), comma=comma)
    if close.certain or len(text) <= _CLOSE_CHARACTERS:
        return close.answer
    return _last_in(_tail(text, _FAR_CHARACTERS), comma=comma).answer


def _tail(text: str, length: int) -> str:
    """About so many characters from the end, from the beginning of a line or sentence on."""
    if len(text) <= length:
        return text
    start = len(text) - length
    for mark in ("\n", ". ", " "):
        at = text.find(mark, start, start + length // 2)
        if at >= 0:
            return text[at + len(mark) :]
    return text[start:]


class _Found(NamedTuple):
    answer: NumberFound
    certain: bool  # nothing further away from the end can be the answer


def _last_in(text: str, *, comma: bool) -> _Found:
    """The same within one stretch of text, from its end backwards."""
    aside = _asides(text)
    for reach in _REACHES:
        start = beginning(text, len(text) - reach) if len(text) > 2 * reach else None
        if start is not None:
            found = _last_from(text, start, aside, comma=comma)
            if found.certain:
                return found
    return _last_from(text, 0, aside, comma=comma)


def _last_from(text: str, start: int, aside: list[tuple[int, int]], *, comma: bool) -> _Found:
    """The same of the numbers from `start` on; certain if those before it cannot matter."""
    spare: Numeral | None = None
    chosen: Numeral | None = None
    pointer = 0
    last: Numeral | None = None
    for each in find(text, comma=comma, start=start):
        last = each
        if each.value is None or each.operand:
            continue
        while pointer < len(aside) and aside[pointer][1] <= each.start:
            pointer += 1
        within = pointer < len(aside) and aside[pointer][0] <= each.start
        if within or _second(text, each):
            spare = each
        else:
            chosen = each
    if last is not None and last.operand and not text[last.end :].strip(" =+-*/×÷\n"):
        return _Found(NOTHING, certain=True)
    if chosen is None:
        return _Found(NOTHING if spare is None else _answer(text, spare), certain=False)
    answer = _answer(text, _of_its_sentence(text, chosen, comma=comma))
    return _Found(answer, certain=True)


def _of_its_sentence(text: str, chosen: Numeral, *, comma: bool) -> Numeral:
    """Where the last number's sentence says "the total is", the number that follows that."""
    begin = max(text.rfind(mark, 0, chosen.start) for mark in (". ", "\n", "! ", "? ")) + 1
    begin = max(begin, chosen.start - _SENTENCE_CHARACTERS)
    totals = list(_SUBTOTAL.finditer(text, begin, chosen.start))
    if not totals:
        return chosen
    start = totals[-1].end()
    if re.search(r"[=+×*÷]|\s[-/x]\s", text[start : chosen.start]):
        return chosen  # a sum: its last number is what it comes to
    sentence = text[start : chosen.end]
    found = [each for each in find(sentence, comma=comma) if not _second(sentence, each)]
    if not found or found[0].start > 24:
        return chosen
    first = _through(sentence, found, 0)
    if first is None:
        return chosen
    return first._replace(start=first.start + start, end=first.end + start)


def _has_courtesy(low: str) -> bool:
    """Whether any sentence of a text in lower case may begin as _ASIDE says."""
    for words in _COURTESIES:  # noqa: SIM110 - a generator takes longer than the search
        if words in low:
            return True
    return False


def _asides(text: str) -> list[tuple[int, int]]:
    """Spans that are beside the point: bracketed remarks, list numbers, closing courtesies."""
    # Most texts lack what a pattern needs, and seeing that they do takes a hundredth of the time.
    spans = []
    if "(" in text or "[" in text:
        spans += [(m.start(), m.end()) for m in _BRACKET.finditer(text) if _remark(text, m)]
    low = text.lower()
    shortened = "e." in low and ("i." in low or "g." in low)  # i.e., e.g.
    if shortened or "that is," in low:
        spans += [(m.start(), m.end()) for m in _THAT_IS.finditer(text)]
    items = _ITEM.finditer(text) if "\n" in text else filter(None, [_ITEM.match(text)])
    spans += [(m.start(), m.end()) for m in items]
    if not text.isascii() or _has_courtesy(low):
        start = 0
        for end in [*(m.end() for m in _END.finditer(text)), len(text)]:
            if _ASIDE.match(text, start, end):
                spans.append((start, end))
            start = end
    if len(spans) < 2:
        return spans
    merged: list[tuple[int, int]] = []
    for begin, stop in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((begin, stop))
    return merged


def _remark(text: str, bracket: re.Match[str]) -> bool:
    """Whether a bracket is beside the point: (see step 3), 48 boxes (12 each); not (12 cm)."""
    if re.match(r"[(\[]\s*[^\W\d_]", bracket[0]) is not None:
        return True
    return _NUMBER_BEFORE.search(text, max(0, bracket.start() - 40), bracket.start()) is not None


def _answer(text: str, numeral: Numeral) -> NumberFound:
    return NumberFound(numeral.value, written_in_percent(text[numeral.start : numeral.end]))


def written_in_percent(text: str) -> bool:
    """Whether a number's own text has a percent sign or its name."""
    if text.isdecimal():  # as good as always
        return False
    low = text.lower()
    return any(word in low for word in PERCENT_WORDS)
