"""Several thoughts for one problem, held apart by a contrast (SoftCoT++, arXiv:2505.11484).

    S_k = (t / c + o_k) Wᵀ + b,  k = 1..K          o_k: K learned offsets, W and b shared
    L   = mean_k CE_k + w · InfoNCE
    InfoNCE = 1 / (K B) Σ_k,B -log softmax_j( 20 cos(s_k, s'_j) )[k]

s_k is thought k of a problem, flat and normalised; s' the same thoughts under dropout .5. Departs
from the paper in what tells the thoughts apart: there K start tokens of the assistant, here K
offsets on its states, since the states are taken at the question's own tokens.

K  thoughts   B  problems   N  slots   d  width of the backbone
"""

from __future__ import annotations

import torch
from torch import nn

from suffice.training.run_state import seeded
from suffice.training.soft_thoughts.arms import Projector
from suffice.training.soft_thoughts.slots import Asked, answer_logits, answer_loss

SHARPNESS = 20.0
DROPPED = 0.5


class Thoughts(Projector):
    """K projected thoughts of each problem."""

    def __init__(self, inputs: int, outputs: int, *, thoughts: int, seed: int) -> None:
        super().__init__(inputs, outputs, seed=seed)
        drawn = torch.randn(thoughts, inputs, generator=seeded(seed, "offsets"))
        self.offset_KD = nn.Parameter(0.1 * drawn)

    def forward(self, state_BND: torch.Tensor) -> torch.Tensor:
        """(K, B, N, d)."""
        moved = state_BND[None] / self.scale + self.offset_KD[:, None, None]
        projected: torch.Tensor = self.linear(moved)
        return projected


def contrast(thought_KBNd: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """InfoNCE in nats: each thought is told from the problem's others by its own noisy copy."""
    kept = torch.rand(thought_KBNd.shape, generator=generator) >= DROPPED
    flat_BKd, noisy_BKd = (
        nn.functional.normalize(t.flatten(2).transpose(0, 1), dim=2)
        for t in (thought_KBNd, thought_KBNd * kept / (1 - DROPPED))
    )
    logits_BKK = SHARPNESS * flat_BKd @ noisy_BKd.transpose(1, 2)
    own = torch.arange(len(thought_KBNd)).expand(len(logits_BKK), -1)
    return nn.functional.cross_entropy(logits_BKK.flatten(0, 1), own.flatten())


def contrasted_loss(
    model: nn.Module,
    rows: Asked,
    thought_KBNd: torch.Tensor,
    end_id: int,
    *,
    weight: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """L of this page."""
    told = torch.stack([answer_loss(model, rows, slots, end_id) for slots in thought_KBNd])
    return told.mean() + weight * contrast(thought_KBNd, generator)


def right_by_vote(model: nn.Module, rows: Asked, thought_KBNd: torch.Tensor) -> list[bool]:
    """Whether the answer of most thoughts is the right one; of equal votes the smallest id."""
    with torch.no_grad():
        said_KB = torch.stack(
            [answer_logits(model, rows, slots)[0].argmax(dim=1) for slots in thought_KBNd]
        )
    hits: list[bool] = (said_KB.mode(dim=0).values == rows.answer_B).tolist()
    return hits
