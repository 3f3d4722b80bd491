"""Problems of the mode tasks as items that a recorder asks and judges."""

from __future__ import annotations

import re
from collections.abc import Sequence

from suffice.evals.datasets import Item
from suffice.evals.grading import check_of
from suffice.evals.traces.trace_set import Question, messages_json
from suffice.tasks.puzzles import Problem

# The whole answer is one digit: steps written in short mode are wrong.
ONE_DIGIT = r"regex:^\d$"


def answer_format_of(problems: Sequence[Problem]) -> str:
    """The form that every answer of `problems` has: as many of the same characters, at most.

    The whole text has to be of that form, so steps written in short mode are no answer.
    """
    longest = max(len(problem.answer) for problem in problems)
    used = {character for problem in problems for character in problem.answer}
    if used <= set("0123456789"):
        return ONE_DIGIT if longest == 1 else rf"regex:^\d{{1,{longest}}}$"
    return f"regex:^[{''.join(re.escape(c) for c in sorted(used))}]{{1,{longest}}}$"


def item_of(problem: Problem, dataset: str, answer_format: str = ONE_DIGIT) -> Item:
    """A problem of `dataset`, judged by its whole answer."""
    return Item(
        question=Question(
            dataset=dataset,
            name=f"{problem.task}:{problem.prompt}",
            messages_json=messages_json(problem.prompt),
            reference=problem.answer,
            answer_format=answer_format,
            category=f"{problem.task}, {problem.difficulty} steps",
        ),
        check=check_of(answer_format, problem.answer),
    )
