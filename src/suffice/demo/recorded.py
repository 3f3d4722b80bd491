"""Recorded answers of three public models: the extract that ships with suffice.

Source: WildEval/ZeroEval @ 8c1485ed, Apache-2.0 (data/LICENSE.zeroeval): greedy answers to GSM8K
and CRUX. Lengths were recorded in characters; a token is counted as four of them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

Task = Literal["gsm", "crux"]

SMALL_MODELS = ("Meta-Llama-3.1-8B-Instruct", "gemma-2-9b-it")
LARGE_MODEL = "Llama-3.1-405B-Instruct"  # in FP8, at two providers
# Billions of parameters, from the models' own cards: a token is taken to cost in proportion.
PARAMETERS_B: Mapping[str, float] = {
    SMALL_MODELS[0]: 8.03,
    SMALL_MODELS[1]: 9.24,
    LARGE_MODEL: 406.0,
}
CHARACTERS_PER_TOKEN = 4.0
# How the replies' answers are found and compared.
ANSWER_FORMATS: Mapping[Task, str] = {"gsm": "number", "crux": "regex:(?s)Output: (.*)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswer:
    """What one model said to one question; `answer` None where none was found."""

    answer: str | None
    correct: bool
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedQuestion:
    """One question with its right answer and every model's own."""

    task: Task
    prompt: str
    reference: str
    answers: Mapping[str, RecordedAnswer]

    @property
    def prompt_tokens(self) -> int:
        """Four characters are a token."""
        return max(1, round(len(self.prompt) / CHARACTERS_PER_TOKEN))

    def text_of(self, model: str) -> str:
        """A reply that holds the recorded answer; the reply's own wording was not recorded."""
        answer = self.answers[model].answer
        if answer is None:
            return "I cannot say."
        return f"Output: {answer}" if self.task == "crux" else f"The answer is {answer}"


def recorded_questions(task: Task) -> tuple[RecordedQuestion, ...]:
    """All questions of one task, each prompt once, in the source's order."""
    packed = files("suffice.demo").joinpath("data/zeroeval.jsonl.gz").read_bytes()
    found: dict[str, RecordedQuestion] = {}
    for line in gzip.decompress(packed).decode().splitlines():
        row = json.loads(line)
        if row["task"] == task:
            answers = {
                model: RecordedAnswer(
                    answer=said["answer"], correct=said["correct"], completion_tokens=said["tokens"]
                )
                for model, said in row["answers"].items()
            }
            found[row["question"]] = RecordedQuestion(
                task=task, prompt=row["question"], reference=row["gold"], answers=answers
            )
    return tuple(found.values())
