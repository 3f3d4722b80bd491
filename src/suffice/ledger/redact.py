"""Rules that take secrets and personal data out of text before it is stored."""

from __future__ import annotations

import re
from collections.abc import Sequence

from suffice.core.errors import ConfigError

# Written without nested repetition: every one runs in time linear in the text.
# In this order: a rule that finds any digits comes after those that know what they mean.
BUILT_IN: dict[str, str] = {
    "key": r"\b(?:sk|pk|ghp|gho|xox[bap]|hf|AKIA)[-_A-Za-z0-9]{12,}",
    "email": r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}",
    "iban": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
    "card": r"(?<!\d)(?:\d[ -]?){12,15}\d(?!\d)",
    "phone": r"(?<![\w.])\+?\d[\d ()/-]{7,17}\d(?![\w.])",
}
# What is always taken out, whatever the operator asks for.
ALWAYS = ("key",)


class Redactor:
    """Replaces every match of its rules by the rule's name in brackets."""

    def __init__(self, rules: Sequence[str] = ()) -> None:
        """`rules` are names of BUILT_IN or regular expressions, which come first; `key` is always
        among them."""
        own = [rule for rule in rules if rule not in BUILT_IN]
        known = [rule for rule in BUILT_IN if rule in (*ALWAYS, *rules)]
        self._rules = [(_label(rule), _compiled(rule)) for rule in (*own, *known)]

    def __call__(self, text: str) -> str:
        """`text` without what the rules find."""
        for label, pattern in self._rules:
            text = pattern.sub(label, text)
        return text


def _label(rule: str) -> str:
    return f"[{rule if rule in BUILT_IN else 'redacted'}]"


def _compiled(rule: str) -> re.Pattern[str]:
    try:
        return re.compile(BUILT_IN.get(rule, rule))
    except re.error as error:
        known = ", ".join(BUILT_IN)
        raise ConfigError(
            f"redact: {rule!r} is neither one of {known} nor a regular expression: {error}"
        ) from None
