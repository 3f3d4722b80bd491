"""When two texts count as equal: one normalisation, wherever questions or prompts are compared."""

from __future__ import annotations

import hashlib
import unicodedata


def normalised(text: str) -> str:
    """The text in Unicode NFC, without invisible format characters, white space as single spaces.

    Case and punctuation stay: "2 + 2" and "2+2" are different texts.
    """
    composed = unicodedata.normalize("NFC", text)
    if not composed.isascii():
        composed = "".join([c for c in composed if unicodedata.category(c) != "Cf"])
    return " ".join(composed.split())


def text_sha256(text: str) -> str:
    """SHA-256 of the normalised text, in hexadecimal."""
    return hashlib.sha256(normalised(text).encode()).hexdigest()
