"""Procedural problems with one right answer, a difficulty and the steps that lead to it.

    chain       3fb        a digit sent through permutations of the digits, left to right
    arithmetic  3+4*7      left to right, modulo 10
    logic       1&0>1      left to right over the bits; > is "implies"

Beside them addition, comparison, gcd, countdown and sorting (`suffice.tasks.same_length`) and
restarts, zeros and variables (`suffice.tasks.hidden_depth`), where prompts of a kind are equally
long at every difficulty.

In the first three each step needs the result of the one before, and the chain's permutations do not
commute, so no shortcut replaces carrying the state. Arithmetic factors are units modulo 10, which
loses nothing; two thirds of the logic steps either keep the state or set it, so that thinking pays
less there.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from suffice.core.errors import InputError, UnknownName
from suffice.core.thinking import THINK_END
from suffice.tasks import same_length
from suffice.tasks.operations import PERMUTATIONS

Split = Literal["train", "held_out"]
HELD_OUT_SHARE = 0.1
TABLE_STEPS = 2

_UNITS = "379"
_LOGIC: Mapping[str, Callable[[int, int], int]] = {
    "&": lambda state, bit: state & bit,
    "|": lambda state, bit: state | bit,
    "^": lambda state, bit: state ^ bit,
    ">": lambda state, bit: (1 - state) | bit,
}
STEP = ","
# Every character that a prompt, a step or an answer of these tasks may hold.
ALPHABET = "0123456789" + "".join(PERMUTATIONS) + "+-*" + "".join(_LOGIC) + STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question. `steps` is the reasoning in text; None where only the answer is known."""

    task: str
    difficulty: int
    prompt: str
    answer: str
    steps: str | None = None
    # File and line that it was read from; None where it was generated.
    where: str | None = field(default=None, compare=False)

    @property
    def held_out(self) -> bool:
        """Whether the hash of the prompt falls into the held-out tenth (see `Mixture`)."""
        digest = hashlib.sha256(f"{self.task}:{self.prompt}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT_SHARE

    def response(self, *, think: bool) -> str:
        """The answer that training shows, without control token and end."""
        if not think:
            return self.answer
        if self.steps is None:
            raise InputError(
                f"problem {self.prompt!r} has no steps to show in think mode: give `steps`, or "
                "train with reinforcement, which needs answers only"
            )
        return f"{self.steps}{THINK_END}{self.answer}"

    def is_right(self, response: str, *, think: bool, ended: bool = True) -> bool:
        """Whether `response`, without control token and end, answers the problem in its mode.

        Short: the whole response is the answer; a think block that hides there is wrong. Think:
        one think block, closed once, and after it the answer and nothing else. A response that was
        cut before its end is wrong in either mode.
        """
        if not ended:
            return False
        if not think:
            return response == self.answer
        _, *after = response.split(THINK_END)
        return after == [self.answer]


Draw = Callable[[random.Random, int], Problem]


def chain(rng: random.Random, difficulty: int) -> Problem:
    """`difficulty` permutations applied to a digit."""
    state = rng.choice("0123456789")
    names = [rng.choice("".join(PERMUTATIONS)) for _ in range(difficulty)]
    prompt, steps = state + "".join(names), []
    for name in names:
        state = PERMUTATIONS[name][int(state)]
        steps.append(f"{STEP}{name}{state}")
    return Problem(
        task="chain", difficulty=difficulty, prompt=prompt, steps="".join(steps), answer=state
    )


def arithmetic(rng: random.Random, difficulty: int) -> Problem:
    """`difficulty` sums, differences and products modulo 10, left to right."""
    state = rng.randrange(10)
    prompt, steps = str(state), []
    for _ in range(difficulty):
        sign = rng.choice("+-*")
        operand = rng.choice(_UNITS) if sign == "*" else str(rng.randrange(10))
        value = int(operand)
        state = {"+": state + value, "-": state - value, "*": state * value}[sign] % 10
        prompt += sign + operand
        steps.append(f"{STEP}{sign}{operand}{state}")
    return Problem(
        task="arithmetic", difficulty=difficulty, prompt=prompt, steps="".join(steps),
        answer=str(state),
    )  # fmt: skip


def logic(rng: random.Random, difficulty: int) -> Problem:
    """`difficulty` connectives over bits, left to right."""
    state = rng.randrange(2)
    prompt, steps = str(state), []
    for _ in range(difficulty):
        sign, bit = rng.choice("".join(_LOGIC)), rng.randrange(2)
        state = _LOGIC[sign](state, bit)
        prompt += f"{sign}{bit}"
        steps.append(f"{STEP}{sign}{bit}{state}")
    return Problem(
        task="logic", difficulty=difficulty, prompt=prompt, steps="".join(steps),
        answer=str(state),
    )  # fmt: skip


def _same_length(kind: str) -> Draw:
    def drawn(rng: random.Random, difficulty: int) -> Problem:
        puzzle = same_length.draw(kind, rng, difficulty)
        return Problem(
            task=kind, difficulty=difficulty, prompt=puzzle.prompt, steps=puzzle.steps,
            answer=puzzle.answer,
        )  # fmt: skip

    return drawn


# Tasks whose difficulty is a number of steps, and whose short problems are a table.
BY_STEPS: Mapping[str, Draw] = {"chain": chain, "arithmetic": arithmetic, "logic": logic}
TASKS: Mapping[str, Draw] = {
    **BY_STEPS, **{kind: _same_length(kind) for kind in same_length.KINDS}
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Where problems come from: tasks and difficulties, each drawn equally often, or a file's.

    Problems of up to `table_steps` steps are in both splits, as a person knows the multiplication
    table by heart: a single step *is* the table of the operation, which cannot be inferred from
    other problems, and a small model that saw nine tenths of the two-step problems does not infer
    the rest either. Tasks that are not made of steps have no table. Other problems are held out by
    the hash of their prompt; of a file's, all but those of difficulty 1.
    """

    tasks: tuple[str, ...] = ("chain",)
    difficulties: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    given: tuple[Problem, ...] = ()
    table_steps: int = TABLE_STEPS

    def __post_init__(self) -> None:
        for name in self.tasks:
            if name not in TASKS:
                raise UnknownName.of("task", name, TASKS, "choose " + ", ".join(TASKS))
            if name not in BY_STEPS and not set(self.difficulties) <= {*same_length.DIFFICULTIES}:
                raise InputError(
                    f"{name} has difficulties 1, 2 and 3, got {self.difficulties}: name those"
                )
        if not self.given and not (self.tasks and self.difficulties):
            raise InputError("a mixture needs at least one task and one difficulty")
        if any(n < 1 for n in self.difficulties):
            raise InputError(f"difficulties count steps, from 1 up; got {self.difficulties}")
        if self.table_steps < 1:
            raise InputError(
                f"table_steps must be 1 or more, got {self.table_steps}: steps that training "
                "never shows cannot be known"
            )

    def in_split(self, problem: Problem, split: Split) -> bool:
        """Whether the problem may be drawn for `split`; tables are in both."""
        if self.given:
            known = problem.difficulty <= 1
        else:
            known = problem.task in BY_STEPS and problem.difficulty <= self.table_steps
        return known or problem.held_out == (split == "held_out")

    def draw(self, count: int, *, seed: int, step: int, split: Split) -> list[Problem]:
        """`count` problems, the same for the same seed and step, whatever was drawn before."""
        rng = random.Random(f"{seed}/{step}/{split}")
        if self.given:
            fitting = [p for p in self.given if self.in_split(p, split)]
            if not fitting:
                raise InputError(f"none of the given problems falls into the {split} split")
            return [rng.choice(fitting) for _ in range(count)]
        return [self._one(rng, split) for _ in range(count)]

    def distinct(
        self, count: int, *, seed: int, split: Split
    ) -> dict[tuple[str, int], list[Problem]]:
        """Up to `count` different problems for each (task, difficulty), in the order drawn."""
        cells: dict[tuple[str, int], list[Problem]] = {}
        if self.given:
            for problem in dict.fromkeys(p for p in self.given if self.in_split(p, split)):
                cell = cells.setdefault((problem.task, problem.difficulty), [])
                if len(cell) < count:
                    cell.append(problem)
            return dict(sorted(cells.items()))
        for task in self.tasks:
            for difficulty in self.difficulties:
                rng = random.Random(f"{seed}/{task}/{difficulty}/{split}")
                cells[task, difficulty] = self._distinct(TASKS[task], difficulty, count, rng, split)
        return cells

    def _one(self, rng: random.Random, split: Split) -> Problem:
        task, difficulty = rng.choice(self.tasks), rng.choice(self.difficulties)
        while True:
            problem = TASKS[task](rng, difficulty)
            if self.in_split(problem, split):
                return problem

    def _distinct(
        self, task: Draw, difficulty: int, count: int, rng: random.Random, split: Split
    ) -> list[Problem]:
        found: dict[str, Problem] = {}
        # A small space is exhausted long before this many draws in a row bring nothing new.
        misses = 0
        while len(found) < count and misses < 4000:
            problem = task(rng, difficulty)
            if problem.prompt in found or not self.in_split(problem, split):
                misses += 1
                continue
            found[problem.prompt], misses = problem, 0
        return list(found.values())


def read_problems(path: Path) -> tuple[Problem, ...]:
    """Problems of a JSONL file with prompt, answer and optionally task, difficulty and steps."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"problems {str(path)!r} cannot be read: {error.strerror}") from None
    problems = tuple(
        _problem(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()
    )
    if not problems:
        raise InputError(f"problems {str(path)!r} is empty: one JSON object a line is needed")
    _one_answer_each(problems)
    return problems


def _one_answer_each(problems: Sequence[Problem]) -> None:
    first: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        earlier = first.setdefault((problem.task, problem.prompt), problem)
        if earlier.answer != problem.answer:
            raise InputError(
                f"{problem.where} answers {problem.prompt[:40]!r} with {problem.answer!r}, "
                f"{earlier.where} with {earlier.answer!r}: a problem has one right answer, drop one"
            )


def _problem(line: str, where: str) -> Problem:
    try:
        values = json.loads(line)
    except ValueError:
        raise InputError(f"{where} is not valid JSON") from None
    if not isinstance(values, dict) or not isinstance(values.get("prompt"), str):
        raise InputError(f"{where} needs a `prompt`")
    answer = values.get("answer")
    if not isinstance(answer, str) or not answer.strip():
        raise InputError(
            f"{where} has no verifiable `answer`: the trainers reward right answers only, so each "
            "problem needs one, as text"
        )
    unknown = set(values) - {"prompt", "answer", "task", "difficulty", "steps"}
    if unknown:
        raise InputError(f"{where} has unknown fields: {', '.join(sorted(unknown))}")
    difficulty = values.get("difficulty", 2)
    if isinstance(difficulty, bool) or not isinstance(difficulty, int) or difficulty < 1:
        raise InputError(f"{where}: difficulty must be a whole number from 1 up")
    task = values.get("task", path_task(where))
    if not isinstance(task, str) or not task.strip():
        raise InputError(f"{where}: task must be a name, as text; leave it out to use the file's")
    steps = values.get("steps")
    if steps is not None and not isinstance(steps, str):
        raise InputError(
            f"{where}: steps must be one text, the reasoning as it is to be written, got "
            f"{json.dumps(steps)[:40]}"
        )
    return Problem(
        task=task, difficulty=difficulty, prompt=values["prompt"], answer=answer, steps=steps,
        where=where,
    )  # fmt: skip


def path_task(where: str) -> str:
    """Task name of a file's problems where they bring none: the file's name."""
    return Path(where.rpartition(":")[0]).stem


class Spelling(Protocol):
    """What is asked of a vocabulary."""

    def spells(self, character: str) -> bool:
        """Whether `character` has an id of its own."""

    def encode(self, text: str) -> object:
        """Ids of the text. Raises InputError."""


def check_spelling(problems: Sequence[Problem], vocabulary: Spelling) -> None:
    """Raise InputError, with file and line, unless `vocabulary` spells every given problem."""
    for problem in problems:
        for name in ("prompt", "answer", "steps"):
            text = getattr(problem, name) or ""
            blank = next((c for c in text if c.isspace() and not vocabulary.spells(c)), None)
            try:
                vocabulary.encode(text)
            except InputError as error:
                raise InputError(f"{problem.where or problem.prompt}: {name}: {error}") from None
            if blank is not None:
                raise InputError(
                    f"{problem.where or problem.prompt}: {name} holds white space ({blank!r}), "
                    "which this model's tokenizer drops: take it out, or train a model of these "
                    "problems with `suffice train nano --problems`, which spells spaces"
                )
