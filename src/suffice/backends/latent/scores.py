"""Scores of a latent network's answers, for `--scorer MODULE:FUNCTION`; needs no torch."""

from __future__ import annotations

import math

from suffice.core.completions import Completion
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.tasks.grids.puzzles import read_answer
from suffice.tasks.grids.registry import grid_task


def solves(request: Request, completion: Completion) -> float:
    """1.0 if the answer solves the puzzle of the request, else 0.0: a verifier, by the rules."""
    prompt = request.messages[-1].text
    task = grid_task((prompt.split() or [""])[0])
    try:
        answer = read_answer(completion.text, task.shape)
    except InputError:
        return 0.0
    return float(bool(task.right(task.parse(prompt), answer)))


def halting(request: Request, completion: Completion) -> float:
    """The halting head's probability that the answer is right; needs log-probabilities."""
    if not completion.logprobs:
        raise InputError(
            "the halting score is read from log-probabilities: ask with top_logprobs 0 or more"
        )
    return math.exp(completion.logprobs[-1].logprob)
