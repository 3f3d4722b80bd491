"""The loop: a batch of puzzles, a few supervision steps on it, one optimiser step for each.

Whatever is drawn depends on the seed and the batch's number alone, and a checkpoint is written
between batches, so that a run that was interrupted ends with the same bits.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from suffice.backends.latent.network import LatentNetwork
from suffice.tasks.grids.puzzles import GridTask, Puzzles
from suffice.training.latent.losses import balanced_kl, reward_loss
from suffice.training.latent.settings import LatentTraining
from suffice.training.run_state import RunState, require_finite, seeded
from suffice.training.settings import plain

Tell = Callable[[dict[str, Any]], None]
KL_WEIGHT_TOKENS = 4.5


@dataclass(slots=True)
class Drawn:
    """A batch: inputs (B, N, F) and one solution of each, (B, N)."""

    inputs: torch.Tensor
    answers: torch.Tensor


@dataclass(slots=True)
class StepLoss:
    """Parts of one supervision step's loss, and the state after it."""

    total: torch.Tensor
    cross_entropy: torch.Tensor
    kl: torch.Tensor
    right_B: torch.Tensor
    state: tuple[torch.Tensor, torch.Tensor]


class Trainer:
    """A run in memory; `train` goes on from `folder`'s checkpoint where there is one."""

    def __init__(
        self,
        config: LatentTraining,
        task: GridTask,
        puzzles: Puzzles,
        *,
        folder: Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.config, self.task = config, task
        self.device = torch.device(device)
        self.network = LatentNetwork(config.shape, task.shape)
        self.network.initialise(config.seed)
        self.network.to(self.device)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._inputs = torch.from_numpy(puzzles.inputs)
        self._solutions = torch.from_numpy(puzzles.solutions)
        rows, _ = puzzles.pairs()
        self._input_of = torch.from_numpy(rows)
        self._averages = list(self.averaged.parameters())
        self._weights = list(self.network.parameters())
        self.state = RunState(
            path=None if folder is None else folder / "checkpoint.pt",
            config=plain(config),
            modules={"network": self.network, "averaged": self.averaged},
            optimisers={"adamw": self.optimiser},
        )

    @property
    def beta(self) -> float:
        """Weight of the KL: as given, else 4.5 over the number of tokens."""
        given = self.config.beta
        return KL_WEIGHT_TOKENS / self.task.shape.tokens if given is None else given

    def train(
        self,
        tell: Tell = lambda _: None,
        *,
        until: int | None = None,
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        """Train to the configured steps, or to `until` of them; `clock` is of CPU seconds."""
        config, state = self.config, self.state
        state.resume()
        before_s = float(state.lines[-1]["cpu_s"]) if state.lines else 0.0
        started = clock()
        last = config.steps if until is None else min(until, config.steps)
        while state.step < last:
            number = state.step // config.supervision_steps
            generator = seeded(config.seed, "batch", number)
            drawn = self.draw(generator)
            z = self.network.start(len(drawn.inputs))
            if self.device.type != "cpu":  # drawn where it is used: else the noise is the cost
                own = int(torch.randint(2**62, (1,), generator=generator))
                generator = torch.Generator(self.device).manual_seed(own)
            pooled: list[torch.Tensor] = []
            for done in range(config.supervision_steps):
                found = self.loss(drawn, z, generator)
                pooled.append(found.state[0].mean(dim=1))
                total = found.total
                if len(pooled) == config.supervision_steps:
                    total = total + self._reward_loss(pooled, found.right_B)
                self._update(total, state.step + done)
                z = found.state
            state.step += config.supervision_steps
            ended = state.step >= last
            if ended or _passed(state.step, config.probe_every, config.supervision_steps):
                line = {
                    "step": state.step,
                    "loss": require_finite(found.total, state.step, "the network"),
                    "cross_entropy": float(found.cross_entropy.detach()),
                    "kl": float(found.kl.detach()),
                    "right": float(found.right_B.float().mean()),
                    "cpu_s": before_s + clock() - started,
                }
                state.log(line)
                tell(line)
            if ended or _passed(state.step, config.checkpoint_every, config.supervision_steps):
                state.save()

    def draw(self, generator: torch.Generator) -> Drawn:
        """Pairs of input and solution, uniform over pairs, with replacement."""
        pair = torch.randint(len(self._solutions), (self.config.batch,), generator=generator)
        inputs, answers = self._inputs[self._input_of[pair]], self._solutions[pair]
        return Drawn(inputs.to(self.device), answers.to(self.device))

    def loss(
        self,
        drawn: Drawn,
        z: tuple[torch.Tensor, torch.Tensor],
        generator: torch.Generator,
    ) -> StepLoss:
        """One supervision step: T transitions, of which the last one has gradients."""
        config, network = self.config, self.network
        h, l = z
        random = config.shape.noise != "none"
        e = network.embed(drawn.inputs)
        answer = network.answers(drawn.answers) if random and config.guidance else None
        with torch.no_grad():
            for _ in range(config.shape.transitions - 1):
                h, l = network.proposal(h, l, e)
                if random:
                    noise = self._noise(h, generator)
                    known = network.prior(h) if answer is None else network.posterior(h, answer)
                    h = h + known.sample(noise)
        h, l = network.proposal(h, l, e)
        kl = h.new_zeros(())
        if random:
            noise = self._noise(h, generator)
            prior = network.prior(h)
            if answer is None:
                h = h + prior.sample(noise)
            else:
                posterior = network.posterior(h, answer)
                kl = balanced_kl(
                    posterior, prior, balance=config.balance, reduction=config.kl_reduction
                )
                h = h + posterior.sample(noise)
        logits = network.decode(h)
        cross_entropy = functional.cross_entropy(logits.flatten(0, 1), drawn.answers.flatten())
        right_B = self._right(logits, drawn)
        seen = h.detach()
        halting = functional.binary_cross_entropy_with_logits(
            network.halting(seen.mean(dim=1)), right_B.to(seen.dtype)
        )
        total = cross_entropy + self.beta * kl + config.halt_weight * halting
        return StepLoss(total, cross_entropy, kl, right_B, (seen, l.detach()))

    def _reward_loss(self, pooled: list[torch.Tensor], right_B: torch.Tensor) -> torch.Tensor:
        value_SB = self.network.value(torch.stack(pooled))
        return self.config.reward_weight * reward_loss(value_SB, right_B)

    def _right(self, logits: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        chosen = logits.detach().argmax(dim=-1)
        if self.config.halt_target == "exact":
            return (chosen == drawn.answers).all(dim=-1)
        right = self.task.right(drawn.inputs.cpu().numpy(), chosen.cpu().numpy())
        return torch.from_numpy(right).to(self.device)

    def _noise(self, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator, device=self.device)

    def _update(self, loss: torch.Tensor, step: int) -> None:
        config = self.config
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, config.gradient_clip)
        share = min(1.0, (step + 1) / max(1, config.warm_up_steps))
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * share
        self.optimiser.step()
        # From the mean of all weights so far to that of the last 1 / (1 - ema): no start to forget.
        keep = min(config.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._weights, 1 - keep)


def _passed(step: int, every: int, stride: int) -> bool:
    return step // every != (step - stride) // every
