"""By task and difficulty: what a model would choose and answer, without drawing anything."""

from __future__ import annotations

from collections.abc import Callable

import torch

from suffice.training.modes.sequences import (
    Batch,
    Learner,
    demonstrations,
    on_device,
    paired_logits,
    prompts,
    response_logits,
    think_logit,
)
from suffice.training.responses import control_ids

PROBLEMS_PER_CELL = 32


def probe_choice(
    learner: Learner,
    *,
    seed: int,
    gate: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> dict[str, float]:
    """Mean p(think) over held-out problems, by "task/difficulty"; `gate` is asked if given."""
    found = {}
    vocabulary, device = learner.vocabulary, learner.device
    short, _ = control_ids(vocabulary)
    for (task, difficulty), problems in learner.mixture.distinct(
        PROBLEMS_PER_CELL, seed=seed, split="held_out"
    ).items():
        if not problems:
            continue
        prompt_BP, prompt_mask_BP = (t.to(device) for t in prompts(problems, vocabulary))
        one = torch.full((len(problems), 1), short, device=device)
        batch = Batch(
            prompt_BP=prompt_BP, prompt_mask_BP=prompt_mask_BP,
            response_BT=one, mask_BT=torch.ones_like(one, dtype=torch.bool),
        )  # fmt: skip
        with torch.no_grad():
            logits_BTV, state_BD = response_logits(learner.model, batch)
            logit_B = gate(state_BD) if gate else think_logit(logits_BTV[:, 0], vocabulary)
        found[f"{task}/{difficulty}"] = round(float(torch.sigmoid(logit_B).mean()), 4)
    return found


def probe_answers(learner: Learner, *, seed: int) -> dict[str, dict[str, float]]:
    """Share of held-out problems answered greedily as shown, by mode and "task/difficulty"."""
    found: dict[str, dict[str, float]] = {"short": {}, "think": {}}
    for (task, difficulty), problems in learner.mixture.distinct(
        PROBLEMS_PER_CELL, seed=seed, split="held_out"
    ).items():
        shown = [problem for problem in problems if problem.steps is not None]
        if not shown:
            continue
        pairs = on_device(demonstrations(shown, learner.vocabulary), learner.device)
        with torch.no_grad():
            both = paired_logits(learner.model, pairs)
        for logits_BTV, think in zip(both, (False, True), strict=True):
            side = pairs.side(think=think)
            # Greedy decoding writes the shown response iff each of its tokens is the likeliest.
            hit_BT = (logits_BTV.argmax(dim=2) == side.response_BT) | ~side.mask_BT
            share = float(hit_BT[:, 1:].all(dim=1).float().mean())
            found["think" if think else "short"][f"{task}/{difficulty}"] = round(share, 4)
    return found
