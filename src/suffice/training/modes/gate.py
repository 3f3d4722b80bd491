"""Mode gate: a small network on the frozen body learns the choice, then moves into the weights.

After RPO and ADaPT (arXiv:2606.19919): half of each group is forced short and half think, so that
both modes are always seen; the gradient reaches the choice alone, and the body cannot forget how
to answer. With R_s, R_t the mean rewards of a problem's two halves and p the gate's p(think),

    loss = mean over problems of |R_t - R_s| BCE(p, 1[R_t > R_s])

Maximising p R_t + (1 - p) R_s instead saturates: its gradient vanishes with p (1 - p).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from suffice.backends.nano.vocabulary import SHORT, THINK, Vocabulary
from suffice.training.modes.probe import probe_choice
from suffice.training.modes.progress import Pace, progress_line, right_by_mode
from suffice.training.modes.rewards import Reward
from suffice.training.modes.rollout import Rollouts, roll_out
from suffice.training.modes.sequences import (
    Learner,
    gate_states,
    response_logits,
)
from suffice.training.modes.settings import Routing
from suffice.training.run_state import RunState, require_finite, seeded

Tell = Callable[[dict[str, Any]], None]
# Both modes' answers are held to the frozen body's while the choice is folded in.
FOLD_KL_WEIGHT = 1.0
# Problems whose states at the choice scale the gate's features.
SCALED_BY = 512


class Gate(nn.Module):  # type: ignore[misc]
    """What it reads of a problem (B, 2 d) to log p(think) - log p(short), (B,).

    It reads the state at the choice and the mean of the prompt's, each feature centred and scaled
    by its spread over problems. A warm-up asks the same choice for all problems, and the better it
    learns that, the less of the problem is left at the choice: a tenth of the state's length in one
    seed, in another too little to tell two steps from three. A norm over the features sees less
    still.
    """

    def __init__(self, inputs: int, width: int, *, seed: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(inputs))
        self.register_buffer("spread_D", torch.ones(inputs))
        self.inner = nn.Linear(inputs, width)
        self.outer = nn.Linear(width, 1)
        generator = seeded(seed, "gate")
        with torch.no_grad():
            shape = self.inner.weight.shape
            self.inner.weight.copy_(torch.randn(shape, generator=generator) * shape[1] ** -0.5)
            self.inner.bias.zero_()
            self.outer.weight.zero_()  # starts undecided
            self.outer.bias.zero_()

    def scale_to(self, state_ND: torch.Tensor) -> None:
        """Take each feature's mean and spread from the states of some problems."""
        self.mean_D = state_ND.mean(dim=0)
        self.spread_D = state_ND.std(dim=0).clamp(min=1e-6)

    def forward(self, state_BD: torch.Tensor) -> torch.Tensor:
        """See the class."""
        inner = functional.gelu(self.inner((state_BD - self.mean_D) / self.spread_D))
        logit_B: torch.Tensor = self.outer(inner).squeeze(1)
        return logit_B


