"""DeGRPO's losses against a plain double loop, and through the mapping against GRPO."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from suffice.training.modes import losses  # noqa: E402

pytestmark = pytest.mark.torch
NORMS: tuple[losses.Norm, ...] = ("paper", "released")
LENGTHS = (3, 22, 4, 7, 2, 13)  # unbalanced on purpose
EPSILON = 0.2


def case(seed: int) -> tuple[Any, Any, Any, Any]:
    """log π (requires grad), log π_old, advantages, mask; many ratios beyond the clip."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(LENGTHS), max(LENGTHS))
    logprob = (-3 * torch.rand(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    old = logprob.detach() + 0.4 * torch.randn(shape, generator=generator, dtype=torch.float64)
    advantage = torch.randn(len(LENGTHS), generator=generator, dtype=torch.float64)
    mask = torch.arange(shape[1])[None] < torch.tensor(LENGTHS)[:, None]
    return logprob, old, advantage, mask


def token_loss(logprob: float, old: float, advantage: float) -> float:
    ratio = math.exp(logprob - old)
    kept = min(max(ratio, 1 - EPSILON), 1 + EPSILON)
    return -min(ratio * advantage, kept * advantage)


def double_loop(logprob: Any, old: Any, advantage: Any, alpha: float, norm: str) -> float:
    """The two definitions, written as they are printed."""
    control, body_means, body_sum, body_tokens = 0.0, 0.0, 0.0, 0
    for i, length in enumerate(LENGTHS):
        control += token_loss(float(logprob[i, 0].detach()), float(old[i, 0]), float(advantage[i]))
        row = [
            token_loss(float(logprob[i, t].detach()), float(old[i, t]), float(advantage[i]))
            for t in range(1, length)
        ]
        body_means += sum(row) / len(row)
        body_sum += sum(row)
        body_tokens += len(row)
    B = len(LENGTHS)
    if norm == "paper":
        return alpha * control / B + body_means / B
    return alpha * control / B + body_sum / body_tokens


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("alpha", [0.001, 0.1, 1.0])
def test_degrpo_is_the_double_loop(norm: losses.Norm, alpha: float) -> None:
    logprob, old, advantage, mask = case(0)
    tokens = losses.clipped(logprob, old, advantage[:, None].expand_as(logprob), EPSILON)
    found = losses.degrpo(tokens, mask, alpha=alpha, norm=norm)
    assert float(found.detach()) == pytest.approx(
        double_loop(logprob, old, advantage, alpha, norm), abs=1e-12
    )


@pytest.mark.parametrize("norm", NORMS)
def test_the_gradient_is_that_of_the_double_loop(norm: losses.Norm) -> None:
    logprob, old, advantage, mask = case(1)
    tokens = losses.clipped(logprob, old, advantage[:, None].expand_as(logprob), EPSILON)
    losses.degrpo(tokens, mask, alpha=0.1, norm=norm).backward()
    step = 1e-6
    for i, t in ((0, 0), (0, 2), (1, 0), (1, 17), (4, 1), (5, 12), (0, 5)):  # the last is padding
        moved = logprob.detach().clone()
        moved[i, t] += step
        high = double_loop(moved, old, advantage, 0.1, norm)
        moved[i, t] -= 2 * step
        low = double_loop(moved, old, advantage, 0.1, norm)
        assert float(logprob.grad[i, t]) == pytest.approx((high - low) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("norm", NORMS)
def test_mapped_advantages_turn_grpo_into_degrpo(norm: losses.Norm) -> None:
    logprob, old, advantage, mask = case(2)
    weights = losses.advantage_weights(mask, alpha=0.01, norm=norm).double()
    mapped = losses.clipped(logprob, old, advantage[:, None] * weights, EPSILON)
    token_mean = (mapped * mask).sum() / mask.sum()
    through = losses.grpo(mapped, mask) if norm == "paper" else token_mean
    plain = losses.clipped(logprob, old, advantage[:, None].expand_as(logprob), EPSILON)
    own = losses.degrpo(plain, mask, alpha=0.01, norm=norm)
    assert float(through.detach()) == pytest.approx(float(own.detach()), abs=1e-6)
    (first,) = torch.autograd.grad(through, logprob)
    (second,) = torch.autograd.grad(own, logprob)
    assert torch.allclose(first, second, atol=1e-6)


def test_vanilla_grpo_weighs_the_control_token_by_one_over_n() -> None:
    logprob, old, advantage, mask = case(3)
    old = logprob.detach()  # ratio 1: the gradient of a token is minus advantage times weight
    tokens = losses.clipped(logprob, old, advantage[:, None].expand_as(logprob), EPSILON)
    losses.grpo(tokens, mask).backward()
    for i, length in enumerate(LENGTHS):
        expected = -float(advantage[i]) / (length * len(LENGTHS))
        assert float(logprob.grad[i, 0]) == pytest.approx(expected)


def test_kl_is_zero_at_the_reference_and_positive_elsewhere() -> None:
    logprob, old, _, mask = case(4)
    for norm in NORMS:
        assert float(losses.kl_penalty(logprob.detach(), logprob.detach(), mask, norm)) == 0.0
        assert float(losses.kl_penalty(logprob.detach(), old, mask, norm)) > 0.0


def test_entropy_of_the_choice() -> None:
    logits = torch.tensor([0.0, 3.0, -60.0])
    p = torch.sigmoid(logits[:2].double())
    expected = float(-(p * p.log() + (1 - p) * (1 - p).log()).sum() / 3)  # the third has none
    assert float(losses.control_entropy(logits)) == pytest.approx(expected, abs=1e-6)


def test_group_advantage_is_centred_and_not_scaled() -> None:
    rewards = torch.tensor([[1.0, 0.5, -1.0, 0.5], [1.0, 1.0, 1.0, 1.0]])
    found = losses.group_advantage(rewards)
    assert found.tolist() == [[0.75, 0.25, -1.25, 0.25], [0.0, 0.0, 0.0, 0.0]]
