"""The recursive network: what TRM, PTRM and GRAM share, in plain torch.

B  trajectories   N  tokens   D  width   C  classes   T  transitions in a step   K  inner updates

State z = (h, l); e is the input's embedding. One transition (arXiv:2605.19376, section 3):

    l ← f_L(l + h + e)  K times;    u = f_H(h + l);    h ← u + ε

ε is zero for TRM (arXiv:2510.04871), σ N(0, I) for PTRM (arXiv:2605.19943), and drawn from the
prior N(μ(u), σ(u)²) for GRAM; while GRAM learns, from a posterior N(μ(u, y), σ(u, y)²) that sees
the answer y. T transitions are one step, after which the answer argmax decode(h), the halting
logit and the reward model's value can be read.

Blocks are post-norm (pre-norm gave NaN in our trials): x ← RMS(x + attention(x)), then
x ← RMS(x + SwiGLU(x)), without weights in the norm. Departures from GRAM: learned positions in e
instead of RoPE, no prefix tokens, and a state that starts equal at every token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from suffice.backends.latent.shape import LatentShape
from suffice.tasks.grids.puzzles import GridShape

# A halting head that starts near "no" keeps runs from ending in always-halt (arXiv:2604.21999).
HALTING_START = -3.0
LOG_SIGMA_LOW, LOG_SIGMA_START = -6.0, -2.0
# Of every embedding; larger ones are learned by heart: see docs/latent.md, what did not work.
EMBEDDING_STD = 0.3


@dataclass(slots=True)
class Gaussian:
    """A diagonal normal over (B, N, D)."""

    mean: torch.Tensor
    log_sigma: torch.Tensor

    def sample(self, noise_BND: torch.Tensor) -> torch.Tensor:
        """mean + σ · noise, through which gradients flow."""
        return torch.addcmul(self.mean, self.log_sigma.exp(), noise_BND)

    def detach(self) -> Gaussian:
        """The same without a gradient."""
        return Gaussian(self.mean.detach(), self.log_sigma.detach())


class LatentBlock(nn.Module):  # type: ignore[misc]
    """Attention over all tokens, then a SwiGLU, both post-norm."""

    def __init__(self, shape: LatentShape) -> None:
        super().__init__()
        d, self.heads = shape.width, shape.heads
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.output = nn.Linear(d, d, bias=False)
        self.gate_up = nn.Linear(d, 2 * shape.mlp_width, bias=False)
        self.down = nn.Linear(shape.mlp_width, d, bias=False)

    def forward(self, x_BND: torch.Tensor) -> torch.Tensor:
        """(B, N, D) to (B, N, D)."""
        batch, tokens, width = x_BND.shape
        split = self.qkv(x_BND).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
        x_BND = _norm(x_BND + self.output(mixed))
        gate, up = self.gate_up(x_BND).chunk(2, dim=-1)
        return _norm(x_BND + self.down(functional.silu(gate) * up))


class LatentNetwork(nn.Module):  # type: ignore[misc]
    """One network for one task; deterministic unless `shape.noise` says otherwise."""

    start_h: torch.Tensor
    start_l: torch.Tensor

    def __init__(self, shape: LatentShape, grid: GridShape) -> None:
        super().__init__()
        d = shape.width
        self.shape, self.grid = shape, grid
        self.values = nn.Embedding(grid.fields * grid.values, d)
        self.positions = nn.Parameter(torch.zeros(grid.tokens, d))
        self.inner = nn.Sequential(*(LatentBlock(shape) for _ in range(shape.blocks)))
        self.outer = nn.Sequential(*(LatentBlock(shape) for _ in range(shape.blocks)))
        self.decode = nn.Linear(d, grid.classes)
        self.halt = nn.Linear(d, 1)
        self.reward = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, 1))
        self.register_buffer("start_h", torch.zeros(d))
        self.register_buffer("start_l", torch.zeros(d))
        self.register_buffer("offsets", torch.arange(grid.fields) * grid.values)
        if shape.noise != "none":
            self.prior_net = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, 2 * d))
            self.answers = nn.Embedding(grid.classes, d)
            self.posterior_net = nn.Sequential(
                nn.Linear(2 * d, 2 * d), nn.SiLU(), nn.Linear(2 * d, 2 * d)
            )

    def initialise(self, seed: int) -> None:
        """Draw all weights and the start from `seed`, on the CPU so that devices agree."""
        generator = torch.Generator().manual_seed(seed)

        def draw(weight: torch.Tensor, std: float) -> None:
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)

        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith("bias"):
                    weight.zero_()
                elif name in ("values.weight", "answers.weight"):
                    draw(weight, EMBEDDING_STD * self.grid.fields**-0.5)
                elif name == "positions":
                    draw(weight, EMBEDDING_STD)
                else:
                    draw(weight, (3 * weight.shape[1]) ** -0.5)
            draw(self.start_h, 1.0)
            draw(self.start_l, 1.0)
            self.halt.weight.zero_()
            self.halt.bias.fill_(HALTING_START)
            self.reward[-1].weight.zero_()
            if self.shape.noise != "none":
                for net in (self.prior_net, self.posterior_net):
                    net[-1].weight.mul_(0.1)

    def embed(self, inputs_BNF: torch.Tensor) -> torch.Tensor:
        """e, (B, N, D): the sum of the fields' embeddings and the token's position."""
        return self.values(inputs_BNF + self.offsets).sum(dim=2) + self.positions

    def start(self, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """z_0 = (h, l), (B, N, D) each: drawn once when the network was made, and kept."""
        tokens, d = self.grid.tokens, self.shape.width
        return self.start_h.expand(batch, tokens, d), self.start_l.expand(batch, tokens, d)

    def proposal(
        self,
        h: torch.Tensor,
        l: torch.Tensor,
        e: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """u and the new l of one transition."""
        fixed = h + e
        for _ in range(self.shape.inner_updates):
            l = self.inner(l + fixed)
        return self.outer(h + l), l

    def prior(self, u_BND: torch.Tensor) -> Gaussian:
        """p(ε | u)."""
        return self._gaussian(self.prior_net(u_BND))

    def posterior(self, u_BND: torch.Tensor, answer_BND: torch.Tensor) -> Gaussian:
        """q(ε | u, y); `answer_BND` is `answers(y)`."""
        return self._gaussian(self.posterior_net(torch.cat((u_BND, answer_BND), dim=-1)))

    def halting(self, pooled_BD: torch.Tensor) -> torch.Tensor:
        """Logit that the answer is right, (B,), from the mean of h over tokens."""
        logit_B: torch.Tensor = self.halt(pooled_BD).squeeze(-1)
        return logit_B

    def value(self, pooled_BD: torch.Tensor) -> torch.Tensor:
        """The trajectory reward model's estimate of being right in the end, (B,)."""
        value_B: torch.Tensor = self.reward(pooled_BD).squeeze(-1)
        return value_B

    def _gaussian(self, both: torch.Tensor) -> Gaussian:
        mean, raw = both.chunk(2, dim=-1)
        if self.shape.noise == "zero_mean":
            mean = torch.zeros_like(mean)
        if self.shape.noise == "fixed":
            return Gaussian(mean, torch.full_like(mean, self.shape.fixed_sigma).log())
        return Gaussian(mean, (raw + LOG_SIGMA_START).clamp(LOG_SIGMA_LOW, 0.0))

    def parameter_count(self) -> int:
        """Trained weights."""
        return sum(weight.numel() for weight in self.parameters())


def _norm(x: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(x, x.shape[-1:], eps=1e-5)
