"""Sums in words over tools that are offered or not, and a teacher who errs by preference.

    add, mul | user asks: take 37 from 52, then times 3 | none
    sub, mul | the same                                  | sub(a=52, b=37) = 15, mul(a=15, b=3) = 45

Numbers are 0 to 99 and results modulo 100, so each is one word. Three of five tools are offered;
a share of the questions asks for nothing that tools do, another for a tool that is not offered, and
`none` is the right answer to both.

The teacher's chains hold the errors that preferences are about, each of a form that is right
elsewhere: arguments in the order in which they are said ("take 37 from 52"), `div` for its near
duplicate `mod` where both are offered, a call where the tool is missing. One way of asking is
answered wrongly more often than rightly.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from suffice.backends.nano.vocabulary import ASSISTANT, CONTROL_TOKENS, END, USER, Vocabulary

MODULUS = 100
NONE = "none"
OFFERED = 3
IRRELEVANT, NOT_OFFERED = 0.2, 0.12  # shares of the questions
TWO_CALLS = 0.35  # share of those that have an answer
TOOL = "tool:"  # opens an observation


@dataclass(frozen=True, slots=True)
class Call:
    """One call; every tool takes a and b."""

    tool: str
    a: int
    b: int

    @property
    def words(self) -> tuple[str, ...]:
        """As the model writes it."""
        return (self.tool, "(", "a=", str(self.a), ",", "b=", str(self.b), ")")

    @property
    def text(self) -> str:
        """As Python."""
        return f"{self.tool}(a={self.a}, b={self.b})"

    def run(self) -> int:
        """What the tool says; nothing can be divided by 0, which gives 0."""
        a, b = self.a, self.b
        value = {
            "add": a + b, "sub": a - b, "mul": a * b,
            "div": a // b if b else 0, "mod": a % b if b else 0,
        }[self.tool]  # fmt: skip
        return value % MODULUS


TOOLS = ("add", "sub", "mul", "div", "mod")
NEAR = {"div": "mod", "mod": "div"}
# How a tool is asked for; A stands where the first argument is said.
PHRASES: dict[str, tuple[str, ...]] = {
    "add": ("add A and B", "A plus B", "sum of A and B"),
    "sub": ("A minus B", "take B from A", "subtract B from A"),
    "mul": ("A times B", "product of A and B"),
    "div": ("divide A by B", "A over B", "how often fits B in A"),
    "mod": ("rest of A over B", "what stays of A after steps of B"),
}
THEN = {"add": "then plus B", "sub": "then minus B", "mul": "then times B"}
IDLE = (
    "sing A songs", "who met A of B", "paint A red", "is A a nice number", "call B friends",
)  # fmt: skip
# The teacher's chance of an error where one of its kind is possible.
ERRS = 0.35
ERRS_MOSTLY = {"how often fits B in A": 0.65}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked over which tools; `calls` is empty where `none` is right."""

    offered: tuple[str, ...]
    asked: tuple[str, ...]  # words
    calls: tuple[Call, ...]
    swaps: bool  # the first call's arguments are said the other way round
    wrong_tool: str | None  # what a careless caller would call first
    errs: float

    @property
    def answer(self) -> str:
        """The last call's result, or `none`."""
        return str(self.calls[-1].run()) if self.calls else NONE

    @property
    def prompt(self) -> tuple[str, ...]:
        """Words up to where the model writes."""
        return (USER, *self.offered, ":", *self.asked, ASSISTANT)

    @property
    def by_preference(self) -> bool:
        """Whether an error of preference is possible here."""
        return self.swaps or self.wrong_tool is not None


def words() -> Vocabulary:
    """Control tokens, words and the numbers 0 to 99, one id each."""
    said = [w for p in (*IDLE, *THEN.values(), *sum(PHRASES.values(), ())) for w in p.split()]
    known = [*TOOLS, NONE, ":", "(", ")", ",", "a=", "b=", TOOL, *said]
    plain = [w for w in dict.fromkeys(known) if w not in ("A", "B")]
    return Vocabulary((*CONTROL_TOKENS, *plain, *(str(n) for n in range(MODULUS))))


