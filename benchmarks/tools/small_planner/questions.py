"""Questions of 0 to 8 calls over a made-up country, with the plan and the answer of each.

Towns have a founder, a population and an area, people a birthplace. `look_up` knows the numbers,
`search` the names, `calculate` does sums. All that is random takes a seed; a question is held out
by the hash of its text, so that training never sees one that is asked later.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from suffice.policies.tool_plan.plan import Constant, Plan, Ref, Step, Text, Value
from suffice.tools.functions import FunctionTools, tool_hints
from suffice.tools.servers.calculator import calculate, evaluate

Split = Literal["train", "held_out"]
# One question in ten is never trained on.
HELD_OUT_OF = 10
TOWNS = (
    "Arvik", "Belto", "Corva", "Dunmar", "Elgen", "Fosby", "Garlen", "Hesk", "Ilmar", "Jorvin",
    "Kelda", "Lunden", "Morva", "Nesby", "Oskel", "Parno", "Quill", "Rosten", "Selmo", "Tarnby",
    "Ulvar", "Venlo", "Wexby", "Yarrow",
)  # fmt: skip
PEOPLE = (
    "Anna", "Bruno", "Clara", "David", "Erik", "Freya", "Georg", "Hanna", "Ivan", "Julia", "Karl",
    "Lena", "Maria", "Nils", "Olga", "Paul", "Rita", "Sven", "Tilda", "Ursula", "Viktor", "Wanda",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, the calls that answer it, and the answer."""

    text: str
    plan: Plan
    answer: str
    kind: str


class Country:
    """The facts, drawn from a seed."""

    def __init__(self, seed: int | str = 0) -> None:
        rng = random.Random(seed)
        self.population = {town: rng.randrange(100, 1_000) for town in TOWNS}
        self.area = {town: rng.randrange(10, 100) for town in TOWNS}
        self.founder = {town: rng.choice(PEOPLE) for town in TOWNS}
        self.birthplace = {person: rng.choice(TOWNS) for person in PEOPLE}

    def server(self) -> FunctionTools:
        """The tools over these facts."""

        @tool_hints(read_only=True, idempotent=True, open_world=False)
        def look_up(key: str) -> int:
            """A number: population of TOWN, area of TOWN."""
            what, _, town = key.partition(" of ")
            return {"population": self.population, "area": self.area}[what.strip()][town.strip()]

        @tool_hints(read_only=True, idempotent=True, open_world=False)
        def search(query: str) -> str:
            """A name: founder of TOWN, birthplace of PERSON."""
            what, _, name = query.partition(" of ")
            return {"founder": self.founder, "birthplace": self.birthplace}[what.strip()][
                name.strip()
            ]

        return FunctionTools([look_up, search, calculate], name="country")


class _Draft:
    """A plan that is being put together, with the results of its steps."""

    def __init__(self, country: Country) -> None:
        self._tools = country.server()
        self._country = country
        self.steps: list[Step] = []
        self.results: list[str] = []

    def add(self, tool: str, name: str, *parts: str | int) -> int:
        """A call; numbers among the parts cite earlier ones. Its own number."""
        refs = tuple(Ref(str(part)) if isinstance(part, int) else part for part in parts)
        value: Value = (
            Text(refs)
            if any(isinstance(p, Ref) for p in refs)
            else Constant.of("".join(str(p) for p in parts))
        )
        number = len(self.steps) + 1
        self.steps.append(Step(id=str(number), tool=tool, arguments=((name, value),)))
        said = "".join(self.results[part - 1] if isinstance(part, int) else part for part in parts)
        self.results.append(self._result(tool, said))
        return number

    def _result(self, tool: str, said: str) -> str:
        if tool == "calculate":
            return evaluate(said)
        what, _, name = said.partition(" of ")
        return str(getattr(self._country, what)[name])

    def population(self, town: str | int) -> int:
        """Looks a population up."""
        return self.add("look_up", "key", "population of ", town)


Maker = Callable[[random.Random, _Draft], tuple[str, str]]


def _none(rng: random.Random, draft: _Draft) -> tuple[str, str]:
    del draft
    first, second = rng.choice(TOWNS), rng.choice(PEOPLE)
    return f"Say {first}, then {second}.", f"{first}, {second}"


