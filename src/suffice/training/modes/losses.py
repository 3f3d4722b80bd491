"""Policy-gradient losses of mode routing, token 0 being the control token.

B  responses   T  tokens, control token first   n_i  tokens of response i   T_i = n_i - 1
ρ = π/π_old    A  advantage   l_{i,t} = -min(ρ A_i, clip(ρ, 1-ε, 1+ε) A_i)

    grpo      mean_i 1/n_i Σ_t l_{i,t}
    paper     mean_i ( α l_{i,0} + 1/T_i Σ_{t≥1} l_{i,t} )            arXiv:2505.13379
    released  α mean_i l_{i,0} + Σ_{i,t≥1} l_{i,t} / Σ_i T_i          VainF/Thinkless @ aa225d2

The KL penalty β is added to every l_{i,t}, outside the weighting by α, with the token weights of
plain GRPO: 1/(B n_i) for grpo and paper, 1/Σ n_i for released. That is what TRL does to the mapped
advantages (with use_bias_correction_kl=False), and tests hold the losses equal to TRL's.
"""

from __future__ import annotations

import torch

from suffice.training.modes.rewards import Norm


def clipped(
    logprob_BT: torch.Tensor, old_BT: torch.Tensor, advantage_BT: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """l_{i,t}: minus the clipped surrogate of each token."""
    ratio = torch.exp(logprob_BT - old_BT)
    kept = ratio.clamp(1 - epsilon, 1 + epsilon)
    return -torch.minimum(ratio * advantage_BT, kept * advantage_BT)


def grpo(token_loss_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Vanilla GRPO: each response's token mean, so that the control token weighs 1/n_i."""
    return _row_mean(token_loss_BT, mask_BT).mean()


def degrpo(
    token_loss_BT: torch.Tensor, mask_BT: torch.Tensor, *, alpha: float, norm: Norm
) -> torch.Tensor:
    """DeGRPO: the control token weighs α, whatever the response's length."""
    control = token_loss_BT[:, 0].mean()
    body_loss, body_mask = token_loss_BT[:, 1:], mask_BT[:, 1:]
    if norm == "paper":
        return alpha * control + _row_mean(body_loss, body_mask).mean()
    return alpha * control + (body_loss * body_mask).sum() / body_mask.sum()


def kl_penalty(
    logprob_BT: torch.Tensor, reference_BT: torch.Tensor, mask_BT: torch.Tensor, norm: Norm
) -> torch.Tensor:
    """The k3 estimate of KL(π ‖ reference) per token, averaged as the losses above say."""
    difference = reference_BT - logprob_BT
    k3_BT = torch.exp(difference) - difference - 1
    if norm == "paper":
        return _row_mean(k3_BT, mask_BT).mean()
    return (k3_BT * mask_BT).sum() / mask_BT.sum()


def sequence_clipped(
    logprob_BT: torch.Tensor,
    old_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    advantage_B: torch.Tensor,
    epsilon: float,
) -> torch.Tensor:
    """AdaptThink's loss (arXiv:2505.13417): one ratio a response, exp of the mean log-ratio."""
    ratio_B = torch.exp(_row_mean(logprob_BT - old_BT, mask_BT))
    kept_B = ratio_B.clamp(1 - epsilon, 1 + epsilon)
    return -torch.minimum(ratio_B * advantage_B, kept_B * advantage_B).mean()


def advantage_weights(mask_BT: torch.Tensor, *, alpha: float, norm: Norm) -> torch.Tensor:
    """Factors (B, T) on the advantages that turn plain GRPO into DeGRPO.

    The clipped loss is positively homogeneous in the advantage, so a factor on it is a weight of
    the token. For "paper" the loss must be averaged per response (TRL's loss_type="grpo"), for
    "released" over all tokens of the batch (loss_type="bnpo").
    """
    n_B = mask_BT.sum(dim=1, keepdim=True).to(torch.float32)
    if norm == "paper":
        control_B, body_B = alpha * n_B, n_B / (n_B - 1).clamp(min=1)
    else:
        N, B = n_B.sum(), len(mask_BT)
        control_B = (alpha * N / B).expand_as(n_B)
        body_B = (N / (N - B).clamp(min=1)).expand_as(n_B)
    weights_BT = body_B.expand(mask_BT.shape).clone()
    weights_BT[:, :1] = control_B
    return weights_BT * mask_BT


def control_entropy(think_logit_B: torch.Tensor) -> torch.Tensor:
    """Mean entropy in nats of the choice between the two modes."""
    p_B = torch.sigmoid(think_logit_B)
    log_p, log_q = (torch.nn.functional.logsigmoid(s * think_logit_B) for s in (1.0, -1.0))
    return -(p_B * log_p + (1 - p_B) * log_q).mean()


def group_advantage(reward_PG: torch.Tensor) -> torch.Tensor:
    """A = r - mean of the group, not divided by its standard deviation (arXiv:2505.13379)."""
    return reward_PG - reward_PG.mean(dim=1, keepdim=True)


def _row_mean(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    return (values_BT * mask_BT).sum(dim=1) / mask_BT.sum(dim=1).clamp(min=1)
