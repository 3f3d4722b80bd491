"""Text in one spelling before numbers are looked for in it: digits, signs, spaces, LaTeX.

Everything here takes time linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_RAISED = "\ue000"  # before each superscript character
_VULGAR = "\ue001"  # before a fraction that was one character

_MINUS = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_DASH = "\u2014\u2015"
_NOTHING = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_APART = {
    **dict.fromkeys(_MINUS, "-"),
    **dict.fromkeys(_DASH, " ; "),
    **dict.fromkeys(_NOTHING, ""),
    **dict.fromkeys("\u00d7\u2715\u2716\u22c5\u00b7\u2219\u2217", "×"),
    **dict.fromkeys("\u2044\u2215", "/"),
    **dict.fromkeys("\u2018\u2019\u02bc\u2032", "'"),
    **dict.fromkeys("\u2248\u2243\u2245\u2252", "="),
    "\u066b": ".",
    "\u066c": ",",
    "\u066a": "%",
    "\u3002": ". ",
    "\u3001": "; ",
    "\u2103": "°C",
    "\u2109": "°F",
}


class _Characters(dict[int, str]):
    """What each character beyond ASCII becomes, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        found = self[code] = _one(chr(code)) if code > 127 else chr(code)
        return found


def _one(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    form = unicodedata.decomposition(character)
    if character in _APART:
        found = _APART[character]
    elif character.isspace():
        found = "\n" if character in "\u2028\u2029\u0085" else " "
    elif digit is not None:
        found = str(digit)
    elif form.startswith("<super>"):
        raised = unicodedata.normalize("NFKC", character).replace("\u2212", "-")
        found = "".join(_RAISED + each for each in raised)
    elif form.startswith("<fraction>"):
        found = _VULGAR + unicodedata.normalize("NFKC", character).replace("\u2044", "/")
    elif form.startswith(("<wide>", "<sub>", "<font>")):  # full-width, subscript, mathematical
        found = unicodedata.normalize("NFKC", character)
    else:
        found = character
    return found


_CHARACTERS = _Characters()
_RAISED_RUN = re.compile(f"(?:{_RAISED}[-+0-9])+")
_OTHER_RAISED = re.compile(f"{_RAISED}(.)")

_BOLD = re.compile(r"(?<!\d)\*\*|\*\*(?!\d)")
_SPELLED = (
    (re.compile(r"\\(?:left|right|displaystyle|textstyle|[bB]igg?[lr]?)(?![a-zA-Z])|\\!"), ""),
    (re.compile(r"\\[,:;>/ ]|~|\\(?:quad|qquad|thinspace|enspace|newline)(?![a-zA-Z])"), " "),
    (re.compile(r"\{([,.])\}"), r"\1"),
    (re.compile(r"\\([%$#&_])"), r"\1"),
    (re.compile(r"\^ ?\{? ?\\(?:circ|degree) ?\}?|\\degree(?![a-zA-Z])"), "°"),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), "×"),
    (re.compile(r"\\div(?![a-zA-Z])"), "÷"),
    (re.compile(r"\\(?:approx|simeq|equiv|cong|doteq)(?![a-zA-Z])"), "="),
    (re.compile(r"\\pm(?![a-zA-Z])"), "±"),
    (re.compile(r"\\infty(?![a-zA-Z])"), "∞"),
    (re.compile(r"\\pi(?![a-zA-Z])"), "π"),
    (re.compile(r"\\(?:l?dots|cdots)(?![a-zA-Z])"), "…"),
    (re.compile(r"\\(?:euro|EUR)(?![a-zA-Z])"), "€"),
    (re.compile(r"\\pounds(?![a-zA-Z])"), "£"),
    (re.compile(r"\\[()\[\]]"), " "),
)
_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|bb|cal)|mbox|hbox|operatorname|"
    r"emph|bm|boldsymbol|underline|num|unit|si|ensuremath)\s*\{([^{}]*)\}"
)
_NUMERIC = r"\{\s*([-+]?[\d.,]+)\s*\}"
_FRACTIONS = (
    re.compile(rf"\\frac\s*{_NUMERIC}\s*{_NUMERIC}"),
    re.compile(rf"\\frac\s*(\d)\s*{_NUMERIC}"),
    re.compile(rf"\\frac\s*{_NUMERIC}\s*(\d)"),
    re.compile(r"\\frac\s*(\d)\s*(\d)"),
)
_REPEATING = re.compile(r"(\d{1,30})\.(\d{0,30})\\(?:overline|bar|dot)\s*\{(\d{1,30})\}")


def plain(text: str) -> str:
    """The text with ASCII digits and signs, plain spaces, and the LaTeX of numbers taken apart.

    `\\frac{3}{4}` becomes 3/4, `10{,}000` 10,000, `5\\text{ cm}^2` 5 cm^2, `½` 1/2, `10⁶` 10^{6}.
    """
    if not text.isascii():
        text = text.translate(_CHARACTERS)
        if _RAISED in text:
            text = _RAISED_RUN.sub(lambda run: "^{" + run[0].replace(_RAISED, "") + "}", text)
            text = _OTHER_RAISED.sub(r"\1", text)
        if _VULGAR in text:
            text = re.sub(rf"(?<=\d){_VULGAR}", " ", text).replace(_VULGAR, "")
    if "\\" in text or "{" in text or "~" in text:
        text = _without_latex(text)
    return _BOLD.sub("", text) if "**" in text else text


def _without_latex(text: str) -> str:
    text = _REPEATING.sub(_repeated, text)
    for pattern, replacement in _SPELLED:
        text = pattern.sub(replacement, text)
    for _ in range(4):  # \textbf{\text{…}}: nested deeper than this nobody writes
        text, changed = _WRAPPED.subn(r"\1", text)
        if not changed:
            break
    for pattern in _FRACTIONS:
        text = pattern.sub(_fraction, text)
    return text


def _fraction(match: re.Match[str]) -> str:
    """A fraction of two numbers; after a digit, with a space: one and a half is 1 1/2."""
    above, below = match.groups()
    if below[0] in "-+":
        negative = (below[0] == "-") != (above[0] == "-")
        above, below = ("-" if negative else "") + above.lstrip("-+"), below[1:]
    before = match.string[max(0, match.start() - 1) : match.start()]
    return f"{' ' if before.isdigit() else ''}{above}/{below}"


def _repeated(match: re.Match[str]) -> str:
    """0.1\\overline{6} as a fraction."""
    whole, once, again = match.groups()
    shift = 10 ** len(once)
    value = Fraction(int(whole + once), shift) + Fraction(
        int(again), shift * (10 ** len(again) - 1)
    )
    return f"{value.numerator}/{value.denominator}"