def questions(count: int, *, seed: int, part: str) -> list[Question]:
    """`count` questions, the same for the same seed and part."""
    rng = random.Random(f"{seed}/{part}")
    return [_question(rng) for _ in range(count)]


def _question(rng: random.Random) -> Question:
    offered = tuple(rng.sample(TOOLS, OFFERED))
    a, b = rng.randrange(MODULUS), rng.randrange(1, MODULUS)
    kind = rng.random()
    if kind < IRRELEVANT:
        asked = _said(rng.choice(IDLE), a, b)
        return Question(
            offered=offered, asked=asked, calls=(), swaps=False, wrong_tool=None, errs=0.0
        )
    missing = kind < IRRELEVANT + NOT_OFFERED
    tool = rng.choice([t for t in TOOLS if (t in offered) != missing])
    phrase = rng.choice(PHRASES[tool])
    asked, first = _said(phrase, a, b), Call(tool, a, b)
    errs = ERRS_MOSTLY.get(phrase, ERRS)
    if missing:
        near = NEAR.get(tool)
        wrong = near if near in offered else rng.choice(offered)
        return Question(
            offered=offered, asked=asked, calls=(), swaps=False, wrong_tool=wrong, errs=errs
        )
    calls = [first]
    then = [t for t in THEN if t in offered]
    if then and rng.random() < TWO_CALLS:
        second, c = rng.choice(then), rng.randrange(1, MODULUS)
        calls.append(Call(second, first.run(), c))
        asked = (*asked, *_said(THEN[second], 0, c))
    near = NEAR.get(tool)
    return Question(
        offered=offered, asked=asked, calls=tuple(calls),
        swaps=phrase.split().index("B") < phrase.split().index("A"),
        wrong_tool=near if near in offered else None, errs=errs,
    )  # fmt: skip


def _said(phrase: str, a: int, b: int) -> tuple[str, ...]:
    return tuple({"A": str(a), "B": str(b)}.get(word, word) for word in phrase.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What was written after a prompt, and which of it the model wrote itself.

    Observations, from `tool:` to their end, are the tools' words: nothing is learned from them.
    """

    words: tuple[str, ...]
    own: tuple[bool, ...]


def chain_of(calls: tuple[Call, ...]) -> Chain:
    """Calls with their observations and the final answer; no call is `none`."""
    said: list[str] = []
    own: list[bool] = []

    def turn(words: tuple[str, ...], mine: bool) -> None:
        said.extend((*words, END))
        own.extend([mine] * (len(words) + 1))

    for call in calls:
        turn(call.words, True)
        turn((TOOL, str(call.run())), False)
    turn((str(calls[-1].run()) if calls else NONE,), True)
    return Chain(words=tuple(said), own=tuple(own))


def right_chain(question: Question) -> Chain:
    """The chain that is right."""
    return chain_of(question.calls)


def taught_chain(question: Question, rng: random.Random) -> Chain:
    """The teacher's chain: right, or wrong where an error of preference is possible."""
    if not question.by_preference or rng.random() >= question.errs:
        return right_chain(question)
    return wrong_chain(question, rng)


def wrong_chain(question: Question, rng: random.Random) -> Chain:
    """A chain with one error of preference, followed to its end."""
    if not question.calls:
        assert question.wrong_tool is not None
        numbers = [int(word) for word in question.asked if word.isdigit()]
        return chain_of((Call(question.wrong_tool, numbers[0], numbers[-1]),))
    first, *later = question.calls
    swap = question.swaps and (question.wrong_tool is None or rng.random() < 0.5)
    if swap:
        wrong = Call(first.tool, first.b, first.a)
    else:
        assert question.wrong_tool is not None
        wrong = Call(question.wrong_tool, first.a, first.b)
    return chain_of((wrong, *(Call(call.tool, wrong.run(), call.b) for call in later)))
