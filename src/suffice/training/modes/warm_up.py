"""Paired distillation: one model learns to answer every problem at once and step by step.

    L = mean over answer tokens of -log π(token)
        - w · mean over pairs of [ p0 log π(think | x) + (1 - p0) log π(short | x) ]

Departs from arXiv:2505.13379, whose token sum leaves the first choice to the lengths of the two
answers once sequences are averaged: here p0 is a parameter, and the second term is least at
p(think) = p0 for any weight w. With `choice_target` "short_fails" p0 is another one for each
problem, 1 - π(short answer | x), in which no gradient flows: least at the model's own chance of
being wrong at once. Problems that training has seen before look easier than they are, so it is of
use where each is drawn about once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from suffice.backends.nano.vocabulary import Vocabulary
from suffice.tasks.puzzles import Problem
from suffice.training.modes.probe import probe_answers, probe_choice
from suffice.training.modes.sequences import (
    Learner,
    Pairs,
    demonstrations,
    on_device,
    paired_logits,
    token_logprobs,
)
from suffice.training.modes.settings import WarmUp
from suffice.training.optimiser import build_optimiser, schedule
from suffice.training.run_state import RunState, require_finite
from suffice.training.rung import Recipe

# Forward passes a step: more have less padding, but each costs some milliseconds whatever its size.
PASSES = 3


def warm_up(
    learner: Learner,
    config: WarmUp,
    state: RunState,
    *,
    seed: int,
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
    log_every: int = 50,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train `learner.model` in place; goes on from `state` where it was interrupted."""
    model, vocabulary, mixture = learner.model, learner.vocabulary, learner.mixture
    recipe = Recipe(peak_learning_rate=config.learning_rate)
    optimiser = build_optimiser(model, recipe, 1.0, learner.device)
    state.optimisers = {"warm_up": optimiser}
    state.resume()
    shares = schedule(recipe, config.steps)
    model.train()
    started, begun = clock(), state.step
    while state.step < config.steps:
        problems = mixture.draw(config.pairs, seed=seed, step=state.step, split="train")
        p_think = config.initial_p_think if config.choice_target == "constant" else None
        answer, control = paired_loss(model, paired(problems, vocabulary), p_think)
        loss = answer + config.control_weight * control
        value = require_finite(loss, state.step, "the warm-up")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        for group in optimiser.param_groups:
            group["lr"].fill_(group["peak"] * float(shares[state.step]))
        optimiser.step()
        state.step += 1
        if state.step % log_every == 0 or state.step == config.steps:
            line = {
                "phase": "warm-up",
                "step": state.step,
                "loss": value,
                "answer_loss": float(answer.detach()),
                "gradient_norm": float(norm),
                "p_think": probe_choice(learner, seed=seed),
                "right": probe_answers(learner, seed=seed),
                "elapsed_s": (elapsed_s := clock() - started),
                "left_s": elapsed_s / (state.step - begun) * (config.steps - state.step),
            }
            state.log(line)
            tell(line)
        if state.step % config.checkpoint_every == 0 and state.step < config.steps:
            state.save()
    state.save()


def paired(problems: Sequence[Problem], vocabulary: Vocabulary) -> list[Pairs]:
    """The problems with both responses, cut by length so that little is padding."""
    ordered = sorted(problems, key=lambda p: (len(p.prompt), len(p.steps or ""), p.difficulty))
    size = -(-len(ordered) // PASSES)
    return [
        demonstrations(ordered[start : start + size], vocabulary)
        for start in range(0, len(ordered), size)
    ]


def paired_loss(
    model: nn.Module, parts: Sequence[Pairs], initial_p_think: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(answer loss, control loss) in nats over both sides of some problems.

    With `initial_p_think` None the control token is taught 1 - π(short answer | x).
    """
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    control = torch.zeros((), device=device)
    tokens = pairs = 0
    for part in parts:
        moved = on_device(part, device)
        think_share_B: torch.Tensor | None = None
        for logits_BTV, think in zip(paired_logits(model, moved), (False, True), strict=True):
            side = moved.side(think=think)
            logprob_BT = token_logprobs(logits_BTV, side.response_BT)
            answer_BT = side.mask_BT[:, 1:]
            answer_B = (logprob_BT[:, 1:] * answer_BT).sum(dim=1)
            if think_share_B is None:  # the short side comes first
                think_share_B = (
                    1 - answer_B.detach().exp()
                    if initial_p_think is None
                    else torch.full_like(answer_B, initial_p_think)
                )
            share_B = think_share_B if think else 1 - think_share_B
            control = control - (share_B * logprob_BT[:, 0]).sum()
            total = total - answer_B.sum()
            tokens += int(answer_BT.sum())
        pairs += len(part.prompt_BP)
    return total / tokens, control / pairs
