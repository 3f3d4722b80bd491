"""A latent network behind the backend contract: one sample is one trajectory.

A step of a trajectory counts as one token, so that a policy's tokens are its FLOPs in units of
`flops.step_flops`, and `max_tokens` is a depth. Every step but the last is shown as reasoning: the
answer as it stands. The log-probability of a step is log P(right), by the halting head; its only
alternative is log P(wrong), so that the confidence of DeepConf, minus the mean of the alternatives,
is high where the head is sure of the answer.

All trajectories that are asked for at one time advance together, each with its own noise, whoever
asked; a stream that is closed leaves before the next step.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from suffice.backends.latent.folder import load_latent
from suffice.backends.latent.network import LatentNetwork
from suffice.backends.latent.trajectories import (
    Cloud,
    Exploration,
    Reading,
    read,
    start,
    step,
    trajectory_generator,
)
from suffice.backends.protocol import Capabilities, Chunk
from suffice.backends.reached import tell_reached
from suffice.core.completions import TokenLogprob, Usage
from suffice.core.draw import Draw
from suffice.core.errors import InputError, LacksCapability, UpstreamRejected
from suffice.tasks.grids.puzzles import GridTask, Ints, write_answer

RIGHT, WRONG = "right", "wrong"
# Turns of the event loop that a step waits for trajectories whose readers are busy.
TURNS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How long a trajectory goes on: `steps` at most, less if it may halt.

    With `halts` it ends as soon as the halting head's probability is above one half.
    """

    steps: int = 4
    halts: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps must be 1 or more, got {self.steps}")


@dataclass(eq=False, slots=True)
class _Running:
    """One trajectory in flight: its state, and who waits for its next step."""

    cloud: Cloud
    waiting: asyncio.Future[Reading] | None = None


class LatentBackend:
    """Serves one network for one task. The prompt is a puzzle as its task writes it."""

    def __init__(
        self,
        network: LatentNetwork,
        task: GridTask,
        *,
        exploration: Exploration,
        depth: Depth | None = None,
        name: str = "latent",
    ) -> None:
        if exploration.source == "prior" and network.shape.noise == "none":
            raise InputError("this network has no prior: explore with gaussian noise")
        self._network, self._task = network, task
        self._exploration, self._depth = exploration, depth or Depth()
        self._name = name
        self._running: list[_Running] = []
        self._engine: asyncio.Task[None] | None = None
        self._unseeded = itertools.count()
        self.steps_run = 0
        self.largest_batch = 0

    @classmethod
    def of_folder(
        cls, folder: Path, *, exploration: Exploration | None = None, depth: Depth | None = None,
        device: str = "cpu", name: str | None = None,
    ) -> LatentBackend:  # fmt: skip
        """A folder of `suffice train latent`; by default explored as the network was trained."""
        network, task = load_latent(folder, device=device)
        if exploration is None:
            learned = network.shape.noise != "none"
            exploration = Exploration(source="prior" if learned else "gaussian")
        return cls(
            network, task, exploration=exploration, depth=depth, name=name or folder.resolve().name
        )

    @property
    def name(self) -> str:
        """The name it was given, which is also its model's."""
        return self._name

    @property
    def task(self) -> str:
        """Name of the task whose puzzles it answers."""
        return self._task.name

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """Log-probabilities of being right; no tools, no thinking switch."""
        return Capabilities(models=(self._name,), logprobs=True, max_top_logprobs=1, tools=False)

    async def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """A chunk for every step, then one with the answer; closing stops the iteration."""
        given = self._puzzle(draw)
        steps = min(draw.sampling.max_tokens or self._depth.steps, self._depth.steps)
        tell_reached()
        running = _Running(start(self._network, given[None], [self._generator(draw)]))
        self._running.append(running)
        done = 0
        try:
            while True:
                reading = await self._next(running)
                done += 1
                answer, logit = write_answer(reading.answers[0]), float(reading.halting[0])
                halted = self._depth.halts and logit > 0
                if done == steps or halted:
                    break
                yield Chunk(
                    reasoning_text=f"{answer}\n",
                    token_count=1,
                    logprobs=_logprob(logit, draw.sampling.top_logprobs),
                )
        finally:
            if running in self._running:
                self._running.remove(running)
        yield Chunk(
            text=answer, token_count=1, logprobs=_logprob(logit, draw.sampling.top_logprobs)
        )
        yield Chunk(
            token_count=0,
            # Its answer is whole at any depth: nothing was cut off.
            finish_reason="stop",
            usage=Usage(completion_tokens=done, reasoning_tokens=done - 1),
        )

    async def aclose(self) -> None:
        """Stop what still runs; there is no connection."""
        self._running.clear()
        if self._engine is not None:
            self._engine.cancel()
            self._engine = None

    def _puzzle(self, draw: Draw) -> Ints:
        request = draw.request
        if request.tools:
            raise LacksCapability(f"{self._name} runs in this process and cannot call tools")
        if draw.prefill or len(request.messages) != 1 or request.messages[0].role != "user":
            raise UpstreamRejected(
                f"{self._name} answers a single user message, without system message, history or "
                "prefill",
                status=400,
            )
        try:
            return self._task.parse(request.messages[0].text)
        except InputError as error:
            raise UpstreamRejected(f"{self._name}: {error}", status=400) from None

    def _generator(self, draw: Draw) -> torch.Generator:
        """Noise of the sampling's seed; without one, of how many were drawn before."""
        if draw.sampling.seed is not None:
            return trajectory_generator(draw.request.messages[0].text, draw.sampling.seed)
        return trajectory_generator("unseeded", next(self._unseeded))

    async def _next(self, running: _Running) -> Reading:
        """The reading after one more step."""
        running.waiting = asyncio.get_running_loop().create_future()
        if self._engine is None or self._engine.done():
            self._engine = asyncio.get_running_loop().create_task(self._iterate())
        return await running.waiting

    async def _iterate(self) -> None:
        """Advance all that wait, one step at a time, until nobody does.

        Those that have just got a reading are given some turns of the loop to ask for the next one,
        so that they stay together.
        """
        while True:
            for _ in range(TURNS):
                await asyncio.sleep(0)
                if all(r.waiting is not None for r in self._running):
                    break
            batch = [r for r in self._running if r.waiting is not None]
            if not batch:
                return
            self._advance(batch)

    def _advance(self, batch: list[_Running]) -> None:
        cloud = Cloud(
            torch.cat([r.cloud.h for r in batch]),
            torch.cat([r.cloud.l for r in batch]),
            torch.cat([r.cloud.e for r in batch]),
            [r.cloud.generators[0] for r in batch],
        )
        step(self._network, cloud, self._exploration)
        reading = read(self._network, cloud)
        self.steps_run += len(batch)
        self.largest_batch = max(self.largest_batch, len(batch))
        for i, running in enumerate(batch):
            own = slice(i, i + 1)
            running.cloud.h, running.cloud.l = cloud.h[own], cloud.l[own]
            waiting, running.waiting = running.waiting, None
            if waiting is not None and not waiting.done():  # cancelled with the task that waited
                waiting.set_result(
                    Reading(reading.answers[own], reading.halting[own], reading.value[own])
                )


def _logprob(logit: float, top: int | None) -> tuple[TokenLogprob, ...]:
    if top is None:
        return ()
    right, wrong = -_softplus(-logit), -_softplus(logit)
    others = ((WRONG, wrong),) if top > 0 else ()
    return (TokenLogprob(token=RIGHT, logprob=right, top=others),)


def _softplus(x: float) -> float:
    return float(np.logaddexp(0.0, x)) if math.isfinite(x) else max(0.0, x)
