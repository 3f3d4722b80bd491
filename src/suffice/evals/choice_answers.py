"""The choice letters that a text commits to: B, or several as a set in order: AC.

The box comes first, then what an anchor announces ("the answer is", 答案, <answer>), then what the
sentences say of each letter: one that is called right, or the one that is left when the others are
called wrong. A letter among others that nothing is said of is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from suffice.evals.answer_anchors import anchored, told
from suffice.evals.boxes import last_boxed
from suffice.evals.number_spelling import plain

# Letters that look alike in Cyrillic; models mix them.
_ALIKE = {"А": "A", "В": "B", "С": "C", "Е": "E", "Н": "H", "а": "a", "с": "c", "е": "e"}
_LONE = re.compile(r"(?<!\w)[АВСЕНасе](?!\w)")
_CIRCLED = {chr(0x24B6 + n): f"({chr(65 + n)})" for n in range(26)}

_LABEL = (
    r"(?:(?:the|die|der|das|la|le|el|il|l')\s?)?"
    r"(?:(?:a\s)?(?:options?|choices?|letter|statements?|opción|opciones|letra|opção|"
    r"alternativa|lettre|lettera|opzione|вариант|буква|选项|選項|選択肢|보기|phương án|pilihan|şık)"
    r"[\s:：]{1,2})?"
)
_OPEN = r"[\[(*\"'`{<“‘「《_$\s]{0,6}"
_CLOSE = r"[\])*\"'`}>”’」》_$]{0,6}"
_ONE = re.compile(rf"{_LABEL}({_OPEN})([A-Za-z])(?![A-Za-z0-9])({_CLOSE})", re.IGNORECASE)
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
    r"\W{0,4}(?:cannot|can't|can not|could not|not (?:given|determin|clear|possible|known|among|listed)|"
    r"unknown|unclear|undetermin|impossible|none\b|neither\b|no\b)",
    re.IGNORECASE,
)
_NOT = re.compile(rf"\W{{0,4}}(?:not|nicht|no|pas|не)\s+{_ONE.pattern}", re.IGNORECASE)
_ALONE = re.compile(r"\s*[\[(*\"'`_#\s]{0,8}([A-Za-z])[\])*\"'`_]{0,6}\s*(?:[.):\n,;]|\Z|-\s)")

_SHORT = 40  # characters of a text that may be nothing but its answer
_AMBIGUOUS = ""


def choice_answer(text: str) -> str | None:
    """Letters of the choices that a text commits to, in order; None if it commits to none."""
    if len(text) <= _SHORT and (entire := choice_of(text)) is not None:
        return entire
    box = last_boxed(text)
    if box is not None and (found := choice_of(box)) is not None:
        return found
    text = _spelled(told(text))
    for behind in anchored(text):
        found = _announced(behind[:400])
        if found is not None:
            return found or None
    return _said(text)


def choice_of(text: str) -> str | None:
    """The choices that a whole short text is: b, (C), AC, "A and D", "E: wind erosion"."""
    text = _spelled(plain(text)).replace("\\", " ").strip().strip("$").strip(" .{}")
    found = _letters(text, anchored=False)
    if found is None:
        return None
    letters, end = found
    rest = text[end:]
    if rest.strip(" .") and not re.match(r"\s*(?:[.):：,\]}*]|[-–—](?=\s))", rest):
        return None  # "A number": an article
    return letters or None


def _spelled(text: str) -> str:
    if text.isascii():
        return text
    for circled, spelled in _CIRCLED.items():
        if circled in text:
            text = text.replace(circled, spelled)
    wide = {0xFF21 + n: chr(65 + n) for n in range(26)} | {0xFF41 + n: chr(97 + n) for n in range(26)}
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
        return _said(rest)
    found = _letters(behind, anchored=True)
    return None if found is None else found[0]


def _letters(text: str, *, anchored: bool) -> tuple[str, int] | None:
    """The letters at the beginning of a text, as a sorted set, and where they end."""
    run = _RUN.match(text)
    if run is not None and _is_set(run[1]) and not re.match(r"\s+[a-z]+\s+[a-z]", text[run.end() :]):
        return "".join(sorted(run[1])), run.end()
    first = _one(text, 0, anchored=anchored)
    if first is None:
        return None
    letters, end = {first[0].upper()}, first[1]
    while (joined := _AND.match(text, end)) is not None:
        further = _one(text, joined.end(), anchored=True)
        if further is None or further[0].isupper() != first[0].isupper() or further[0] in "Ii":
            break
        letters.add(further[0].upper())
        end = further[1]
    either = _OR.match(text, end)
    if either is not None and (other := _one(text, either.end(), anchored=True)) is not None:
        return _AMBIGUOUS, other[1]
    return "".join(sorted(letters)), end


def _is_set(run: str) -> bool:
    """AC and ABD, and not BAD or FEED: letters that rise."""
    return len(set(run)) == len(run) and list(run) == sorted(run)


def _one(text: str, at: int, *, anchored: bool) -> tuple[str, int] | None:
    match = _ONE.match(text, at)
    if match is None:
        return None
    letter, marked = match[2], any(mark in match[1] for mark in "([*\"`{<$")
    behind = text[match.end(2) : match.end(2) + 12]
    if re.match(r"['’](?:s|t|m|ll|re|ve|d)\b", text[match.end(2) : match.end(2) + 4]):
        return None
    if marked or not anchored:
        if letter.islower() and not marked and not re.match(r"\s*(?:\Z|[.):])", behind):
            return None
        return letter, match.end()
    ordinary = letter in "AaIi" or letter.islower()
    if letter == "I" or letter == "i":
        if not re.match(r"\s*(?:\Z|[.,;:)\n。])", behind):
            return None
    elif letter.islower():
        if not _LOWER_AFTER.match(text, match.end(2)):
            return None
    elif ordinary and not _AFTER_WORD.match(text, match.end(2)):
        return None
    return letter, match.end()


# --- what sentences say of letters --------------------------------------------------------------


class _Mention(NamedTuple):
    letters: str
    said: int  # 1 right, -1 wrong, 0 nothing
    sentence: int
    choice: bool  # among alternatives: (A) or (B)


_MENTION = re.compile(
    r"(?:\b(?:option|choice|answer|statement|letter|opción|opção|alternativa)s?\s*[:\s]\s*)?"
    r"(?:[(\[]([A-Ja-j])[)\]]|\*\*\(?([A-J])\)?[.:)]?(?=\*\*|\s)|(?<![-&])\b([A-J])(?![A-Za-z0-9'’]|-[A-Za-z])\)?|"
    r"(?<=(?i:option) )([a-j])(?=\s+(?:is|was|must)\b|\s*[:,.;)])|"
    r"(?<=(?i:choose) )([a-j])(?=\s*(?:[.,;!]|\Z))|(?<=(?i:pick) )([a-j])(?=\s*(?:[.,;!]|\Z))|"
    r"(?<=(?i:select) )([a-j])(?=\s*(?:[.,;!]|\Z)))"
)
_LABELLED = re.compile(r"(?:^|\n|\s)[(\[*]{0,3}([A-J])[)\]*.:]{1,3}\s")
_NAMED = re.compile(r"(?:option|choice|statement|letter|answer)s?\s*:?\s*\Z", re.IGNORECASE)
_WRONG = re.compile(
    r"\b(?:wrong|incorrect|false|not|no|cannot|can't|isn't|aren't|doesn't|don't|won't|couldn't|wouldn't|"
    r"eliminat\w*|rul(?:e|es|ed|ing) (?:it |them )?out|exclud\w*|discard\w*|reject\w*|contradict\w*|fail\w*|neither|"
    r"nor|never|out|unlikely|impossible|irrelevant|invalid|untrue|inaccurate|unsupported|"
    r"instead of|rather than|as opposed to|unlike|except|cross(?:ed)? out|falsch|incorrect[ao]|"
    r"faux|sbagliat\w*|errad[ao]|неверн\w*|неправильн\w*)\b|错|錯|不正确|不正確|排除|틀|오답",
    re.IGNORECASE,
)
_RIGHT = re.compile(
    r"\b(?:correct|right|true|yes|best|better|valid|answer|choose|chose|choosing|pick|select|conclude|conclusion|"
    r"therefore|thus|hence|so|leav(?:es|ing)|left|remain\w*|must be|it is|it's|is it|that is|go with|going with|"
    r"fits|matches|holds|works|stands|accurate|richtig|correct[ao]|bonne|vrai|giust[ao]|cert[ao]|"
    r"верн\w*|правильн\w*)\b|正确|正確|选|選|맞",
    re.IGNORECASE,
)
_SPLIT = re.compile(
    r"[,;:—–()]\s|\s-\s|(?=\b(?:so|but|therefore|thus|hence|because|since|while|whereas|leaving|leaves|which|"
    r"instead of|rather than|as opposed to|unlike|not|however|although|though|and (?=[a-z]))\b)",
    re.IGNORECASE,
)
_TURNS = re.compile(r"\s*(?:instead of|rather than|as opposed to|unlike|not)\b", re.IGNORECASE)
_SENTENCES = re.compile(
    r"(?<=[.!?。！？])(?=\s|\Z)|\n+|(?<=[。！？])|(?=\b(?:but|however|yet)\b)", re.IGNORECASE
)
# Letters that are part of a name.
_NAME = re.compile(
    r"\b(?:vitamins?|plan|hepatitis|type|class|points?|group|section|figure|part|team|grade|factor|"
    r"phase|angle|side|vertex|set|event|matrix|box|bag|city|town|train|person|student|company|"
    r"country|product|gene|protein|language|appendix|schedule|exhibit|table|column|row|line|"
    r"circle|node|player|machine|variable|process|cell|drug|substance|element|compound)\s\Z",
    re.IGNORECASE,
)
_ONLY_LETTERS = re.compile(r"(?:[\s,;&/*()\[\]A-J]|\band\b|\bor\b|\boptions?\b|\bchoices?\b|\bboth\b)+", re.IGNORECASE)


def _said(text: str) -> str | None:
    """The letter that sentences call right, or that they leave."""
    short = None if len(set(_LABELLED.findall(text))) > 1 else _ALONE.match(text)
    mentions = list(_mentions(text))
    right = [each for each in mentions if each.said > 0 and not each.choice]
    wrong = {letter for each in mentions if each.said < 0 for letter in each.letters}
    if right:
        return _merged(right)
    if short is not None and (short[1].isupper() or len(text.strip()) <= 4):
        if not (short[1] in "AI" and re.match(r"\s", text[short.end(1) : short.end(1) + 1])):
            return short[1].upper()
    left = [each for each in mentions if each.said == 0 and not set(each.letters) <= wrong]
    if not left:
        return None
    letters = {letter for each in left for letter in each.letters} - wrong
    if len(letters) == 1:
        return letters.pop()
    last = [each for each in left if each.sentence == left[-1].sentence]
    named = {letter for each in last for letter in each.letters} - wrong
    if len(named) == 1 and not last[-1].choice and last[-1].sentence == mentions[-1].sentence:
        return named.pop()
    return None


def _merged(right: list[_Mention]) -> str:
    """The last that is called right, with those that its sentence calls right too."""
    last = [each for each in right if each.sentence == right[-1].sentence]
    return "".join(sorted({letter for each in last for letter in each.letters}))


def _mentions(text: str) -> Iterator[_Mention]:
    for number, sentence in enumerate(_SENTENCES.split(text)):
        if not sentence or not _MENTION.search(sentence):
            continue
        clauses = _clauses(sentence)
        for at, clause in enumerate(clauses):
            letters = _named(clause)
            if not letters:
                continue
            said = _polarity(clause)
            if said == 0 and at + 1 < len(clauses) and not _named(clauses[at + 1]):
                said = _polarity(clauses[at + 1], alone=True)  # "Option B: yes"
            choice = re.search(r"\bor\b|\beither\b|\bbetween\b|[?]|或", clause, re.IGNORECASE) is not None
            yield _Mention(letters, said, number, choice and len(letters) > 1)


def _clauses(sentence: str) -> list[str]:
    """Clauses; one of letters alone belongs to its neighbour: "A, B and D are wrong"."""
    parts = [part for part in _SPLIT.split(sentence) if part and part.strip()]
    joined: list[str] = []
    waiting = ""
    for part in parts:
        if _ONLY_LETTERS.fullmatch(part) and _MENTION.search(part):
            if joined and _polarity(joined[-1]) and not waiting:
                joined[-1] += ", " + part
            else:
                waiting += part + ", "
            continue
        if waiting and _TURNS.match(part):
            joined.append(waiting)
            waiting = ""
        joined.append(waiting + part)
        waiting = ""
    if waiting:
        joined.append(waiting)
    return joined


def _named(clause: str) -> str:
    """Letters that a clause speaks of; a bare A or I may be an ordinary word."""
    letters: list[str] = []
    for match in _MENTION.finditer(clause):
        letter = next(group for group in match.groups() if group)
        bare = match[3] is not None
        if bare and _NAME.search(clause, 0, match.start(3)):
            continue
        if bare and letter in "AI" and not _bare_letter(clause, match):
            continue
        letters.append(letter.upper())
    return "".join(dict.fromkeys(letters))


def _bare_letter(clause: str, match: re.Match[str]) -> bool:
    """Whether an unmarked A or I is a choice: "option A", "A is wrong", "it is A", "A and C"."""
    if _NAMED.search(clause, 0, match.start(3)) or match[0][:1].isalpha() and len(match[0]) > 2:
        return True
    behind = clause[match.end() : match.end() + 12]
    if match[3] == "I":
        return re.match(r"\s*(?:\Z|[.,;:)]|is\b)", behind) is not None
    return (
        re.match(
            r"\s*(?:\Z|[.,;:)&/]|(?:is|was|are|and|or|nor|seems|fits|holds|works|cannot|can't|does|because|"
            r"would|must|contradicts|fails)\b)",
            behind,
        )
        is not None
    )


def _polarity(clause: str, *, alone: bool = False) -> int:
    """1 if a clause calls its letters right, -1 if wrong, 0 if neither."""
    if _WRONG.search(clause):
        return -1
    if alone and len(clause) > 40:
        return 0
    return 1 if _RIGHT.search(clause) else 0
