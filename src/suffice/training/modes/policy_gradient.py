"""GRPO, DeGRPO and AdaptThink in plain torch: every weight learns from rewarded responses.

The loop is the published one: draw a group of responses to each problem, reward them, step. Losses
and their normalisations are in `losses`. With one minibatch a batch is used once and ρ = 1.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from suffice.backends.nano.vocabulary import Vocabulary
from suffice.tasks.puzzles import Problem
from suffice.training.modes import losses
from suffice.training.modes.probe import probe_choice
from suffice.training.modes.progress import Pace, progress_line, right_by_mode
from suffice.training.modes.rewards import Reward
from suffice.training.modes.rollout import Rollouts, roll_out
from suffice.training.modes.sequences import (
    Batch,
    Learner,
    drawn_logprobs,
    response_logits,
    think_logit,
)
from suffice.training.modes.settings import Routing
from suffice.training.run_state import RunState, require_finite, seeded

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class _Minibatch:
    """Some responses with what the loss needs beside the model.

    `old_BT` is None where the model has not moved since the responses were drawn.
    """

    batch: Batch
    old_BT: torch.Tensor | None
    advantage_B: torch.Tensor
    reference_BT: torch.Tensor | None


def train_policy(
    learner: Learner,
    config: Routing,
    reward: Reward,
    state: RunState,
    *,
    tell: Tell = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train `learner.model` in place by `config.method`; goes on from `state`."""
    model, vocabulary, mixture = learner.model, learner.vocabulary, learner.mixture
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
    )
    needs_reference = config.kl > 0 or config.method == "adaptthink"
    reference = copy.deepcopy(model).eval().requires_grad_(False) if needs_reference else None
    state.optimisers = {"policy": optimiser}
    if reference is not None:
        state.modules = {**state.modules, "reference": reference}
    state.resume()
    pace = Pace(clock, state.step, config.steps)
    while state.step < config.steps:
        step = state.step
        problems = mixture.draw(config.problems, seed=config.seed, step=step, split="train")
        model.eval()
        drawn = roll_out(
            model, problems, vocabulary, reward,
            group=config.group, halves=config.halves, max_tokens=config.max_tokens,
            temperature=config.temperature, generator=seeded(config.seed, "rollout", step),
        )  # fmt: skip
        if config.method == "adaptthink":
            assert reference is not None
            baseline = _reference_accuracy(
                reference, problems, vocabulary, reward=reward, config=config, step=step
            )
            preferred = config.delta * (~drawn.think_B).float()
            advantage_B = preferred + drawn.right_B.float() - baseline
        else:
            advantage_B = losses.group_advantage(drawn.by_problem(drawn.reward_B)).flatten()
        pace.generated(drawn)
        for entry in optimiser.param_groups:
            entry["lr"] = config.rate_at(step)
        model.train()
        values = [
            _update(model, optimiser, part, vocabulary, config=config, step=step)
            for part in _minibatches(
                model, drawn, advantage_B, reference, vocabulary, config=config, step=step
            )
        ]
        state.step += 1
        if state.step % config.probe_every == 0 or state.step in (1, config.steps):
            line = {
                **progress_line(
                    config.method, state.step, drawn,
                    p_think=probe_choice(learner, seed=config.seed),
                ),
                "right": right_by_mode(problems, drawn),
                **{name: sum(v[name] for v in values) / len(values) for name in values[0]},
                **pace.figures(state.step),
            }  # fmt: skip
            state.log(line)
            tell(line)
        if state.step % config.checkpoint_every == 0 and state.step < config.steps:
            state.save()
    state.save()