def _sum_of_two(rng: random.Random, draft: _Draft) -> tuple[str, str]:
    a, b, op = rng.randrange(10, 100), rng.randrange(10, 100), rng.choice("+-*")
    draft.add("calculate", "expression", f"{a} {op} {b}")
    return f"What is {a} {op} {b}?", draft.results[-1]


def _number(rng: random.Random, draft: _Draft) -> tuple[str, str]:
    town, what = rng.choice(TOWNS), rng.choice(["population", "area"])
    draft.add("look_up", "key", f"{what} of {town}")
    return f"What is the {what} of {town}?", draft.results[-1]


def _founder(rng: random.Random, draft: _Draft) -> tuple[str, str]:
    town = rng.choice(TOWNS)
    draft.add("search", "query", f"founder of {town}")
    return f"Who founded {town}?", draft.results[-1]


def _chain(rng: random.Random, draft: _Draft) -> tuple[str, str]:
    town, hops = rng.choice(TOWNS), rng.choice([2, 3, 4, 5])
    founder = draft.add("search", "query", f"founder of {town}")
    home = draft.add("search", "query", "birthplace of ", founder)
    text = f"the birthplace of the founder of {town}"
    if hops == 2:
        return f"What is {text}?", draft.results[-1]
    if hops == 3:
        draft.population(home)
        return f"What is the population of {text}?", draft.results[-1]
    second = draft.add("search", "query", "founder of ", home)
    if hops == 4:
        return f"Who founded {text}?", draft.results[-1]
    draft.add("search", "query", "birthplace of ", second)
    return f"What is the birthplace of the founder of {text}?", draft.results[-1]


def _sum_of_towns(rng: random.Random, draft: _Draft) -> tuple[str, str]:
    towns = rng.sample(TOWNS, rng.randrange(2, 8))
    what = rng.choice(["population", "area"])
    numbers = [draft.add("look_up", "key", f"{what} of {town}") for town in towns]
    parts: list[str | int] = []
    for number in numbers:
        parts += [" + "] * bool(parts) + [number]
    draft.add("calculate", "expression", *parts)
    named = f"{', '.join(towns[:-1])} and {towns[-1]}"
    return f"What is the sum of the {what} of {named}?", draft.results[-1]


def _difference(rng: random.Random, draft: _Draft) -> tuple[str, str]:
    a, b = rng.sample(PEOPLE, 2)
    one = draft.add("search", "query", f"birthplace of {a}")
    two = draft.add("search", "query", f"birthplace of {b}")
    first, second = draft.population(one), draft.population(two)
    draft.add("calculate", "expression", first, " - ", second)
    text = f"What is the population of the birthplace of {a} minus that of {b}?"
    return text, draft.results[-1]


KINDS: dict[str, tuple[float, Maker]] = {
    "none": (0.08, _none),
    "sum": (0.1, _sum_of_two),
    "number": (0.1, _number),
    "founder": (0.1, _founder),
    "chain": (0.22, _chain),
    "towns": (0.25, _sum_of_towns),
    "difference": (0.15, _difference),
}


def questions(
    count: int, *, seed: int | str, split: Split, country: Country | None = None
) -> list[Question]:
    """Questions of one split, drawn from a seed; held-out ones are all different."""
    rng = random.Random(f"{seed}/{split}")
    where = country or Country()
    names, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    found: list[Question] = []
    seen: set[str] = set()
    while len(found) < count:
        kind = rng.choices(names, weights)[0]
        draft = _Draft(where)
        text, answer = KINDS[kind][1](rng, draft)
        if split_of(text) != split or (split == "held_out" and text in seen):
            continue
        seen.add(text)
        plan = Plan(steps=tuple(draft.steps))
        found.append(Question(text=text, plan=plan, answer=answer, kind=kind))
    return found


def split_of(text: str) -> Split:
    """The split that a question belongs to, whatever the seed."""
    digest = hashlib.sha256(text.encode()).digest()
    return "held_out" if digest[0] % HELD_OUT_OF == 0 else "train"
