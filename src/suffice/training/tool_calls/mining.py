"""Pairs of chains: from what a model plays itself, and made from the right chain."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from suffice.backends.nano.vocabulary import Vocabulary
from suffice.training.run_state import seeded
from suffice.training.tool_calls.chains import Row, play, row_of
from suffice.training.tool_calls.losses import Pair
from suffice.training.tool_calls.questions import Question, right_chain, wrong_chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """Pairs, what the rejected chains did wrong, and every right chain that was played."""

    pairs: tuple[Pair, ...]
    faults: dict[str, int]
    right: tuple[Row, ...]


def mine(
    model: Any, asked: Sequence[Question], vocabulary: Vocabulary, *, samples: int, seed: int
) -> Mined:
    """Of `samples` chains drawn for each question, a right one with each different wrong one.

    Right is judged by calls and answer, as an executor that knows the result would. Questions
    that were answered only rightly, or only wrongly, give no pair.
    """
    repeated = [question for question in asked for _ in range(samples)]
    played = play(
        model, repeated, vocabulary, temperature=1.0, generator=seeded(seed, "mine")
    )  # fmt: skip
    pairs, faults, right = [], Counter[str](), []
    for start in range(0, len(played), samples):
        group = played[start : start + samples]
        good = next((p for p in group if p.right), None)
        if good is None:
            continue
        chosen = row_of(good.question, good.chain, vocabulary)
        right.append(chosen)
        for wrong in {p.chain.words: p for p in group if not p.right}.values():
            pairs.append(Pair(chosen, row_of(wrong.question, wrong.chain, vocabulary)))
            faults[wrong.fault] += 1
    return Mined(pairs=tuple(pairs), faults=dict(faults), right=tuple(right))


def made_pairs(asked: Sequence[Question], vocabulary: Vocabulary, *, seed: int) -> list[Pair]:
    """The right chain over one with an error of preference: refusals, near duplicates, order."""
    rng = random.Random(f"{seed}/made")
    return [
        Pair(
            row_of(question, right_chain(question), vocabulary),
            row_of(question, wrong_chain(question, rng), vocabulary),
        )
        for question in asked
        if question.by_preference
    ]
