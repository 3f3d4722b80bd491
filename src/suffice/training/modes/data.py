"""Problems are checked whole before anything is trained: a run never ends in an error of its data.

Generated problems of one cell are all alike in length and spelling, so some of each are looked at;
of a file's, every one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from suffice.backends.nano.vocabulary import CONTROL_TOKENS, Vocabulary
from suffice.core.errors import InputError
from suffice.tasks.puzzles import (
    ALPHABET,
    HELD_OUT_SHARE,
    Mixture,
    Problem,
    Split,
    check_spelling,
)
from suffice.tasks.same_length import KINDS

# Generated problems that are looked at, per task and difficulty.
LOOKED_AT = 64


def alphabet_of(mixture: Mixture) -> str:
    """The characters that the problems need: a file's own, or those of the generated tasks."""
    if not mixture.given:
        used = "".join(KINDS[task].characters for task in mixture.tasks if task in KINDS)
        extra = dict.fromkeys(c for c in used if c not in ALPHABET)
        return ALPHABET + "".join(extra)
    problems = mixture.given
    texts = "".join(p.prompt + p.answer + (p.steps or "") for p in problems)
    return "".join(sorted(set(texts)))


def check_data(mixture: Mixture, vocabulary: Vocabulary, *, max_tokens: int, shown: bool) -> None:
    """Raise InputError, naming file and line, for whatever of the problems cannot be trained on.

    `shown` if training shows the responses of both modes, which needs steps.
    """
    given = mixture.given
    for problem in given:
        _no_control_tokens(problem)
    check_spelling(given, vocabulary)
    if given:
        _both_splits(mixture)
    for problem in looked_at(mixture):
        if shown and problem.steps is None:
            raise InputError(
                f"{_name(problem)} has no `steps`: both modes are learned from shown answers, so "
                "each problem needs the reasoning that leads to its answer"
            )
        needed = response_tokens(problem, vocabulary)
        if needed > max_tokens:
            raise InputError(
                f"the response to {_name(problem)} has {needed} tokens, routing.max_tokens is "
                f"{max_tokens}: raise it to {needed} or more, or shorten its steps"
            )


def looked_at(mixture: Mixture) -> Iterable[Problem]:
    """All given problems, or some of each cell of generated ones."""
    if mixture.given:
        return mixture.given
    cells = mixture.distinct(LOOKED_AT, seed=0, split="train")
    return [problem for cell in cells.values() for problem in cell]


def response_tokens(problem: Problem, vocabulary: Vocabulary) -> int:
    """Tokens of the longest response that the problem shows, control token and end included."""
    text = problem.response(think=problem.steps is not None)
    return len(vocabulary.encode(text)) + 2


def longest_prompt(mixture: Mixture, vocabulary: Vocabulary) -> int:
    """Tokens of the longest prompt."""
    return max(len(vocabulary.prompt(problem.prompt)) for problem in looked_at(mixture))


def most_frequent_share(problems: Sequence[Problem]) -> float:
    """Share of `problems` that the likeliest single answer gets right."""
    answers = [problem.answer for problem in problems]
    return max(answers.count(answer) for answer in set(answers)) / len(answers)


def _both_splits(mixture: Mixture) -> None:
    wanted: tuple[tuple[Split, str], ...] = (("train", "to train on"), ("held_out", "held out"))
    for split, use in wanted:
        if not any(mixture.in_split(problem, split) for problem in mixture.given):
            raise InputError(
                f"none of the {len(mixture.given)} problems is {use}: of those whose difficulty is "
                f"above 1, a share of {HELD_OUT_SHARE:g} is kept for evaluation by the hash of its "
                "prompt; give more different problems"
            )


def _no_control_tokens(problem: Problem) -> None:
    for name in ("prompt", "answer", "steps"):
        text = getattr(problem, name) or ""
        found = next((token for token in CONTROL_TOKENS if token in text), None)
        if found is not None:
            raise InputError(
                f"{_name(problem)}: {name} holds {found!r}, which is a control token: training "
                "adds those itself, take it out"
            )


def _name(problem: Problem) -> str:
    return problem.where or f"problem {problem.prompt!r}"
