"""What stands in the slots: nothing learned, trained constants, or an assistant's states.

    H = assistant([I, Q']) last hidden layer;   t = the last N rows, N x d_a, at real tokens
    S = t W^T + b        W: d x d_a is all that is learned; assistant and backbone are frozen

After SoftCoT (arXiv:2502.12134), from its equations alone. Departs from it in where the assistant's
states are taken: at the question's own last tokens, not at placeholders that nobody trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from suffice.backends.nano.vocabulary import PAD, SHORT, Vocabulary
from suffice.tasks.puzzles import Problem
from suffice.training.responses import pad
from suffice.training.run_state import seeded
from suffice.training.soft_thoughts.slots import first_steps

Arm = Literal[
    "none", "zero", "random", "text", "constants", "learned", "swapped", "fitted",
    "fitted-swapped", "lora", "contrast",
]  # fmt: skip
ARMS: tuple[Arm, ...] = (
    "none", "zero", "random", "text", "constants", "learned", "swapped", "fitted",
    "fitted-swapped", "lora",
)  # fmt: skip
# Arms that are asked for by name.
MORE_ARMS: tuple[Arm, ...] = ("contrast",)
RIDGE = 1.0


class Assistant:
    """A frozen model that is asked the first steps of each problem."""

    def __init__(self, model: nn.Module, vocabulary: Vocabulary, slots: int) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.vocabulary, self.slots = vocabulary, slots

    @property
    def width(self) -> int:
        """Its hidden size."""
        return int(self.model.config.hidden_size)

    def states(self, of: Sequence[Problem]) -> torch.Tensor:
        """(B, N, d_a): the last layer's states at the last N tokens, up to its mode token."""
        return self._run(of)[0]

    def answers(self, of: Sequence[Problem]) -> torch.Tensor:
        """(B,): the id that it would say next."""
        return self._run(of)[1]

    def _run(self, of: Sequence[Problem]) -> tuple[torch.Tensor, torch.Tensor]:
        words = self.vocabulary
        rows = [[*words.prompt(first_steps(problem)[0]), words.id(SHORT)] for problem in of]
        ids, real = pad(rows, words.id(PAD), left=True)
        positions = (real.cumsum(dim=1) - 1).clamp(min=0)
        with torch.no_grad():
            hidden = self.model.model(
                input_ids=ids, attention_mask=real, position_ids=positions, use_cache=False
            ).last_hidden_state
            said = self.model.lm_head(hidden[:, -1]).argmax(dim=1)
        return hidden[:, -self.slots :], said


class Projector(nn.Module):  # type: ignore[misc]
    """States to the backbone's embeddings, one linear map for all slots; scaled by a constant."""

    def __init__(self, inputs: int, outputs: int, *, seed: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.linear = nn.Linear(inputs, outputs)
        with torch.no_grad():
            drawn = torch.randn(outputs, inputs, generator=seeded(seed, "projector"))
            self.linear.weight.copy_(drawn * inputs**-0.5)
            self.linear.bias.zero_()

    def scale_to(self, state_BND: torch.Tensor) -> None:
        """Bring states to a deviation of 1 over all of some problems."""
        self.scale = state_BND.std().clamp(min=1e-6)

    def fit(self, state_BND: torch.Tensor, wanted_Bd: torch.Tensor) -> None:
        """Set the map by ridge regression of `wanted_Bd` on the last slot's states.

        No backbone is asked: it shows what a linear map of the states can say, and whether training
        through the backbone finds it.
        """
        x = state_BND[:, -1].double() / self.scale.double()
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        penalty = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
        penalty[-1, -1] = 0.0  # the constant
        found = torch.linalg.solve(x.T @ x + penalty, x.T @ wanted_Bd.double())
        with torch.no_grad():
            self.linear.weight.copy_(found[:-1].T)
            self.linear.bias.copy_(found[-1])

    def forward(self, state_BND: torch.Tensor) -> torch.Tensor:
        """(B, N, d)."""
        projected: torch.Tensor = self.linear(state_BND / self.scale)
        return projected


class Constants(nn.Module):  # type: ignore[misc]
    """Slots that are the same for every problem, learned: a soft prompt."""

    def __init__(self, slots: int, width: int, *, seed: int) -> None:
        super().__init__()
        drawn = torch.randn(slots, width, generator=seeded(seed, "constants"))
        self.vector_Nd = nn.Parameter(drawn)

    def forward(self, count: int) -> torch.Tensor:
        """(count, N, d)."""
        return self.vector_Nd.expand(count, -1, -1)


class LowRank(nn.Module):  # type: ignore[misc]
    """A linear layer with a low-rank addition (arXiv:2106.09685); the layer itself is frozen."""

    def __init__(self, layer: nn.Linear, rank: int, *, seed: int, name: str) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        generator = seeded(seed, "lora", name)
        drawn = torch.randn(rank, layer.in_features, generator=generator)
        self.down = nn.Parameter(drawn * layer.in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output with the addition, which starts at 0."""
        out: torch.Tensor = self.layer(x) + x @ self.down.T @ self.up.T
        return out


def add_low_rank(model: nn.Module, rank: int, *, seed: int) -> list[nn.Parameter]:
    """Put `LowRank` around every q and v projection of `model`; what is learned."""
    learned: list[nn.Parameter] = []
    net: Any = model
    net.requires_grad_(False)
    for number, layer in enumerate(net.model.layers):
        for name in ("q_proj", "v_proj"):
            around = LowRank(
                getattr(layer.self_attn, name), rank, seed=seed, name=f"{number}/{name}"
            )
            setattr(layer.self_attn, name, around)
            learned += [around.down, around.up]
    return learned
