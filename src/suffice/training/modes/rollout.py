"""Responses drawn from a model, in both modes or in a forced one.

B  sequences   P  prompt length   T  response length
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from suffice.backends.nano.vocabulary import END, Vocabulary
from suffice.tasks.puzzles import Problem
from suffice.training.modes.rewards import Reward
from suffice.training.modes.sequences import Batch, prompts, texts
from suffice.training.responses import control_ids, draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """Responses to problems, `group` in a row for each, and how they did."""

    batch: Batch
    think_B: torch.Tensor  # True where the control token is the think token
    right_B: torch.Tensor
    reward_B: torch.Tensor
    group: int
    ended_B: torch.Tensor  # False where a response was cut at max_tokens, which makes it wrong

    def by_problem(self, values_B: torch.Tensor) -> torch.Tensor:
        """(problems, group)."""
        return values_B.view(-1, self.group)


def roll_out(
    model: nn.Module,
    problems: Sequence[Problem],
    vocabulary: Vocabulary,
    reward: Reward,
    *,
    group: int,
    halves: bool,
    max_tokens: int,
    temperature: float,
    generator: torch.Generator,
) -> Rollouts:
    """`group` responses to each problem; with `halves` the first half short, the second think."""
    device = next(model.parameters()).device
    prompt_BP, prompt_mask_BP = (
        t.repeat_interleave(group, dim=0).to(device) for t in prompts(problems, vocabulary)
    )
    short, think = control_ids(vocabulary)
    control_B = None
    if halves:
        half = torch.tensor([short] * (group // 2) + [think] * (group - group // 2))
        control_B = half.repeat(len(problems))
    response_BT, mask_BT = draw(
        model, prompt_BP, prompt_mask_BP, vocabulary,
        max_tokens=max_tokens, temperature=temperature, generator=generator, control_B=control_B,
    )  # fmt: skip
    repeated = [problem for problem in problems for _ in range(group)]
    lengths_B = mask_BT.sum(dim=1)
    last_B = response_BT.gather(1, lengths_B[:, None] - 1).squeeze(1)
    ended_B = last_B == vocabulary.id(END)
    think_B = response_BT[:, 0] == think
    right, rewards = [], []
    for problem, text, thinks, ended, tokens in zip(
        repeated, texts(response_BT, mask_BT, vocabulary), think_B.tolist(), ended_B.tolist(),
        lengths_B.tolist(), strict=True,
    ):  # fmt: skip
        right.append(problem.is_right(text, think=thinks, ended=ended))
        rewards.append(reward(right=right[-1], think=thinks, tokens=tokens))
    return Rollouts(
        batch=Batch(
            prompt_BP=prompt_BP, prompt_mask_BP=prompt_mask_BP,
            response_BT=response_BT, mask_BT=mask_BT,
        ),
        think_B=think_B,
        right_B=torch.tensor(right, device=device),
        reward_B=torch.tensor(rewards, dtype=torch.float32, device=device),
        group=group,
        ended_B=ended_B,
    )  # fmt: skip
