"""The last \\boxed{…} of a text."""

from __future__ import annotations

import re

_BRACES = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,3}\{|[{}]")
# \boxed 5 and \boxed5: what TeX would take is one character, what is meant is the word.
_BARE = re.compile(r"\\(?:boxed|fbox)(?:\s{1,3}|(?=[-+\d]))\$?([-+]?[^\s{}$\\]{1,200})")


def last_boxed(text: str) -> str | None:
    """Content of the last complete box, as text; an unfinished one is skipped.

    One pass, so that a degenerate sample full of unfinished boxes costs no more than another.
    """
    if "\\boxed" not in text and "\\fbox" not in text and "\\framebox" not in text:
        return None
    opened: list[int | None] = []  # where each open brace's content starts, None if not a box
    start, end = -1, -1
    for match in _BRACES.finditer(text):
        if match[0] != "}":
            opened.append(match.end() if len(match[0]) > 1 else None)
        elif opened:
            began = opened.pop()
            if began is not None and began > start:
                start, end = began, match.start()
    bare = list(_BARE.finditer(text))
    if bare and bare[-1].start() > start:
        return bare[-1][1].rstrip(".,;:!?)") or None
    return (trimmed(text[start:end]) or None) if start >= 0 else None


def trimmed(text: str) -> str:
    """Outer spaces and the dollar signs of LaTeX dropped, runs of spaces made one."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] == "$" and text[-2] != "\\":
        text = text[1:-1].strip()
    return re.sub(r"\s+", " ", text)
