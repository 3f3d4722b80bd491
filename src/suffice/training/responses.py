"""Responses drawn from a small model, and rows brought to one length; for every kind of training.

B  sequences   P  prompt length   T  response length   V  vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from suffice.backends.kv_cache import forward
from suffice.backends.nano.vocabulary import END, PAD, SHORT, THINK, Vocabulary
from suffice.core.errors import TrainingDiverged


def control_ids(vocabulary: Vocabulary) -> tuple[int, int]:
    """Ids of the short and the think token."""
    return vocabulary.id(SHORT), vocabulary.id(THINK)


def pad(rows: Sequence[Sequence[int]], fill: int, *, left: bool) -> tuple[Any, Any]:
    """(ids, mask) of rows brought to the longest one's length."""
    width = max(len(row) for row in rows)
    ids, mask = [], []
    for row in rows:
        blank = width - len(row)
        real, none = [True] * len(row), [False] * blank
        ids.append([fill] * blank + list(row) if left else list(row) + [fill] * blank)
        mask.append(none + real if left else real + none)
    return torch.tensor(ids, dtype=torch.int64), torch.tensor(mask)


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
            token = modes[pick(logits_BV[:, modes], temperature, generator)]
        else:
            token = pick(logits_BV, temperature, generator)
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


def pick(logits_BV: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    """A token for each row, drawn at `temperature`; raises TrainingDiverged on nan or inf."""
    if not bool(torch.isfinite(logits_BV).all()):
        raise TrainingDiverged(
            "the model's outputs are not numbers: lower the learning rate, or check the weights "
            "that training starts from; no checkpoint holds them"
        )
    if temperature == 0:
        return logits_BV.argmax(dim=1)
    probabilities = torch.softmax(logits_BV / temperature, dim=1)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
