"""One optimiser step as a function of tensors alone, so that a GPU can replay it as a graph.

The step counter, the order of windows, the learning-rate table and the loss curve live on the
device; nothing is read back until the caller asks.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from suffice.training.checkpoint import reset, snapshot
from suffice.training.model import LossFunction, autocast
from suffice.training.optimiser import schedule
from suffice.training.rung import Recipe

WARMUP_STEPS = 3


class Stepper:
    """Advances a run. `world_size` > 1 splits each batch over torch.distributed's ranks."""

    def __init__(
        self,
        *,
        model: nn.Module,
        optimiser: torch.optim.AdamW,
        loss_of: LossFunction,
        recipe: Recipe,
        ids: torch.Tensor,
        order: torch.Tensor,
        micro_batch_sequences: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._model, self._optimiser, self._loss_of = model, optimiser, loss_of
        self._recipe, self._ids = recipe, ids
        device = ids.device
        steps, batch = order.shape
        own = batch // world_size
        self._order = order[:, rank * own : (rank + 1) * own].contiguous().to(device)
        self._micro_batch = min(micro_batch_sequences, own)
        self._world_size = world_size
        self._rates = schedule(recipe, steps).to(device)
        self._offsets = torch.arange(recipe.sequence_length + 1, device=device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self.losses = torch.zeros(steps, dtype=torch.float32, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def seek(self, step: int, losses: tuple[float, ...] = ()) -> None:
        """Continue at `step`; `losses` are those of the steps before."""
        self._step.fill_(step)
        if losses:
            self.losses[: len(losses)] = torch.tensor(losses, dtype=torch.float32)

    def advance(self, steps: int) -> None:
        """Do `steps` optimiser steps; on a GPU this returns before they are done."""
        for _ in range(steps):
            if self._graph is not None:
                self._graph.replay()
            else:
                self._advance_once()

    def capture(self) -> None:
        """Record one step as a CUDA graph; weights and moments are as before afterwards."""
        weights = snapshot(self._model)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARMUP_STEPS):
                self._step.zero_()
                self._advance_once()
        torch.cuda.current_stream().wait_stream(stream)
        self._optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._advance_once()
        self._graph = graph
        reset(self._model, self._optimiser, weights)
        self._step.zero_()
        self.losses.zero_()

    def _advance_once(self) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        starts = self._order.index_select(0, self._step)[0]
        total = torch.zeros((), device=starts.device)
        parts = starts.split(self._micro_batch)
        for part in parts:
            batch = self._ids[part[:, None] + self._offsets].to(torch.int64)
            with autocast(starts.device, self._recipe.precision):
                loss = self._loss_of(batch)
            (loss / len(parts)).backward()
            total += loss.detach() / len(parts)
        if self._world_size > 1:
            self._average_over_ranks(total)
        nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.gradient_clip, foreach=True)
        rate = self._rates.index_select(0, self._step)[0]
        for group in self._optimiser.param_groups:
            group["lr"].copy_(rate * group["peak"])
        self._optimiser.step()
        self.losses.index_copy_(0, self._step, total[None])
        self._step += 1

    def _average_over_ranks(self, total: torch.Tensor) -> None:
        grads = [weight.grad for weight in self._model.parameters() if weight.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads] + [total[None]])
        dist.all_reduce(flat)
        flat /= self._world_size
        offset = 0
        for grad in grads:
            grad.copy_(flat[offset : offset + grad.numel()].view_as(grad))
            offset += grad.numel()
        total.copy_(flat[-1])
