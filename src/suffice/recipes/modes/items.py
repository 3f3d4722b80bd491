"""Problems of the mode tasks as items that a recorder asks and judges."""

from __future__ import annotations

from suffice.evals.datasets import Item
from suffice.evals.grading import check_of
from suffice.evals.traces.trace_set import Question, messages_json
from suffice.training.modes.tasks import Problem

# The whole answer is one digit: steps written in short mode are wrong.
ANSWER_FORMAT = r"regex:^\d$"


def item_of(problem: Problem, dataset: str) -> Item:
    """A problem of `dataset`, judged by its whole answer."""
    return Item(
        question=Question(
            dataset=dataset,
            name=f"{problem.task}:{problem.prompt}",
            messages_json=messages_json(problem.prompt),
            reference=problem.answer,
            answer_format=ANSWER_FORMAT,
            category=f"{problem.task}, {problem.difficulty} steps",
        ),
        check=check_of(ANSWER_FORMAT, problem.answer),
    )
