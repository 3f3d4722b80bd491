"""The choice letters that a text commits to: B, or several as a set in order: AC.

The box comes first, then what an anchor announces ("the answer is", 答案, <answer>), then what the
sentences say of each letter: one that is called right, or the one that is left when the others are
called wrong. A letter among others that nothing is said of is no answer.
"""

from __future__ import annotations

import re

from suffice.evals.answers.anchors import anchored, told
from suffice.evals.answers.boxes import last_boxed
from suffice.evals.answers.sentences import letters_said
from suffice.evals.answers.spelling import plain

# Letters that look alike in Cyrillic; models mix them.
_ALIKE = {"А": "A", "В": "B", "С": "C", "Е": "E", "Н": "H", "а": "a", "с": "c", "е": "e"}
_LONE = re.compile(r"(?<!\w)[АВСЕНасе](?!\w)")
_CIRCLED = {chr(0x24B6 + n): f"({chr(65 + n)})" for n in range(26)}

_LABEL = (
    r"(?:(?:the|die|der|das|la|le|el|il|l')\s?)?"
    r"(?:(?:a\s)?(?:options?|choices?|letter|statements?|opción|opciones|letra|opção|"
    r"alternativa|lettre|lettera|opzione|вариант|буква|phương án|pilihan|şık)"
    r"[\s:：]{1,2}|(?:选项|選項|選択肢|보기)[\s:：]{0,2})?"
)
_OPEN = r"[\[(*\"'`{<“‘「《_$\s]{0,6}"
_CLOSE = r"[\])*\"'`}>”’」》_$]{0,6}"
_ONE = re.compile(
    rf"{_LABEL}({_OPEN})([A-Za-z])(?![A-Za-z0-9]|-[A-Za-z]|\+\+)({_CLOSE})", re.IGNORECASE
)
_RUN = re.compile(rf"{_LABEL}{_OPEN}([A-J]{{2,10}})(?![A-Za-z0-9]){_CLOSE}")
_AND = re.compile(
    r"\s*(?:(?:[,;/&+、，；]|\band\b|\bund\b|\bet\b|\by\b|\be\b|\bи\b|\bve\b|\bdan\b|\bvà\b|[和与與及と]|와|과)\s*){1,2}",
    re.IGNORECASE,
)
_OR = re.compile(r"\s*,?\s*(?:\bor\b|\boder\b|\bou\b|\bo\b|\bили\b|或|또는)\s*", re.IGNORECASE)
# Behind "the answer is A": what may follow a letter that could be an article or a pronoun.
_AFTER_WORD = re.compile(
    r"\s*(?:\Z|[.,;:!?)\]\-–—=\n(+&/]|[^\x00-\x7f]|(?:because|since|as|for|which|is|was|are|and|or|not|but|"
    r"due|given|with|und|oder|et|ou|y|e|o|och|en|и|или|ve|dan|và|weil|denn|porque|parce|car|perché|потому|так)\b)",
    re.IGNORECASE,
)
_LOWER_AFTER = re.compile(
    r"\s*(?:\Z|[.,;:!?)\]\n。，]|(?:because|since|as|due|and|or|not|but|is)\b)", re.IGNORECASE
)
_NO_ANSWER = re.compile(
    r"\W{0,4}(?:cannot|can't|can not|could not|"
    r"not (?:given|determin|clear|possible|known|among|listed)|"
    r"n/?a\b|unknown|unclear|undetermin|impossible|none\b|neither\b|no\b)",
    re.IGNORECASE,
)
_NOT = re.compile(rf"\W{{0,4}}(?:not|nicht|no|pas|не)\s+{_ONE.pattern}", re.IGNORECASE)

_CONTRACTED = re.compile(r"['’](?:s|t|m|ll|re|ve|d)\b")  # A's, I'm
_PRONOUN_ENDS = re.compile(r"\s*(?:\Z|[.,;:)\n。])")
_LABEL_AFTER = re.compile(r"\s*(?:\Z|[.):,;])")
# "(C), (D) is close": of a list the last begins another clause.
_NEXT_CLAUSE = re.compile(
    r"\s*(?:is|are|was|were|seems?|looks?|would|can(?:not|'t)?|could|does|do|has|have|fails?|"
    r"contradicts?)\b(?![^.\n]{0,20}\b(?:correct|right|true)\b)",
    re.IGNORECASE,
)
_ANOTHER_LABEL = re.compile(r"(?<!\w)[(\[]?[A-Ja-j][)\].:]")
_SHORT = 40  # characters of a text that may be nothing but its answer
_AMBIGUOUS = ""


