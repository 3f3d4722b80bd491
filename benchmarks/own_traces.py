"""Questions for the trace set that ships with the project, and what the set says about confidence.

    $ python benchmarks/own_traces.py questions --out DIR       three JSONL datasets, by --seed
    $ suffice record --dataset DIR/sums.jsonl --completions …   see docs/traces.md
    $ python benchmarks/own_traces.py signals FILE              AUC and votes by confidence signal

The questions are generated here from nothing but random numbers and the templates below, each asked
after four worked examples whose answers go step by step.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

from suffice.core.files import write_text

SHOTS = 4
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES = ("Mia", "Tom", "Ana", "Ben", "Lea", "Sam", "Eva", "Max", "Ida", "Leo")
THINGS = ("apples", "books", "coins", "pens", "cards", "eggs", "shells", "cups", "stamps", "nuts")

# (question, worked answer, right answer, category)
Generated = tuple[str, str, str, str]


def running_sum(rng: random.Random) -> Generated:
    """A sum of two to four digits, added one by one."""
    terms = [rng.randint(1, 9) for _ in range(rng.randint(2, 4))]
    total, steps = terms[0], []
    for term in terms[1:]:
        steps.append(f"{total} + {term} = {total + term}")
        total += term
    asked = " + ".join(map(str, terms))
    return asked, f"{', '.join(steps)}. The answer is {total}.", str(total), f"{len(terms)} terms"


def story(rng: random.Random) -> Generated:
    """Someone gets or gives away a few things, once or twice."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    has = start = rng.randint(3, 12)
    told, steps = [], []
    for _ in range(rng.randint(1, 2)):
        n = rng.randint(1, min(9, has))
        if rng.random() < 0.5 and has > n:
            verb, after, sign = "gives away", has - n, "-"
        else:
            verb, after, sign = rng.choice(("finds", "buys", "gets")), has + n, "+"
        told.append(f"{verb} {n}")
        steps.append(f"{has} {sign} {n} = {after}")
        has = after
    asked = f"{name} has {start} {thing} and {' and '.join(told)}. How many {thing}?"
    return asked, f"{', '.join(steps)}. The answer is {has}.", str(has), f"{len(steps)} steps"


def weekday(rng: random.Random) -> Generated:
    """The day of the week one to five days later or earlier, counted one by one."""
    name, at, away = rng.choice(NAMES), rng.randrange(7), rng.randint(1, 5)
    sign = rng.choice((1, -1))
    day = [DAYS[(at + sign * k) % 7] for k in range(away + 1)]
    word = "comes" if sign > 0 else "came"
    asked = f"It is {day[0]}. {name} {word} {away} day{'s' * (away > 1)} {'later' if sign > 0 else 'earlier'}. Which day?"
    return asked, f"{', '.join(day)}. The answer is {day[-1]}.", day[-1], f"{sign * away:+d} days"


TASKS: dict[str, tuple[Callable[[random.Random], Generated], str]] = {
    "sums": (running_sum, "number"),
    "stories": (story, "number"),
    "weekdays": (weekday, rf"regex:answer is ({'|'.join(DAYS)})"),
}


def write_questions(out: Path, count: int, seed: int) -> None:
    """Write `count` questions of each task, none asked twice, none among the examples."""
    for task, (generate, checker) in TASKS.items():
        rng = random.Random(f"{seed}/{task}")
        asked: dict[str, Generated] = {}
        while len(asked) < count + SHOTS:
            made = generate(rng)
            asked.setdefault(made[0], made)
        every = list(asked.values())
        shots = "".join(f"Q: {q}\nA: {worked}\n\n" for q, worked, _, _ in every[:SHOTS])
        rows = [
            {
                "id": f"{task}-{number}",
                "prompt": f"{shots}Q: {question}\nA:",
                "answer": answer,
                "checker": checker,
                "category": category,
            }
            for number, (question, _, answer, category) in enumerate(every[SHOTS:])
        ]
        write_text(out / f"{task}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    questions = verbs.add_parser("questions")
    questions.add_argument("--out", type=Path, required=True)
    questions.add_argument("--count", type=int, default=120)
    questions.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_questions(arguments.out, arguments.count, arguments.seed)


if __name__ == "__main__":
    main()
