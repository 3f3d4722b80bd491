"""What the sentences of a text say of its choice letters: which is right, which are wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_ALONE = re.compile(
    r"\s*[\[(*\"'`_#\s]{0,8}([A-Za-z])[\])*\"'`_]{0,6}\s*(?:[.):,;](?=\s|\Z)|\n|\Z|-\s)"
)


class _Mention(NamedTuple):
    letters: str
    said: int  # 1 right, -1 wrong, 0 nothing
    sentence: int
    choice: bool  # among alternatives: (A) or (B)
    brief: bool = True


_MENTION = re.compile(
    r"(?:\b(?:option|choice|answer|statement|letter|opción|opção|alternativa)s?\s*[:\s]\s*)?"
    r"(?:[(\[]([A-Ja-j])[)\]]|\*\*\(?([A-J])\)?[.:)]?(?=\*\*|\s)|(?<![-&.])\b([A-J])(?![A-Za-z0-9'’]|-[A-Za-z]|\+\+|\.[A-Za-z])\)?|"
    r"(?<=(?i:option) )([a-j])(?=\s+(?:is|was|must)\b|\s*[:,.;)])|"
    r"(?<=(?i:choose) )([a-j])(?=\s*(?:[.,;!]|\Z))|(?<=(?i:pick) )([a-j])(?=\s*(?:[.,;!]|\Z))|"
    r"(?<=(?i:select) )([a-j])(?=\s*(?:[.,;!]|\Z)))"
)
_LABELLED = re.compile(r"(?:^|\n|\s)[(\[*]{0,3}([A-J])[)\]*.:]{1,3}\s")
_NAMED = re.compile(r"(?:option|choice|statement|letter|answer)s?\s*:?\s*\Z", re.IGNORECASE)
_WRONG = re.compile(
    r"\b(?:wrong|incorrect|false|not|no|cannot|can't|isn't|aren't|doesn't|don't|won't|couldn't|"
    r"wouldn't|eliminat\w*|rul(?:e|es|ed|ing) (?:it |them )?out|exclud\w*|discard\w*|reject\w*|"
    r"contradict\w*|fail\w*|neither|"
    r"nor|never|out|unlikely|impossible|irrelevant|invalid|untrue|inaccurate|unsupported|"
    r"instead of|rather than|as opposed to|unlike|except|cross(?:ed)? out|falsch|incorrect[ao]|"
    r"faux|sbagliat\w*|errad[ao]|than|неверн\w*|неправильн\w*)\b|[✗✘❌]|错|錯|不正确|不正確|排除|틀|오답",
    re.IGNORECASE,
)
_RIGHT = re.compile(
    r"\b(?:correct|right|true|yes|best|better|valid|answer|choose|chose|choosing|pick|select|"
    r"conclude|conclusion|therefore|thus|hence|so|leav(?:es|ing)|left|remain\w*|must be|it is|it's|"
    r"is it|that is|go with|going with|"
    r"fits|matches|holds|works|stands|accurate|richtig|correct[ao]|bonne|vrai|giust[ao]|cert[ao]|"
    r"верн\w*|правильн\w*)\b|[✓✔✅☑]|正确|正確|选|選|맞",
    re.IGNORECASE,
)
_SPLIT = re.compile(
    r"[,;:—–()]\s|\s-\s|(?=\b(?:so|but|therefore|thus|hence|because|since|while|whereas|leaving|leaves|which|"
    r"instead of|rather than|than|as opposed to|unlike|not|however|although|though|"
    r"and (?=(?-i:[a-z])))\b)",
    re.IGNORECASE,
)
_TURNS = re.compile(r"\s*(?:instead of|rather than|than|as opposed to|unlike|not)\b", re.IGNORECASE)
_SENTENCES = re.compile(
    r"(?<=[.!?。！？])(?=\s|\Z)|\n+|(?<=[。！？])|(?=\b(?:but|however|yet)\b)", re.IGNORECASE
)
# Letters that are part of a name.
_NAME = re.compile(
    r"\b(?:vitamins?|plan|hepatitis|type|class|points?|group|section|figure|part|team|grade|factor|"
    r"phase|angle|side|vertex|set|event|matrix|box|bag|city|town|train|person|student|company|"
    r"country|product|gene|protein|language|appendix|schedule|exhibit|table|column|row|line|"
    r"dr\.|mr\.|mrs\.|ms\.|prof\.|st\.|circle|node|player|machine|variable|process|cell|drug|substance|element|compound)\s\Z",
    re.IGNORECASE,
)
_ONLY_LETTERS = re.compile(
    r"(?:[\s,;&/*()\[\]A-J]|\band\b|\bor\b|\boptions?\b|\bchoices?\b|\bboth\b)+", re.IGNORECASE
)


_ALL_BUT = re.compile(
    r"\b(?:all|every|everything|each|none)(?: options?| choices?| others?)? "
    r"(?:but|except(?: for)?) (?:option |choice )?[(*]{0,3}([A-J])[)*]{0,3} "
    r"(?:is|are|can|should)\b",
    re.IGNORECASE,
)
# "A. false", a line for each choice.
_JUDGED_LABEL = re.compile(
    r"(?m)^(\W{0,4}[A-J])[.)]\s{0,3}"
    r"(?=[✓✔✅☑✗✘❌]|(?:true|false|(?:in)?correct|right|wrong|yes|no)\b)",
    re.IGNORECASE,
)
# Alternatives, of which none is chosen: (A) or (B).
_ALTERNATIVES = re.compile(r"\bor\b|\beither\b|\bbetween\b|[?]|或", re.IGNORECASE)
_LETTER_ENDS = re.compile(
    r"\s*(?:\Z|[.,;:)&/]|(?:is|was|are|and|or|nor|seems|fits|holds|works|cannot|can't|does|because|"
    r"would|must|contradicts|fails)\b)"
)
_PRONOUN_ENDS = re.compile(r"\s*(?:\Z|[.,;:)]|is\b)")
# Of a long text the end is read: that is where it commits itself.
LONGEST_CHARACTERS = 8000
_BRIEF_CHARACTERS = 40


def letters_said(text: str) -> str | None:
    """The letter that sentences call right, or that they leave."""
    text = text[-LONGEST_CHARACTERS:]
    text = _JUDGED_LABEL.sub(r"\1: ", text)
    spared = _ALL_BUT.search(text)
    if spared is not None:
        return spared[1].upper()
    mentions = list(_mentions(text))
    right = [each for each in mentions if each.said > 0 and not each.choice]
    if right:
        return _merged(right)
    return _label(text) or _left(mentions)


def _merged(right: list[_Mention]) -> str:
    """The last that is called right, with those that its sentence calls right too."""
    last = [each for each in right if each.sentence == right[-1].sentence]
    return "".join(sorted({letter for each in last for letter in each.letters}))


def _label(text: str) -> str | None:
    """A letter at the beginning, unless it is the first of a list: "B. Mitochondria"."""
    if len(set(_LABELLED.findall(text))) > 1:
        return None
    found = _ALONE.match(text)
    if found is None or not (found[1].isupper() or len(text.strip()) <= 4):
        return None
    article = found[1] in "AI" and text[found.end(1) : found.end(1) + 1].isspace()
    return None if article else found[1].upper()


def _left(mentions: list[_Mention]) -> str | None:
    """The one letter of which nothing is said, where all others are wrong or spoken of earlier."""
    wrong = {letter for each in mentions if each.said < 0 for letter in each.letters}
    left = [
        each
        for each in mentions
        if each.said == 0 and not set(each.letters) <= wrong and (each.brief or wrong)
    ]
    letters = {letter for each in left for letter in each.letters} - wrong
    if len(letters) > 1:
        last = [each for each in left if each.sentence == mentions[-1].sentence]
        letters = {letter for each in last for letter in each.letters} - wrong
        if last and last[-1].choice:
            return None
    return letters.pop() if len(letters) == 1 else None


@dataclass(slots=True)
class _Clause:
    letters: str
    said: int
    short: bool
    choice: bool
    brief: bool = True  # hardly more than the letter: what is said of nothing may be the answer


def _mentions(text: str) -> Iterator[_Mention]:
    for number, sentence in enumerate(_SENTENCES.split(text)):
        if not sentence or not _MENTION.search(sentence):
            continue
        clauses = _clauses(sentence)
        for at, clause in enumerate(clauses):
            following = clauses[at + 1] if at + 1 < len(clauses) else None
            said = clause.said
            if said == 0 and following is not None and not following.letters:
                # As in: option B, then a colon and "yes".
                said = following.said if following.short or following.said < 0 else 0
            if clause.letters:
                several = clause.choice and len(clause.letters) > 1
                yield _Mention(clause.letters, said, number, several, clause.brief)


def _clauses(sentence: str) -> list[_Clause]:
    """Clauses; one of letters alone belongs to its neighbour: "A, B and D are wrong"."""
    joined: list[_Clause] = []
    waiting = ""
    for part in _SPLIT.split(sentence):
        if not part or not part.strip():
            continue
        letters = _named(part)
        if letters and _ONLY_LETTERS.fullmatch(part):
            if joined and joined[-1].said and not waiting:
                joined[-1].letters += letters
            else:
                waiting += letters
            continue
        if waiting and _TURNS.match(part):
            joined.append(_Clause(waiting, 0, short=True, choice=False))
            waiting = ""
        choice = _ALTERNATIVES.search(part) is not None
        marked = any(mark in part for mark in "([*")
        brief = marked or len(part.strip()) <= _BRIEF_CHARACTERS
        joined.append(_Clause(waiting + letters, _polarity(part), len(part) <= 40, choice, brief))
        waiting = ""
    if waiting:
        choice = _ALTERNATIVES.search(sentence) is not None
        joined.append(_Clause(waiting, 0, short=True, choice=choice))
    return joined


def _named(clause: str) -> str:
    """Letters that a clause speaks of; a bare A or I may be an ordinary word."""
    letters: dict[str, None] = {}
    for match in _MENTION.finditer(clause):
        letter = next(group for group in match.groups() if group)
        if match[3] is None or _stands_alone(clause, match):
            letters[letter.upper()] = None
    return "".join(letters)


def _stands_alone(clause: str, match: re.Match[str]) -> bool:
    """Whether an unmarked letter is a choice: "it is B", "option A", and not "vitamin C", "a"."""
    start = match.start(3)
    if _NAME.search(clause, max(0, start - 16), start):
        return False
    if match[3] not in "AI":
        return True
    if _NAMED.search(clause, max(0, start - 16), start):
        return True
    ends = _PRONOUN_ENDS if match[3] == "I" else _LETTER_ENDS
    return ends.match(clause, match.end()) is not None


def _polarity(clause: str) -> int:
    """1 if a clause calls its letters right, -1 if wrong, 0 if neither."""
    if _WRONG.search(clause):
        return -1
    return 1 if _RIGHT.search(clause) else 0
