"""What a model learns from chains and from pairs of them (arXiv:2410.18890, arXiv:2305.18290).

    SFT   -mean over own tokens of log π
    DPO   -log σ( β [ log π(y+)/π_ref(y+) - log π(y-)/π_ref(y-) ] ) + w SFT(y+)

log π(y) sums over the tokens that the model wrote: what tools say is no choice of its own. With the
SFT term the chosen chain cannot lose probability while the rejected one loses more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from suffice.training.tool_calls.chains import Row, own_logprobs


@dataclass(frozen=True, slots=True)
class Pair:
    """Two chains to one question; what the reference gives both is computed once."""

    chosen: Row
    rejected: Row
    reference: float = 0.0  # log π_ref(y+) - log π_ref(y-)


def sft_loss(model: nn.Module, rows: Sequence[Row]) -> torch.Tensor:
    """Mean cross-entropy in nats of the tokens that the model is to write."""
    logprob, own = own_logprobs(model, rows)
    return -(logprob * own).sum() / own.sum()


def dpo_loss(
    model: nn.Module, pairs: Sequence[Pair], *, beta: float, sft_weight: float
) -> torch.Tensor:
    """Mean over pairs."""
    logprob, own = own_logprobs(model, [*(p.chosen for p in pairs), *(p.rejected for p in pairs)])
    total, n = (logprob * own).sum(dim=1), len(pairs)
    reference = torch.tensor([pair.reference for pair in pairs], device=total.device)
    margin = total[:n] - total[n:] - reference
    preferred = -functional.logsigmoid(beta * margin).mean()
    likely = -(logprob[:n] * own[:n]).sum() / own[:n].sum()
    return preferred + sft_weight * likely


def with_reference(model: nn.Module, pairs: Sequence[Pair], *, batch: int = 64) -> list[Pair]:
    """The pairs with what `model`, the reference, gives them."""
    model.eval()
    found = []
    for start in range(0, len(pairs), batch):
        part = pairs[start : start + batch]
        with torch.no_grad():
            logprob, own = own_logprobs(
                model, [*(p.chosen for p in part), *(p.rejected for p in part)]
            )
        total = (logprob * own).sum(dim=1).tolist()
        found += [
            Pair(pair.chosen, pair.rejected, total[i] - total[len(part) + i])
            for i, pair in enumerate(part)
        ]
    return found
