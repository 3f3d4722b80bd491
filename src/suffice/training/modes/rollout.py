"""Responses drawn from a model, in both modes or in a forced one.

B  sequences   P  prompt length   T  response length
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from suffice.backends.kv_cache import forward
from suffice.backends.nano.vocabulary import END, PAD, Vocabulary
from suffice.core.errors import TrainingDiverged
from suffice.tasks.puzzles import Problem
from suffice.training.modes.rewards import Reward
from suffice.training.modes.sequences import Batch, control_ids, prompts, texts


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


def draw(
    model: nn.Module,
    prompt_BP: torch.Tensor,
    prompt_mask_BP: torch.Tensor,
    vocabulary: Vocabulary,
    *,
    max_tokens: int,
    temperature: float,
    generator: torch.Generator,
    control_B: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask) of one response a row; temperature 0 is greedy.

    The control token is drawn among the two modes only, or given by `control_B`. The draw happens
    on the CPU, so that a seed means the same on every device.
    """
    net: Any = model
    end = vocabulary.id(END)
    modes = torch.tensor(control_ids(vocabulary))
    device = prompt_BP.device
    B = len(prompt_BP)
    ids_BT = torch.full((B, max_tokens), vocabulary.id(PAD), device=device)
    mask_BT = torch.zeros((B, max_tokens), dtype=torch.bool, device=device)
    rows = torch.arange(B, device=device)  # those that go on
    mask = prompt_mask_BP
    inputs, positions = prompt_BP, (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache = None
    for step in range(max_tokens):
        with torch.no_grad():
            out, cache = forward(
                net, cache, input_ids=inputs, attention_mask=mask, position_ids=positions,
                logits_to_keep=1,
            )  # fmt: skip
        logits_BV = out.logits[:, -1].float().cpu()
        if step == 0 and control_B is not None:
            token = control_B
        elif step == 0:
            token = modes[_pick(logits_BV[:, modes], temperature, generator)]
        else:
            token = _pick(logits_BV, temperature, generator)
        token = token.to(device)
        ids_BT[rows, step], mask_BT[rows, step] = token, True
        going = (token != end).nonzero().squeeze(1)
        if not len(going):
            break
        if len(going) < len(rows):  # an ended response costs no more
            cache.batch_select_indices(going)
            rows, token, mask, positions = (t[going] for t in (rows, token, mask, positions))
        inputs, positions = token[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    used = int(mask_BT.sum(dim=1).max())
    return ids_BT[:, :used], mask_BT[:, :used]


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


def _pick(logits_BV: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    if not bool(torch.isfinite(logits_BV).all()):
        raise TrainingDiverged(
            "the model's outputs are not numbers: lower the learning rate, or check the weights "
            "that training starts from; no checkpoint holds them"
        )
    if temperature == 0:
        return logits_BV.argmax(dim=1)
    probabilities = torch.softmax(logits_BV / temperature, dim=1)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
