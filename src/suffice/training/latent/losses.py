"""The hand-written parts of the loss."""

from __future__ import annotations

import torch

from suffice.backends.latent.network import Gaussian
from suffice.training.latent.settings import KlReduction


def kl_divergence(q: Gaussian, p: Gaussian, reduction: KlReduction) -> torch.Tensor:
    """KL(q ‖ p) of two diagonal normals over (B, N, D), nats; always a mean over B.

        KL = log(σ_p / σ_q) + (σ_q² + (μ_q - μ_p)²) / (2 σ_p²) - 1/2

    "sum": over N and D. "channels": sum over D, mean over N. "mean": over all.
    """
    ratio = 2 * (q.log_sigma - p.log_sigma)
    distance = (q.mean - p.mean) ** 2 * (-2 * p.log_sigma).exp()
    total = 0.5 * (ratio.exp() + distance - 1 - ratio)
    if reduction == "mean":
        return total.mean()
    over_tokens = total.sum(dim=-1)
    return (over_tokens.sum(dim=1) if reduction == "sum" else over_tokens.mean(dim=1)).mean()


def balanced_kl(
    q: Gaussian, p: Gaussian, *, balance: float, reduction: KlReduction
) -> torch.Tensor:
    """balance KL(sg q ‖ p) + (1 - balance) KL(q ‖ sg p) (arXiv:2605.19376; balance .8).

    Its value is KL(q ‖ p) whatever the balance; only the gradients are shared out.
    """
    to_prior = kl_divergence(q.detach(), p, reduction)
    to_posterior = kl_divergence(q, p.detach(), reduction)
    return balance * to_prior + (1 - balance) * to_posterior


def reward_loss(value_SB: torch.Tensor, right_B: torch.Tensor) -> torch.Tensor:
    """Sum over a trajectory's S steps of (v(z) - r)², r = 1 if its last answer is right.

    Mean over the batch (arXiv:2605.19376, the trajectory reward model).
    """
    return ((value_SB - right_B.to(value_SB.dtype)) ** 2).sum(dim=0).mean()
