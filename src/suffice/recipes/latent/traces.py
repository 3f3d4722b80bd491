"""Trajectories as recorded samples, so that policies and certificates play on them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from suffice.evals.traces.memory import set_of
from suffice.evals.traces.trace_set import Question, Trace, TraceSet, messages_json
from suffice.recipes.latent.explore import Explored
from suffice.tasks.grids.puzzles import GridTask, write_answer

ANSWER_FORMAT = r"regex:^[1-9A-G]+$"
MODEL = "latent"
Score = Literal["halting", "value", "verifier"]


def traces_of(
    explored: Explored, task: GridTask, *, depth: int, score: Score = "verifier"
) -> TraceSet:
    """Every trajectory after `depth` steps as one sample, a step a token.

    `score` is what score-reading policies go by: the halting head's probability, the reward model's
    value, or the rules.
    """
    step, traces = depth - 1, []
    for p, given in enumerate(explored.puzzles.inputs):
        prompt = task.prompt(given)
        question = Question(
            dataset=task.name,
            name=prompt,
            messages_json=messages_json(prompt),
            reference=write_answer(explored.puzzles.solutions_of(p)[0]),
            answer_format=ANSWER_FORMAT,
        )
        for k in range(explored.width):
            answer = write_answer(explored.answers[step, p, k])
            right = bool(explored.right[step, p, k])
            logits = explored.halting[:depth, p, k].astype(np.float64)
            chance = 1.0 / (1.0 + np.exp(-logits[-1]))
            scores = {
                "halting": float(chance),
                "value": float(explored.value[step, p, k]),
                "verifier": float(right),
            }
            traces.append(
                Trace(
                    question=question, model=MODEL, sample=k, text=answer, answer=answer,
                    correct=right, score=scores[score], completion_tokens=depth,
                    reasoning_tokens=depth - 1,
                    logprobs=(-np.logaddexp(0.0, -logits)).astype(np.float16),
                    confidences=np.logaddexp(0.0, logits).astype(np.float16),
                )
            )  # fmt: skip
    return set_of(traces)