def choice_answer(text: str) -> str | None:
    """Letters of the choices that a text commits to, in order; None if it commits to none."""
    if len(text) <= _SHORT and "\n" not in text.strip():
        entire = choice_of(text)
        if entire is not None:
            return entire
    box = last_boxed(text)
    if box is not None and (found := choice_of(box)) is not None:
        return found
    text = _spelled(told(text))
    for behind in anchored(text):
        found = _announced(behind[:400])
        if found is not None:
            return found or None
    return letters_said(text)


def choice_of(text: str) -> str | None:
    """The choices that a whole short text is: b, (C), AC, "A and D", "E: wind erosion"."""
    text = _spelled(plain(text)).replace("\\", " ").strip().strip("$").strip(" .{}")
    text = re.sub(r"\Aboth\s", "", text, flags=re.IGNORECASE)
    found = _letters(text, anchored=False)
    if found is None:
        return None
    letters, end = found
    rest = text[end:]
    if text[end - 1] in ")]}*" and not _ANOTHER_LABEL.search(rest):
        return letters or None
    if rest.strip(" .") and not re.match(r"\s*(?:[.):：,\]}*](?![A-Za-z])|[-–—](?=\s))", rest):
        return None  # "A number": an article
    return letters or None


def _spelled(text: str) -> str:
    if text.isascii():
        return text
    for circled, spelled in _CIRCLED.items():
        if circled in text:
            text = text.replace(circled, spelled)
    wide = {0xFF21 + n: chr(65 + n) for n in range(26)} | {
        0xFF41 + n: chr(97 + n) for n in range(26)
    }
    brackets = {"（": "(", "）": ")", "．": ".", "【": "[", "】": "]"}
    text = text.translate(wide | {ord(k): v for k, v in brackets.items()})
    return _LONE.sub(lambda lone: _ALIKE[lone[0]], text)


def _announced(behind: str) -> str | None:
    """The letters right behind an anchor; "" if it says that there is no single one."""
    if _NO_ANSWER.match(behind) and _NOT.match(behind) is None:
        return _AMBIGUOUS
    denied = _NOT.match(behind)
    if denied is not None:
        rest = re.split(r"[.!?\n]", behind[denied.end() :], maxsplit=1)[0]
        return letters_said(rest)
    found = _letters(behind, anchored=True)
    return None if found is None else found[0]


def _letters(text: str, *, anchored: bool) -> tuple[str, int] | None:
    """The letters at the beginning of a text, as a sorted set, and where they end."""
    run = _RUN.match(text)
    if (
        run is not None
        and _is_set(run[1])
        and not re.match(r"\s+[a-z]+\s+[a-z]", text[run.end() :])
    ):
        return "".join(sorted(run[1])), run.end()
    first = _one(text, 0, anchored=anchored)
    if first is None:
        return None
    letters, end = {first[0].upper()}, first[1]
    before_comma = set(letters)  # what stands if the last belongs to the next clause
    while (joined := _AND.match(text, end)) is not None:
        further = _one(text, joined.end(), anchored=True)
        if further is None or further[0].isupper() != first[0].isupper() or further[0] in "Ii":
            break
        if joined[0].strip() in (",", ";"):
            before_comma = set(letters)
        letters.add(further[0].upper())
        end = further[1]
    if len(letters) > 1 and _NEXT_CLAUSE.match(text, end):
        return "".join(sorted(before_comma)), end
    either = _OR.match(text, end)
    if either is not None and (other := _one(text, either.end(), anchored=True)) is not None:
        return _AMBIGUOUS, other[1]
    return "".join(sorted(letters)), end


def _is_set(run: str) -> bool:
    """AC and ABD, and not BAD or FEED: letters that rise."""
    return len(set(run)) == len(run) and list(run) == sorted(run)


def _one(text: str, at: int, *, anchored: bool) -> tuple[str, int] | None:
    """One letter at `at`; one that could be an article or a pronoun must not read as such."""
    match = _ONE.match(text, at)
    if match is None or _CONTRACTED.match(text, match.end(2)):
        return None
    letter, marked = match[2], any(mark in match[1] for mark in '([*"`{<$')
    if marked:
        fits = True
    elif letter in "Ii" and anchored:
        fits = _PRONOUN_ENDS.match(text, match.end(2)) is not None
    elif letter.islower():
        allowed = _LOWER_AFTER if anchored else _LABEL_AFTER
        fits = allowed.match(text, match.end(2)) is not None
    elif letter == "A" and anchored:
        fits = _AFTER_WORD.match(text, match.end(2)) is not None
    else:
        fits = True
    return (letter, match.end()) if fits else None
