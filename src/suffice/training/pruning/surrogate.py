"""A learned surrogate of the greedy order: one forward pass a trace instead of hundreds.

It reads, of each token, the pruner's last hidden state, surprisal, entropy and place, and predicts
when the greedy pruner deletes it: 0 first, 1 last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from suffice.training.pruning.orders import surprisal_and_entropy
from suffice.training.pruning.scoring import Example
from suffice.training.run_state import seeded

STEPS = 400
WIDTH = 64


class Surrogate(nn.Module):  # type: ignore[misc]
    """Features (N, D) to when each token is deleted, (N,)."""

    def __init__(self, inputs: int, *, seed: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(inputs))
        self.register_buffer("spread_D", torch.ones(inputs))
        self.inner, self.outer = nn.Linear(inputs, WIDTH), nn.Linear(WIDTH, 1)
        generator = seeded(seed, "surrogate")
        with torch.no_grad():
            for layer in (self.inner, self.outer):
                shape = layer.weight.shape
                layer.weight.copy_(torch.randn(shape, generator=generator) * shape[1] ** -0.5)
                layer.bias.zero_()

    def forward(self, feature_ND: torch.Tensor) -> torch.Tensor:
        """See the class."""
        inner = nn.functional.gelu(self.inner((feature_ND - self.mean_D) / self.spread_D))
        value_N: torch.Tensor = self.outer(inner).squeeze(1)
        return value_N

    def order(self, model: nn.Module, example: Example) -> list[int]:
        """Places in the order in which they would be deleted."""
        with torch.no_grad():
            value_N = self(features(model, example))
        return [int(place) for place in torch.argsort(value_N, stable=True)]


def features(model: nn.Module, example: Example) -> torch.Tensor:
    """(places, features) of a trace."""
    body: Any = model.get_submodule("model")
    ids = torch.tensor([[*example.question, *example.trace]])
    with torch.no_grad():
        hidden_Nd = body(input_ids=ids, use_cache=False).last_hidden_state[
            0, len(example.question) :
        ]
    surprisal, entropy = surprisal_and_entropy(model, example)
    place = torch.linspace(0, 1, len(example.trace))
    return torch.cat([hidden_Nd, torch.stack([surprisal, entropy, place], dim=1)], dim=1)


def fit_surrogate(
    model: nn.Module, examples: Sequence[Example], orders: Sequence[Sequence[int]], *, seed: int
) -> Surrogate:
    """A surrogate of whole greedy orders of some traces."""
    inputs = torch.cat([features(model, example) for example in examples])
    wanted = torch.cat([deleted_when(order) for order in orders])
    net = Surrogate(inputs.shape[1], seed=seed)
    net.mean_D, net.spread_D = inputs.mean(dim=0), inputs.std(dim=0).clamp(min=1e-6)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(STEPS):
        loss = nn.functional.mse_loss(net(inputs), wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    net.eval()
    return net


def deleted_when(order: Sequence[int]) -> torch.Tensor:
    """By place: 0 if deleted first, 1 if last."""
    found = torch.zeros(len(order))
    for rank, place in enumerate(order):
        found[place] = rank / max(1, len(order) - 1)
    return found
