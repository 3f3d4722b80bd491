"""A prompt as numbers, in well under a millisecond: hashed words and a few measures of its form."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from suffice.core.arrays import FloatArray
from suffice.core.requests import Request

# A long document's subject shows in its beginning, the question often stands at its end.
HEAD_CHARACTERS = 1500
TAIL_CHARACTERS = 500
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
FORM_NAMES = (
    "log characters",
    "log spaces",
    "log lines",
    "log numbers",
    "share of numbers",
    "share of symbols",
    "log question marks",
)


@dataclass(frozen=True, slots=True, eq=False)
class Featuriser:
    """Words and word pairs hashed to `dimensions`, weighted by `idf`, scaled to length 1."""

    dimensions: int
    idf: FloatArray  # weight per dimension

    def vector(self, text: str) -> FloatArray:
        """Dense vector of the text's words; zero for a text without any."""
        index, weight = hashed_counts(text, self.dimensions)
        found = np.bincount(index, weight, minlength=self.dimensions) * self.idf
        length = math.sqrt(float(found @ found))
        return found / length if length else found

    def matrix(self, texts: Sequence[str]) -> FloatArray:
        """Vectors of several texts, one row each."""
        return np.stack([self.vector(text) for text in texts])


def hashed_counts(text: str, dimensions: int) -> tuple[NDArray[np.int64], FloatArray]:
    """(dimension, signed 1 + ln count) of every distinct word and word pair.

    Numbers count as their number of digits: 17 and 42 ask the same kind of question.
    """
    words = np.array([_code(token) for token in _tokens(text)], dtype=np.int64)
    pairs = (words[:-1] * 1_000_003 + words[1:]) & 0x7FFFFFFF
    codes, counts = np.unique(np.concatenate((words, pairs)), return_counts=True)
    sign = np.where(codes & 0x40000000, 1.0, -1.0)
    return codes % dimensions, sign * (1.0 + np.log(counts))


@lru_cache(maxsize=65536)
def _code(token: str) -> int:
    shown = f"#{min(len(token), 4)}" if token.isdigit() else token
    return crc32(shown.encode()) & 0x7FFFFFFF


def form(text: str) -> FloatArray:
    """The measures named in `FORM_NAMES`."""
    tokens = _tokens(text)
    numbers = sum(map(str.isdigit, tokens))
    words = sum(map(str.isalpha, tokens))
    many = len(tokens) or 1
    return np.array(
        [
            math.log(len(text) or 1),
            math.log1p(text.count(" ")),
            math.log1p(text.count("\n")),
            math.log1p(numbers),
            numbers / many,
            (many - numbers - words) / many,
            math.log1p(text.count("?")),
        ]
    )


@lru_cache(maxsize=64)
def _tokens(text: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(_clipped(text).lower()))


def prompt_of(request: Request) -> str:
    """The text that a request is judged by: its last user turn, else everything."""
    users = [message.text for message in request.messages if message.role == "user"]
    return users[-1] if users else "\n".join(message.text for message in request.messages)


def _clipped(text: str) -> str:
    if len(text) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return text
    return text[:HEAD_CHARACTERS] + "\n" + text[-TAIL_CHARACTERS:]