def objective(
    model: nn.Module,
    part: _Minibatch,
    vocabulary: Vocabulary,
    config: Routing,
    figures: dict[str, float] | None = None,
) -> torch.Tensor:
    """The loss that a step descends; what it is made of goes into `figures`."""
    batch = part.batch
    logits_BTV, _ = response_logits(model, batch)
    scaled_BTV = logits_BTV / config.temperature
    logprob_BT = drawn_logprobs(scaled_BTV, batch.response_BT, vocabulary)
    old_BT = logprob_BT.detach().clone() if part.old_BT is None else part.old_BT.clone()
    if config.halves:
        # The mode was forced: half of the responses each, whatever the model thinks.
        old_BT[:, 0] = math.log(0.5)
    if config.method == "adaptthink":
        loss = losses.sequence_clipped(
            logprob_BT, old_BT, batch.mask_BT, part.advantage_B, config.epsilon
        )
    else:
        advantage_BT = part.advantage_B[:, None].expand_as(logprob_BT)
        token_loss_BT = losses.clipped(logprob_BT, old_BT, advantage_BT, config.epsilon)
        if config.method == "grpo":
            loss = losses.grpo(token_loss_BT, batch.mask_BT)
        elif config.method != "degrpo":
            raise NotImplementedError(f"method {config.method!r} has no loss here")
        else:
            loss = losses.degrpo(token_loss_BT, batch.mask_BT, alpha=config.alpha, norm=config.norm)
        if part.reference_BT is not None:
            norm = "paper" if config.method == "grpo" else config.norm
            loss = loss + config.kl * losses.kl_penalty(
                logprob_BT, part.reference_BT, batch.mask_BT, norm
            )
    entropy = losses.control_entropy(think_logit(logits_BTV[:, 0], vocabulary))
    if config.entropy:
        loss = loss - config.entropy * entropy
    if figures is not None:
        ratio_BT = torch.exp(logprob_BT - old_BT).detach()
        beyond_BT = ((ratio_BT - 1).abs() > config.epsilon) & batch.mask_BT
        figures["loss"] = float(loss.detach())
        figures["choice_entropy"] = float(entropy.detach())
        figures["clip_share"] = float(beyond_BT.sum() / batch.mask_BT.sum())
        if part.reference_BT is not None:
            norm = "paper" if config.method == "grpo" else config.norm
            figures["kl"] = float(
                losses.kl_penalty(logprob_BT.detach(), part.reference_BT, batch.mask_BT, norm)
            )
    return loss


def _update(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    part: _Minibatch,
    vocabulary: Vocabulary,
    *,
    config: Routing,
    step: int,
) -> dict[str, float]:
    figures: dict[str, float] = {}
    loss = objective(model, part, vocabulary, config, figures)
    require_finite(loss, step, config.method)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    optimiser.step()
    return {**figures, "gradient_norm": float(norm)}


def _minibatches(
    model: nn.Module,
    drawn: Rollouts,
    advantage_B: torch.Tensor,
    reference: nn.Module | None,
    vocabulary: Vocabulary,
    *,
    config: Routing,
    step: int,
) -> list[_Minibatch]:
    def logprobs(net: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            logits_BTV, _ = response_logits(net, drawn.batch)
        scaled_BTV = logits_BTV / config.temperature
        return drawn_logprobs(scaled_BTV, drawn.batch.response_BT, vocabulary)

    old_BT = logprobs(model) if config.minibatches > 1 else None
    reference_BT = logprobs(reference) if config.kl > 0 and reference is not None else None
    order = torch.randperm(len(advantage_B), generator=seeded(config.seed, "order", step))
    return [
        _Minibatch(
            drawn.batch.rows(rows), None if old_BT is None else old_BT[rows], advantage_B[rows],
            None if reference_BT is None else reference_BT[rows],
        )
        for rows in order.to(advantage_B.device).chunk(config.minibatches)
    ]  # fmt: skip


def _reference_accuracy(
    reference: nn.Module,
    problems: Sequence[Problem],
    vocabulary: Vocabulary,
    *,
    reward: Reward,
    config: Routing,
    step: int,
) -> torch.Tensor:
    """Share of right answers of the untrained model on each problem, one value a response.

    Its responses are thought about, since that is the accuracy to keep (arXiv:2505.13417 compares
    with the model as it was, which always thinks).
    """
    drawn = roll_out(
        reference, problems, vocabulary, reward, group=2 * config.reference_samples, halves=True,
        max_tokens=config.max_tokens, temperature=config.temperature,
        generator=seeded(config.seed, "reference", step),
    )  # fmt: skip
    right = drawn.by_problem(drawn.right_B.float())[:, config.reference_samples :]
    return right.mean(dim=1).repeat_interleave(config.group)
