"""Problems with slots for vectors between question and answer, and how a backbone answers them.

B  problems   P  tokens before the slots   N  slots   d  hidden size

    <user> 3 f b a d [slot]*N <assistant> <short> answer <end>

The slots stand in the user's turn, where an engine puts the vectors of a `prompt_embeds` part.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from suffice.backends.nano.vocabulary import ASSISTANT, PAD, SHORT, USER, Vocabulary
from suffice.tasks.operations import PERMUTATIONS
from suffice.tasks.puzzles import TASKS, Problem
from suffice.training.responses import pad

TARGET = "chain"
HELD_OUT_TASK = "arithmetic"
# Steps that the assistant's short answers know by heart; the backbone takes the others.
ASSISTED_STEPS = 2


def problems(task: str, steps: Sequence[int], count: int, *, seed: int, part: str) -> list[Problem]:
    """`count` problems, the same for the same seed and part; `part` "test" is held out.

    Problems of up to two steps are tables and in both parts.
    """
    rng = random.Random(f"{seed}/{part}")
    found: list[Problem] = []
    while len(found) < count:
        problem = TASKS[task](rng, rng.choice(steps))
        if problem.difficulty <= ASSISTED_STEPS or problem.held_out == part.startswith("test"):
            found.append(problem)
    return found


def first_steps(problem: Problem) -> tuple[str, str]:
    """(the part of a chain that the assistant is asked, what comes out of it)."""
    taken = min(ASSISTED_STEPS, problem.difficulty - 1)
    state = problem.prompt[0]
    for name in problem.prompt[1 : 1 + taken]:
        state = PERMUTATIONS[name][int(state)]
    return problem.prompt[: 1 + taken], state


@dataclass(frozen=True, slots=True)
class Asked:
    """Ids around the slots: before them (padded on the left), after them, and the answer's."""

    before_BP: torch.Tensor
    real_BP: torch.Tensor
    after_A: torch.Tensor  # assistant's turn opened and the mode token, the same for all
    answer_B: torch.Tensor


def asked(of: Sequence[Problem], vocabulary: Vocabulary) -> Asked:
    """Problems whose answers are one character, as ids."""
    rows = [[vocabulary.id(USER), *vocabulary.encode(problem.prompt)] for problem in of]
    before, real = pad(rows, vocabulary.id(PAD), left=True)
    after = torch.tensor([vocabulary.id(ASSISTANT), vocabulary.id(SHORT)])
    answers = torch.tensor([vocabulary.id(problem.answer) for problem in of])
    return Asked(before, real, after, answers)


def answer_logits(
    model: nn.Module, rows: Asked, slots_BNd: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, V) of the answer and of the end after it; no slots where `slots_BNd` is None."""
    net: Any = model
    embed = net.get_input_embeddings()
    B = len(rows.before_BP)
    tail = torch.cat([rows.after_A.expand(B, -1), rows.answer_B[:, None]], dim=1)
    parts = [embed(rows.before_BP), embed(tail)]
    real = [rows.real_BP, torch.ones_like(tail, dtype=torch.bool)]
    if slots_BNd is not None:
        parts.insert(1, slots_BNd)
        real.insert(1, torch.ones(slots_BNd.shape[:2], dtype=torch.bool))
    mask = torch.cat(real, dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits = net(
        inputs_embeds=torch.cat(parts, dim=1), attention_mask=mask, position_ids=positions,
        use_cache=False,
    ).logits  # fmt: skip
    return logits[:, -2], logits[:, -1]


def answer_loss(
    model: nn.Module, rows: Asked, slots_BNd: torch.Tensor | None, end_id: int
) -> torch.Tensor:
    """Cross-entropy in nats of answer and end, mean over problems."""
    answer, end = answer_logits(model, rows, slots_BNd)
    ends = torch.full_like(rows.answer_B, end_id)
    entropy = nn.functional.cross_entropy
    return entropy(answer, rows.answer_B) + entropy(end, ends)


def right(model: nn.Module, rows: Asked, slots_BNd: torch.Tensor | None) -> list[bool]:
    """Whether the likeliest answer is the right one, by problem."""
    with torch.no_grad():
        answer, _ = answer_logits(model, rows, slots_BNd)
    hits: list[bool] = (answer.argmax(dim=1) == rows.answer_B).tolist()
    return hits


def random_slots(count: int, slots: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Vectors as long as embeddings, which are drawn with a deviation of 1."""
    return torch.randn(count, slots, width, generator=generator)


def hinted_slots(
    model: nn.Module, of: Sequence[Problem], slots: int, vocabulary: Vocabulary,
    generator: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """Random vectors, and in at least one slot the embedding of the first steps' result."""
    net: Any = model
    embed = net.get_input_embeddings().weight
    hints = torch.tensor([vocabulary.id(first_steps(problem)[1]) for problem in of])
    noise = random_slots(len(of), slots, embed.shape[1], generator)
    told = torch.rand(len(of), slots, generator=generator) < 0.5
    sure = torch.randint(slots, (len(of),), generator=generator)
    told[torch.arange(len(of)), sure] = True
    return torch.where(told[..., None], embed[hints][:, None].expand(-1, slots, -1), noise)
