"""A pretrained model with two modes that are asked for: at once, or step by step.

It has no mode tokens. A mode is an instruction with examples in front of the question, and the
model's weights stay as they are.

B  sequences   P  prompt length   T  response length   D  hidden size
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from suffice.backends.kv_cache import forward
from suffice.training.responses import pad, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """Responses to prompts, and what was read at each prompt's end."""

    ids: list[list[int]]  # without the end token
    ended: list[bool]  # False: cut at the longest length
    surprise: list[float]  # -log P(response), its end token included, in nats
    state_BD: torch.Tensor  # the last layer's state at the last token of the prompt

    @property
    def tokens(self) -> list[int]:
        """Of each response, its end token included."""
        return [len(ids) + ended for ids, ended in zip(self.ids, self.ended, strict=True)]


def continue_prompts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    ends: frozenset[int],
    max_tokens: int,
    temperature: float,
    generator: torch.Generator,
) -> Continued:
    """One response to each prompt; temperature 0 is greedy.

    What all prompts begin with (instruction and examples) is computed once.
    """
    shared = _shared(prompts)
    device = next(model.parameters()).device
    prompt_BP, real_BP = pad([prompt[shared:] for prompt in prompts], 0, left=True)
    B = len(prompt_BP)
    mask = torch.cat([torch.ones(B, shared, dtype=torch.bool), real_BP], dim=1).to(device)
    inputs = prompt_BP.to(device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, shared:]
    cache = None
    found: list[list[int]] = [[] for _ in range(B)]
    ended, surprise_B = [False] * B, torch.zeros(B)
    rows = torch.arange(B)
    with torch.inference_mode():
        if shared:
            first = torch.tensor([list(prompts[0][:shared])], device=device)
            _, cache = forward(model, input_ids=first)
            cache.batch_repeat_interleave(B)
        for step in range(max_tokens):
            out, cache = forward(
                model, cache, input_ids=inputs, attention_mask=mask.long(),
                position_ids=positions, logits_to_keep=1, output_hidden_states=step == 0,
            )  # fmt: skip
            logits_BV = out.logits[:, -1].float().cpu()
            if step == 0:
                state_BD = out.hidden_states[-1][:, -1].float().cpu()
            token = pick(logits_BV, temperature, generator)
            logprob_BV = torch.log_softmax(logits_BV, dim=1)
            surprise_B[rows] -= logprob_BV.gather(1, token[:, None]).squeeze(1)
            going = []
            for at, (row, value) in enumerate(zip(rows.tolist(), token.tolist(), strict=True)):
                if value in ends:
                    ended[row] = True
                else:
                    found[row].append(value)
                    going.append(at)
            if not going:
                break
            kept = torch.tensor(going)
            if len(going) < len(rows):  # an ended response costs no more
                cache.batch_select_indices(kept.to(device))
                rows, token = rows[kept], token[kept]
                mask, positions = mask[kept.to(device)], positions[kept.to(device)]
            inputs, positions = token[:, None].to(device), positions[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return Continued(ids=found, ended=ended, surprise=surprise_B.tolist(), state_BD=state_BD)


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; each keeps one token of its own at least."""
    shortest = min(len(prompt) for prompt in prompts) - 1
    for at in range(shortest):
        if len({prompt[at] for prompt in prompts}) > 1:
            return at
    return shortest
