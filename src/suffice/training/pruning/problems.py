"""Problems whose traces hold what the answer needs, but never the answer.

    3 * 2 + 4 & 1 - 3 * 2     the sum of what both sides, each modulo 5, come to, as a letter

A trace works both sides out, one or more steps each, in words. The answer's letters stand in no
trace, and the last number of one side alone leaves five answers equally likely, so a pruner cannot
live on one token.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from suffice.backends.nano.vocabulary import CONTROL_TOKENS, Vocabulary

MODULUS = 5
DIGITS = tuple(str(n) for n in range(MODULUS))
# Results are written out, so that a small model tells them from operands at once.
RESULTS = ("zero", "one", "two", "three", "four")
ANSWERS = tuple("ABCDEFGHI")  # the sums 0 to 8
JOIN = "&"
OPERATORS = ("+", "-", "*")
Category = Literal["result", "operand", "operator", "connective", "reference", "filler"]
CATEGORIES: tuple[Category, ...] = (
    "result", "operand", "operator", "connective", "reference", "filler",
)  # fmt: skip
SYMBOLIC: frozenset[Category] = frozenset({"result", "operand", "operator"})
# Words that say nothing of the problem, by what they do.
_WORDS: Mapping[Category, tuple[str, ...]] = {
    "connective": ("first", "then", "next", "so"),
    "reference": ("it", "that", "this"),
    "filler": ("is", "makes", "okay", "we", "get", "."),
}
WORDS = (
    *DIGITS,
    *RESULTS,
    *ANSWERS,
    *OPERATORS,
    JOIN,
    *(w for words in _WORDS.values() for w in words),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A problem with its reasoning, word by word; `categories` says what each word of it does."""

    prompt: tuple[str, ...]
    trace: tuple[str, ...]
    answer: str
    categories: tuple[Category, ...]


def words() -> Vocabulary:
    """Control tokens and whole words, one id each."""
    return Vocabulary((*CONTROL_TOKENS, *WORDS))


def draw(rng: random.Random, steps: int = 1) -> Traced:
    """One problem; both sides have `steps` steps, each one of + - * modulo 5."""
    prompt: list[str] = []
    marked: list[tuple[str, Category]] = []
    ends = []
    for side in range(2):
        state = rng.randrange(MODULUS)
        prompt += [JOIN] * side + [str(state)]
        for step in range(steps):
            sign = rng.choice(OPERATORS)
            # A factor of 0 or 1 would lose what came before, or do nothing.
            operand = rng.choice(DIGITS[2:] if sign == "*" else DIGITS[1:])
            prompt += [sign, operand]
            known: tuple[str, Category] = (
                (str(state), "operand") if step == 0 else (_pick(rng, "reference"), "reference")
            )
            state = _apply(state, sign, int(operand))
            marked += _step(rng, known, sign, operand, state)
        ends.append(state)
    return Traced(
        prompt=tuple(prompt),
        trace=tuple(word for word, _ in marked),
        answer=ANSWERS[sum(ends)],
        categories=tuple(category for _, category in marked),
    )


def problems(count: int, *, seed: int, part: str, steps: int = 1) -> list[Traced]:
    """`count` problems; another `part` of the same seed is drawn independently."""
    rng = random.Random(f"{seed}/{part}")
    return [draw(rng, steps) for _ in range(count)]


def solve(prompt: Sequence[str]) -> str:
    """The answer worked out from the prompt alone."""
    total = 0
    text = list(prompt)
    for side in (text[: text.index(JOIN)], text[text.index(JOIN) + 1 :]):
        state = int(side[0])
        for sign, operand in zip(side[1::2], side[2::2], strict=True):
            state = _apply(state, sign, int(operand))
        total += state
    return ANSWERS[total]


def _apply(state: int, sign: str, operand: int) -> int:
    return {"+": state + operand, "-": state - operand, "*": state * operand}[sign] % MODULUS


def _pick(rng: random.Random, category: Category) -> str:
    return rng.choice(_WORDS[category])


def _step(
    rng: random.Random, known: tuple[str, Category], sign: str, operand: str, state: int
) -> list[tuple[str, Category]]:
    """Words of one step, such as `then 3 * 2 is one .`, in one of three forms."""
    connective: tuple[str, Category] = (_pick(rng, "connective"), "connective")
    said: list[tuple[str, Category]] = [known, (sign, "operator"), (operand, "operand")]
    result: tuple[str, Category] = (RESULTS[state], "result")
    stop: tuple[str, Category] = (".", "filler")
    form = rng.randrange(3)
    if form == 0:
        return [connective, *said, ("is", "filler"), result, stop]
    if form == 1:
        this: tuple[str, Category] = (_pick(rng, "reference"), "reference")
        return [connective, this, ("is", "filler"), *said, ("makes", "filler"), result]
    opening: list[tuple[str, Category]] = [("okay", "filler"), ("we", "filler"), ("get", "filler")]
    return [*opening, *said, ("is", "filler"), result, stop]
