"""Which windows of the training text each step sees: a function of seed and step, nothing else."""

from __future__ import annotations

import torch

from suffice.core.errors import InputError
from suffice.training.rung import Recipe


def window_order(train_tokens: int, recipe: Recipe, tokens: int, seed: int) -> torch.Tensor:
    """Start positions of every window of a run, int64 of shape (steps, batch).

    Windows do not overlap. Each epoch is a fresh permutation of all windows; a run reads the first
    steps * batch of the concatenated epochs, so resuming needs no state but the step.
    """
    length = recipe.sequence_length
    available = (train_tokens - 1) // length
    if available < 1:
        raise InputError(
            f"the training split has {train_tokens} tokens, too few for one sequence of {length}"
        )
    needed = recipe.steps(tokens) * recipe.batch_sequences(tokens)
    generator = torch.Generator().manual_seed(seed)
    epochs = [
        torch.randperm(available, generator=generator) for _ in range(-(-needed // available))
    ]
    starts = torch.cat(epochs)[:needed] * length
    return starts.view(recipe.steps(tokens), recipe.batch_sequences(tokens))


def epochs(train_tokens: int, recipe: Recipe, tokens: int) -> float:
    """How often a run of `tokens` reads the training split."""
    return recipe.trained_tokens(tokens) / train_tokens
