"""Four kinds of questions whose best modality is known, and what one small model writes in each.

    kind      prompt                 best modality by design
    fact      qhk                    short: one of 256 facts that are learned by heart
    chain     7ab4cfe                text: a digit through permutations; a digit on the way restarts
    modular   483*291+357%7          tool: a calculator gets the expression
    entails   ghhikljmnimg?gi        solver: six implications, does the first letter imply the last

In a part of each the short answer is enough (one step after the last restart; a factor 000; the
asked implication is given), so the kind alone does not decide. Five control tokens name modalities:

    <short>  the answer
    <think>  steps, </think>, the answer
    T        the expression for the calculator and =, its result, the answer
    S        the formula for the solver and =, its result, the answer
    L        eight filler tokens that are given, not generated, then the answer

Calculator and solver are exact programs that read what the model wrote; what they cannot read has
the result `?`. Cost: a generated token 1, a token that is given .2, a call of a program 4.
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass

from suffice.backends.nano.vocabulary import SHORT, THINK, Vocabulary
from suffice.core.thinking import THINK_END
from suffice.tasks.hidden_depth import restarts

KINDS = ("fact", "chain", "modular", "entails")
TOOL, SOLVER, LATENT = "T", "S", "L"
MODALITIES = (SHORT, LATENT, THINK, TOOL, SOLVER)
NAMES = {SHORT: "short", LATENT: "latent", THINK: "text", TOOL: "tool", SOLVER: "solver"}
FILLERS = "." * 8
LETTERS = "ghijklmn"
FIRST = "ghijklmnopqrstuv"  # of a fact: 16 x 16 of them
ANSWER = "="
GIVEN_COST, CALL_COST = 0.2, 4.0
VOCABULARY = Vocabulary.of("0123456789abcdef" + FIRST + "*+%?=.TSLYN")
_FACTS = random.Random("facts")
FACTS = {f"q{a}{b}": str(_FACTS.randrange(10)) for a in FIRST for b in FIRST}
_EXPRESSION = re.compile(r"(\d+)\*(\d+)\+(\d+)%7")
_FORMULA = re.compile(r"((?:[a-z][a-z])+)\?([a-z])([a-z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prompt with its answer and steps; `easy` where a short answer is meant to be enough."""

    kind: str
    prompt: str
    answer: str
    steps: str
    easy: bool


def draw(kind: str, rng: random.Random) -> Question:
    """One question of a kind."""
    return {"fact": _fact, "chain": _chain, "modular": _modular, "entails": _entails}[kind](rng)


def _fact(rng: random.Random) -> Question:
    prompt = rng.choice(list(FACTS))
    return Question(kind="fact", prompt=prompt, answer=FACTS[prompt],
                    steps=prompt[1:] + FACTS[prompt], easy=True)  # fmt: skip


def _chain(rng: random.Random) -> Question:
    puzzle = restarts(rng)
    return Question(kind="chain", prompt=puzzle.prompt, answer=puzzle.answer, steps=puzzle.steps,
                    easy=puzzle.counted == 1)  # fmt: skip


def _modular(rng: random.Random) -> Question:
    a, b, c = (rng.randrange(1, 1000) for _ in range(3))
    easy = rng.random() < 1 / 3
    if easy:
        b = 0
    steps, left = "", []
    for number in (a, b, c):  # each digit by digit, as on paper
        state = 0
        for digit in f"{number:03d}":
            state = (10 * state + int(digit)) % 7
            steps += f"{digit}{state}"
        left.append(state)
        if len(left) == 2:
            steps += str(left[0] * left[1] % 7)
    answer = str((a * b + c) % 7)
    return Question(kind="modular", prompt=f"{a:03d}*{b:03d}+{c:03d}%7", answer=answer,
                    steps=steps, easy=easy)  # fmt: skip


def _entails(rng: random.Random) -> Question:
    wanted = rng.random() < 0.5
    while True:
        order = rng.sample(LETTERS, len(LETTERS))
        after = {}
        for place in rng.sample(range(len(order) - 1), 6):
            after[order[place]] = rng.choice(order[place + 1 :])
        asked, last = rng.choice(list(after)), rng.choice(order)
        path = asked
        while path[-1] in after and path[-1] != last:
            path += after[path[-1]]
        holds = path[-1] == last and len(path) > 1
        if asked == last or holds != wanted:
            continue
        edges = rng.sample([f"{x}{y}" for x, y in after.items()], len(after))
        return Question(
            kind="entails", prompt="".join(edges) + f"?{asked}{last}",
            answer="Y" if holds else "N", steps=path, easy=holds and len(path) == 2,
        )  # fmt: skip


def calculator(text: str) -> str:
    """Result of `a*b+c%7`; `?` for anything else."""
    found = _EXPRESSION.fullmatch(text)
    return "?" if found is None else str((int(found[1]) * int(found[2]) + int(found[3])) % 7)


def solver(text: str) -> str:
    """Y if the implications entail the asked one, by trying every assignment; `?` if unreadable."""
    found = _FORMULA.fullmatch(text)
    if found is None:
        return "?"
    clauses = [(found[1][i], found[1][i + 1]) for i in range(0, len(found[1]), 2)]
    names = sorted({*found[1], found[2], found[3]})
    for values in itertools.product((False, True), repeat=len(names)):
        true = dict(zip(names, values, strict=True))
        if (
            all(not true[x] or true[y] for x, y in clauses)
            and true[found[2]]
            and not true[found[3]]
        ):
            return "N"
    return "Y"


PROGRAMS = {TOOL: calculator, SOLVER: solver}


def shown(question: Question, modality: str) -> tuple[str, str, str] | None:
    """(what is generated, what is given, what is generated after it); None: not taught.

    The control token is not part of it. A short answer is given nothing and generates all at the
    end.
    """
    if modality == SHORT:
        return "", "", question.answer
    if modality == LATENT:
        return "", FILLERS, question.answer
    if modality == THINK:
        return f"{question.steps}{THINK_END}", "", question.answer
    if {"modular": TOOL, "entails": SOLVER}.get(question.kind) != modality:
        return None
    return question.prompt + ANSWER, question.answer, question.answer


def held_out(question: Question) -> bool:
    """Whether it is kept from training: a tenth by its prompt; facts are known or not at all."""
    return question.kind != "fact" and random.Random(question.prompt).random() < 0.1


def questions(count: int, *, seed: int, split: str) -> list[Question]:
    """`count` of each kind, different ones: `held_out`, or `train` for what routers learn from.

    Facts are in both splits; there are 256 of them.
    """
    found: list[Question] = []
    for kind in KINDS:
        rng = random.Random(f"{seed}/{kind}/{split}")
        kept: dict[str, Question] = {}
        while len(kept) < (min(count, len(FACTS)) if kind == "fact" else count):
            question = draw(kind, rng)
            if kind == "fact" or held_out(question) == (split == "held_out"):
                kept[question.prompt] = question
        found += kept.values()
    return found