def train_gate(
    learner: Learner,
    config: Routing,
    reward: Reward,
    state: RunState,
    *,
    tell: Tell = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train a gate on the frozen `learner.model`, then fold it in; goes on from `state`."""
    model, vocabulary, mixture = learner.model, learner.vocabulary, learner.mixture
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    head: Any = model.get_submodule("lm_head")
    inputs = 2 * int(head.weight.shape[1])
    gate = Gate(inputs, config.gate_width, seed=config.seed).to(learner.device)
    seen = mixture.draw(SCALED_BY, seed=config.seed, step=0, split="train")
    gate.scale_to(gate_states(frozen, seen, vocabulary))
    optimisers = {
        "gate": torch.optim.AdamW(gate.parameters(), lr=config.gate_learning_rate),
        "fold": torch.optim.AdamW(
            model.parameters(), lr=config.fold_learning_rate, weight_decay=0.0
        ),
    }
    state.modules = {**state.modules, "frozen": frozen, "gate": gate}
    state.optimisers = optimisers
    state.resume()
    total = config.steps + config.fold_steps
    pace = Pace(clock, state.step, total)
    while state.step < total:
        step, folding = state.step, state.step >= config.steps
        problems = mixture.draw(config.problems, seed=config.seed, step=step, split="train")
        drawn = roll_out(
            frozen, problems, vocabulary, reward, group=config.group, halves=True,
            max_tokens=config.max_tokens, temperature=config.temperature,
            generator=seeded(config.seed, "rollout", step),
        )  # fmt: skip
        pace.generated(drawn)
        if folding:
            loss = fold_loss(model, frozen, gate, drawn, vocabulary)
        else:
            loss = gate_loss(frozen, gate, drawn)
        optimiser = optimisers["fold" if folding else "gate"]
        # Down to nothing at the end of either phase: what is left is no draw of the last batches.
        start, count, peak = (
            (config.steps, config.fold_steps, config.fold_learning_rate)
            if folding
            else (0, config.steps, config.gate_learning_rate)
        )
        for group in optimiser.param_groups:
            group["lr"] = peak * (1 - (step - start) / count)
        value = require_finite(loss, step, "the gate" if not folding else "folding the gate in")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        learned = model if folding else gate
        clip = config.gradient_clip if folding else math.inf
        norm = nn.utils.clip_grad_norm_(learned.parameters(), clip)
        optimiser.step()
        state.step += 1
        if state.step % config.probe_every == 0 or state.step in (1, config.steps, total):
            held = learner if folding else Learner(frozen, vocabulary, mixture)
            probed = probe_choice(held, seed=config.seed, gate=None if folding else gate)
            phase = "fold" if folding else "gate"
            line = {
                **progress_line(phase, state.step, drawn, p_think=probed),
                "right": right_by_mode(problems, drawn),
                "loss": value,
                "gradient_norm": float(norm),
                **pace.figures(state.step),
            }
            state.log(line)
            tell(line)
        if state.step % config.checkpoint_every == 0 and state.step < total:
            state.save()
    state.save()


def gate_loss(frozen: nn.Module, gate: nn.Module, drawn: Rollouts) -> torch.Tensor:
    """|R_t - R_s| BCE(p, 1[R_t > R_s]), mean over problems."""
    first = drawn.batch.rows(slice(0, None, drawn.group))
    with torch.no_grad():
        _, state_BD = response_logits(frozen, first)
    reward_PG, half = drawn.by_problem(drawn.reward_B), drawn.group // 2
    gain_P = reward_PG[:, half:].mean(dim=1) - reward_PG[:, :half].mean(dim=1)
    wanted_P = (gain_P > 0).float()
    cross_entropy = functional.binary_cross_entropy_with_logits
    return (gain_P.abs() * cross_entropy(gate(state_BD), wanted_P, reduction="none")).mean()


def fold_loss(
    model: nn.Module, frozen: nn.Module, gate: nn.Module, drawn: Rollouts, vocabulary: Vocabulary
) -> torch.Tensor:
    """Teach `model` the gate's choice, and its answers to stay the frozen body's.

    The choice: cross-entropy to the gate's p(think) at the control token. The answers: KL(frozen ‖
    model) over all tokens that follow, on responses that the frozen body drew in both modes.
    """
    with torch.no_grad():
        wanted_BTV, state_BD = response_logits(frozen, drawn.batch)
        p_think_B = torch.sigmoid(gate(state_BD))
    logits_BTV, _ = response_logits(model, drawn.batch)
    # Over the whole vocabulary: odds alone would leave the first token free to be neither mode.
    first_BV = torch.log_softmax(logits_BTV[:, 0], dim=-1)
    think_B, short_B = (first_BV[:, vocabulary.id(token)] for token in (THINK, SHORT))
    choice = -(p_think_B * think_B + (1 - p_think_B) * short_B).mean()
    wanted = torch.log_softmax(wanted_BTV[:, 1:], dim=-1)
    mine = torch.log_softmax(logits_BTV[:, 1:], dim=-1)
    kl_BT = (wanted.exp() * (wanted - mine)).sum(dim=-1)
    mask_BT = drawn.batch.mask_BT[:, 1:]
    return choice + FOLD_KL_WEIGHT * (kl_BT * mask_BT).sum() / mask_BT.sum()
