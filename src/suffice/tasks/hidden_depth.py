"""Puzzles of one length whose answer hangs on few or on many steps, and the prompt hides how many.

    kind        prompt                 answer  difficulty is the number of
    restarts    7ab4cfe                digit   permutations after the last digit
    zeros       7+3*0-4+9*3+1          digit   operations that count, from the last factor 0 on
    variables   BaFgA7...?b            digit   references that are followed to a number

`restarts`: a digit goes through permutations of the digits (a to f) from the left; a digit on the
way starts over. `zeros`: left to right, modulo 10; a factor 0 makes all before it worthless.
`variables`: each capital is set to a digit or to the variable that follows it in small; the last
letter is asked for.

In the first two a thought goes through the whole prompt, so its length tells no difficulty either;
a weighted count of characters can see where the last restart stands. In `variables` no such count
helps: the references have to be followed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from suffice.tasks.operations import PERMUTATIONS
from suffice.tasks.puzzle import Kind, Puzzle

OPERATIONS = 6
NAMES = "abcdefghijklmn"
CONSTANTS = 5
DEEPEST = 4
_UNITS = "379"


def restarts(rng: random.Random) -> Puzzle:
    """A digit and permutations; the count is of those after the last digit."""
    counted = rng.randrange(1, OPERATIONS + 1)
    letters = [rng.choice("".join(PERMUTATIONS)) for _ in range(OPERATIONS)]
    last = OPERATIONS - counted  # 0: no digit but the first
    if last:
        letters[last - 1] = rng.choice("0123456789")
        for place in range(last - 1):
            if rng.random() < 0.2:
                letters[place] = rng.choice("0123456789")
    state = rng.choice("0123456789")
    prompt, steps = state + "".join(letters), ""
    for letter in letters:
        state = letter if letter.isdigit() else PERMUTATIONS[letter][int(state)]
        steps += f"{letter}{state}"
    return Puzzle(prompt=prompt, steps=steps, answer=state, counted=counted)


def zeros(rng: random.Random) -> Puzzle:
    """Sums, differences and products modulo 10; the count is of operations from the last *0 on."""
    counted = rng.randrange(1, OPERATIONS + 1)
    operations = [_operation(rng) for _ in range(OPERATIONS)]
    last = OPERATIONS - counted  # 0: no factor 0 at all, and the first digit counts
    if last:
        operations[last - 1] = ("*", "0")
        for place in range(last - 1):
            if rng.random() < 0.2:
                operations[place] = ("*", "0")
    state = rng.randrange(10)
    prompt, steps = str(state), ""
    for sign, operand in operations:
        value = int(operand)
        state = {"+": state + value, "-": state - value, "*": state * value}[sign] % 10
        prompt += sign + operand
        steps += f"{sign}{operand}{state}"
    return Puzzle(prompt=prompt, steps=steps, answer=str(state), counted=counted)


def variables(rng: random.Random) -> Puzzle:
    """Five of fourteen variables are digits, the others refer; the count is of references followed.

    The variables that are not on the way form chains to the other digits: which digit is referred
    to, and how deeply, gives the answer away as little as the letters do.
    """
    names = rng.sample(NAMES, len(NAMES))
    counted = rng.randrange(DEEPEST + 1)
    constants, path, others = (
        names[:CONSTANTS], names[CONSTANTS : CONSTANTS + counted], names[CONSTANTS + counted :],
    )  # fmt: skip
    value = dict(zip(constants, rng.sample("0123456789", CONSTANTS), strict=True))
    for at, name in enumerate(path):
        value[name] = path[at - 1] if at else constants[0]
    value |= dict(_decoys(others, constants[1:], rng))
    asked = path[-1] if path else constants[0]
    listed = rng.sample(NAMES, len(NAMES))
    prompt = "".join(f"{name.upper()}{value[name]}" for name in listed) + f"?{asked}"
    steps, at_name = "", asked
    while at_name in value:
        at_name = value[at_name]
        steps += at_name
    return Puzzle(prompt=prompt, steps=steps, answer=at_name, counted=counted)


def _decoys(
    others: list[str], constants: list[str], rng: random.Random
) -> Iterator[tuple[str, str]]:
    """What each of `others` refers to: chains of one to three, first one for each constant."""
    ends, left = list(constants), list(others)
    while left:
        target = ends.pop(0) if ends else rng.choice(constants)
        for _ in range(min(len(left), rng.choice((1, 2, 2, 3)))):
            name = left.pop()
            yield name, target
            target = name


def _operation(rng: random.Random) -> tuple[str, str]:
    sign = rng.choice("+-*")
    return sign, rng.choice(_UNITS) if sign == "*" else str(rng.randrange(1, 10))


KINDS = {
    "restarts": Kind(make=restarts, easy=1, middle=3, characters="0123456789abcdef"),
    "zeros": Kind(make=zeros, easy=1, middle=3, characters="0123456789+-*"),
    "variables": Kind(
        make=variables, easy=0, middle=2, characters="0123456789" + NAMES + NAMES.upper() + "?"
    ),
}
