"""A model of suffice-nano's shape that is only ever shown short answers.

    python benchmarks/modes/short_only.py --out short-only
    python benchmarks/modes/catch_up.py --model nano --short-only short-only --out results/modes

256 problems a step are as many tokens as 96 problems in both modes, so that it costs the same
training as suffice-nano's warm-up; optimiser, rates and steps are those of the warm-up.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from suffice.backends.nano.vocabulary import Vocabulary
from suffice.recipes.modes.folder import save_routed, versions
from suffice.recipes.modes.shape import nano_shape
from suffice.recipes.modes.train import NanoTraining
from suffice.tasks.puzzles import ALPHABET
from suffice.training.model import build_model
from suffice.training.modes.sequences import (
    Learner,
    demonstrations,
    response_logits,
    token_logprobs,
)
from suffice.training.optimiser import build_optimiser, initialise, schedule
from suffice.training.run_state import RunState, require_finite
from suffice.training.rung import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long it is trained."""

    steps: int
    problems: int
    learning_rate: float
    seed: int


def loss_of(learner: Learner, plan: Plan, step: int) -> torch.Tensor:
    """Mean nats a token of the short responses to a step's problems, mode token included."""
    problems = learner.mixture.draw(plan.problems, seed=plan.seed, step=step, split="train")
    side = demonstrations(problems, learner.vocabulary).side(think=False)
    logits_BTV, _ = response_logits(learner.model, side)
    logprob_BT = token_logprobs(logits_BTV, side.response_BT)
    return -(logprob_BT * side.mask_BT).sum() / side.mask_BT.sum()


def train(learner: Learner, plan: Plan, state: RunState) -> None:
    """The warm-up's loop with one mode; goes on from `state`."""
    recipe = Recipe(peak_learning_rate=plan.learning_rate)
    optimiser = build_optimiser(learner.model, recipe, 1.0, learner.device)
    state.optimisers = {"short": optimiser}
    state.resume()
    shares = schedule(recipe, plan.steps)
    while state.step < plan.steps:
        loss = loss_of(learner, plan, state.step)
        value = require_finite(loss, state.step, "short answers")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.model.parameters(), recipe.gradient_clip)
        for group in optimiser.param_groups:
            group["lr"].fill_(group["peak"] * float(shares[state.step]))
        optimiser.step()
        state.step += 1
        if state.step % 100 == 0:
            print(f"step {state.step}: {value:.4f} nats a token", flush=True)
        if state.step % 250 == 0 or state.step == plan.steps:
            state.save()


def main() -> None:
    """See the module."""
    nano = NanoTraining()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=nano.warm_up.steps)
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    plan = Plan(
        steps=asked.steps, problems=asked.problems, seed=asked.seed,
        learning_rate=nano.warm_up.learning_rate,
    )  # fmt: skip
    vocabulary = Vocabulary.of(ALPHABET)
    chosen = nano_shape(len(vocabulary), parameters=nano.parameters, layers=nano.layers)
    model: Any = build_model(chosen.shape)
    initialise(model, Recipe(), nano.layers, asked.seed)
    learner = Learner(model, vocabulary, nano.mixture)
    config = {name: getattr(plan, name) for name in Plan.__slots__}
    state = RunState(
        path=asked.out / "work" / "short.pt", config=config, modules={"model": model},
        optimisers={},
    )  # fmt: skip
    train(learner, plan, state)
    save_routed(model, vocabulary, asked.out, {"config": config, "versions": versions()})


if __name__ == "__main__":
    main()
