"""Puzzles whose prompts of one kind are all equally long, whatever their difficulty.

A router that counts characters learns nothing here: what decides is inside the numbers.

    kind        prompt     answer   difficulty is the number of
    addition    347+258    0605     carries
    comparison  4821?4837  <        leading digits that are equal
    gcd         g84,36     12       divisions that Euclid's algorithm takes
    countdown   c3,5,2:13  *-       pairs of signs that are tried before the right one
    sorting     s47139     13479    neighbours that are exchanged

Three more hide how many steps count: see `suffice.tasks.hidden_depth`.

Difficulties are 1, 2 and 3: thirds of that number's range, not of what a random prompt has. Steps
are written as a person would do them on paper, `,` before each.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping

from suffice.core.errors import InputError
from suffice.tasks import hidden_depth
from suffice.tasks.puzzle import Kind, Puzzle

DIFFICULTIES = (1, 2, 3)
STEP = ","
# Every character that prompts, steps and answers of the five kinds above hold.
CHARACTERS = "0123456789+-*<>=%?:,gcs"
_DRAWS = 20_000


def addition(rng: random.Random) -> Puzzle:
    """Two numbers of three digits; the count is the number of carries."""
    a, b = rng.randrange(100, 1000), rng.randrange(100, 1000)
    steps, carry, carries = "", 0, 0
    for x, y in zip(reversed(str(a)), reversed(str(b)), strict=True):
        total = int(x) + int(y) + carry
        steps += f"{STEP}{x}+{y}+{carry}={total:02d}"
        carry = total // 10
        carries += carry
    return Puzzle(prompt=f"{a}+{b}", steps=steps, answer=f"{a + b:04d}", counted=carries)


def comparison(rng: random.Random) -> Puzzle:
    """Two numbers of four digits; the count is the number of leading digits that are equal."""
    equal = rng.randrange(4)
    shared = "".join(rng.choice("0123456789") for _ in range(equal))
    x, y = rng.sample("0123456789", 2)
    rest = 3 - equal
    a, b = (f"{shared}{d}{''.join(rng.choice('0123456789') for _ in range(rest))}" for d in (x, y))
    sign = "<" if x < y else ">"
    steps = "".join(f"{STEP}{d}={d}" for d in shared) + f"{STEP}{x}{sign}{y}"
    return Puzzle(prompt=f"{a}?{b}", steps=steps, answer=sign, counted=equal)


def gcd(rng: random.Random) -> Puzzle:
    """Two numbers of two digits, the larger first; the count is Euclid's number of divisions."""
    a, b = sorted((rng.randrange(10, 100), rng.randrange(10, 100)), reverse=True)
    prompt, steps, divisions = f"g{a},{b}", "", 0
    while b:
        steps += f"{STEP}{a:02d}%{b:02d}={a % b:02d}"
        a, b = b, a % b
        divisions += 1
    return Puzzle(prompt=prompt, steps=steps, answer=f"{a:02d}", counted=divisions)


def countdown(rng: random.Random) -> Puzzle:
    """Which two signs bring three digits to the target, from the left; exactly one pair does.

    Pairs are tried in the order ++ +- +* -+ ... **; the count is how many fail before.
    """
    while True:
        a, b, c = (rng.randrange(2, 10) for _ in range(3))
        results = {signs: _signed(a, signs, b, c) for signs in itertools.product("+-*", repeat=2)}
        fitting = [
            signs
            for signs, value in results.items()
            if 0 <= value < 1000 and list(results.values()).count(value) == 1
        ]
        if not fitting:
            continue
        chosen = rng.choice(fitting)
        target, steps = results[chosen], ""
        for n, (signs, value) in enumerate(results.items()):
            steps += f"{STEP}{''.join(signs)}={value}"
            if signs == chosen:
                return Puzzle(
                    prompt=f"c{a},{b},{c}:{target:03d}", steps=steps, answer="".join(signs),
                    counted=n,
                )  # fmt: skip


def sorting(rng: random.Random) -> Puzzle:
    """Five different digits into order; the count is the number of exchanges of neighbours."""
    digits = rng.sample("0123456789", 5)
    prompt, steps, exchanges = f"s{''.join(digits)}", "", 0
    for end in range(4, 0, -1):
        for at in range(end):
            if digits[at] > digits[at + 1]:
                digits[at], digits[at + 1] = digits[at + 1], digits[at]
                exchanges += 1
        steps += f"{STEP}{''.join(digits)}"  # after each pass
    return Puzzle(prompt=prompt, steps=steps, answer="".join(digits), counted=exchanges)


KINDS: Mapping[str, Kind] = {
    "addition": Kind(make=addition, easy=0, middle=1, characters=CHARACTERS),
    "comparison": Kind(make=comparison, easy=0, middle=2, characters=CHARACTERS),
    "gcd": Kind(make=gcd, easy=1, middle=3, characters=CHARACTERS),
    "countdown": Kind(make=countdown, easy=2, middle=5, characters=CHARACTERS),
    "sorting": Kind(make=sorting, easy=2, middle=5, characters=CHARACTERS),
    **hidden_depth.KINDS,
}


def draw(kind: str, rng: random.Random, difficulty: int) -> Puzzle:
    """A puzzle of `kind` at a difficulty of 1, 2 or 3."""
    if difficulty not in DIFFICULTIES:
        raise InputError(
            f"{kind} has difficulties 1, 2 and 3, got {difficulty}: its prompts are all equally "
            "long, so there is no larger one"
        )
    made = KINDS[kind]
    for _ in range(_DRAWS):
        puzzle = made.make(rng)
        if made.difficulty(puzzle) == difficulty:
            return puzzle
    raise AssertionError(f"no {kind} of difficulty {difficulty} in {_DRAWS} draws")


def _signed(a: int, signs: tuple[str, ...], b: int, c: int) -> int:
    value = a
    for sign, operand in zip(signs, (b, c), strict=True):
        value = {"+": value + operand, "-": value - operand, "*": value * operand}[sign]
    return value
