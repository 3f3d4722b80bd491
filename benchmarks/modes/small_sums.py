"""Questions for a pretrained model of 135 million weights, in three kinds, as JSONL.

    $ python benchmarks/modes/small_sums.py --questions 210 --seed 0 --out questions.jsonl

digits  `4 + 0 + 7 =`: prompts of one length; difficulty: how many of the digits are not 0
apples  a sentence with two or three numbers; difficulty: how many sums it takes
larger  `Which is larger, 471 or 417?`; difficulty: at which digit the two differ

No question stands among the examples of the modes (`results/modes/smollm2/gate.toml`), and none
stands twice.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

NAMES = ("Tom", "Ann", "Sam", "Eva", "Ben", "Ida")
SHOWN = ("3 + 0 + 5 =", "6 + 7 + 2 =")


def digits(rng: random.Random) -> tuple[str, int, int]:
    """(question, answer, difficulty)."""
    counted = rng.randrange(1, 4)
    terms = [rng.randrange(1, 10) if n < counted else 0 for n in range(3)]
    rng.shuffle(terms)
    return " + ".join(map(str, terms)) + " =", sum(terms), counted


def apples(rng: random.Random) -> tuple[str, int, int]:
    """(question, answer, difficulty)."""
    name, a, b, c = rng.choice(NAMES), *(rng.randrange(2, 13) for _ in range(3))
    form = rng.randrange(4)
    if form == 0:
        return f"{name} has {a} apples and buys {b} more. How many apples?", a + b, 1
    if form == 1:
        return f"{name} has {a + b} apples and eats {b}. How many apples?", a, 1
    if form == 2:
        return f"{name} has {a + b} apples, eats {b} and buys {c}. How many apples?", a + c, 2
    return f"{name} buys {a}, then {b}, then {c} apples. How many apples?", a + b + c, 2


def larger(rng: random.Random) -> tuple[str, int, int]:
    """(question, answer, difficulty)."""
    place = rng.randrange(1, 4)
    one = [rng.randrange(1, 10) for _ in range(3)]
    other = one[: place - 1] + [rng.randrange(1, 10) for _ in range(4 - place)]
    while other[place - 1] == one[place - 1]:
        other[place - 1] = rng.randrange(1, 10)
    a, b = (int("".join(map(str, number))) for number in (one, other))
    return f"Which is larger, {a} or {b}?", max(a, b), place


def main() -> None:
    """Write the questions, kinds in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=210)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rng, seen = random.Random(given.seed), set(SHOWN)
    kinds = (digits, apples, larger)
    lines: list[str] = []
    while len(lines) < given.questions:
        kind = kinds[len(lines) % len(kinds)]
        question, answer, difficulty = kind(rng)
        if question in seen:
            continue
        seen.add(question)
        row = {
            "prompt": question, "answer": str(answer), "task": kind.__name__,
            "difficulty": difficulty,
        }  # fmt: skip
        lines.append(json.dumps(row) + "\n")
    given.out.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
