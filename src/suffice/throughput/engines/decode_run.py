"""Steps of decoding that are timed, and the sum of a ladder of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from suffice.throughput.engines import torch_model
from suffice.throughput.engines.protocol import (
    Lengths,
)
from suffice.throughput.engines.timing import capture
from suffice.throughput.engines.torch_model import KvCache, Model

if TYPE_CHECKING:
    from suffice.throughput.engines.torch_engine import TorchEngine

CHUNK_TOKENS = 8192


class DecodeRun:
    """A batch in flight: its cache, its tokens, and the step that advances them all."""

    def __init__(self, engine: TorchEngine, model: Model, cache: KvCache, batch: int) -> None:
        self.engine, self.model, self.cache = engine, model, cache
        device = engine.device
        self._generator = torch.Generator(device=device).manual_seed(engine.seed + 1)
        self.tokens = self._draw(batch)
        self.positions = torch.zeros(batch, dtype=torch.int32, device=device)
        self.x = model.weights.embedding[self.tokens]
        self._step: Callable[[], object] = self._run_step
        if device.type == "cuda":
            self._graph = capture(self._run_step)
            self._step = self._graph.replay

    def _draw(self, *size: int) -> Tensor:
        vocab, generator = self.model.shape.vocab_size, self._generator
        return torch.randint(vocab, size, device=generator.device, generator=generator)

    def prefill(self, batch: int, prompt: int) -> Tensor:
        """First tokens [B] of `batch` random prompts."""
        return self.prefill_prompts(self._draw(batch, prompt)).argmax(-1)

    def prefill_prompts(self, prompts: Tensor) -> Tensor:
        """Logits [B, V] of the last token of each prompt; the cache is filled."""
        return torch_model.prefill_logits(
            self.model, self.engine.ops, self.cache, prompts, chunk_tokens=CHUNK_TOKENS
        )

    def start(self, tokens: Tensor, context: int) -> None:
        """Let the next step decode `tokens` after `context` cached entries."""
        self.tokens.copy_(tokens)
        self.x.copy_(self.model.weights.embedding[tokens])
        self.positions.fill_(context)

    def seek(self, context: int) -> None:
        """Let the next step see `context` cached entries."""
        self.positions.fill_(context)

    def steps(self, count: int) -> None:
        """Decode `count` tokens per sequence."""
        for _ in range(count):
            self._step()

    def step_eagerly(self) -> None:
        """The step outside its graph, to compare with."""
        self._run_step()

    def _run_step(self) -> None:
        # The residual stream is overwritten; `advance` then puts the next token's embedding there.
        logits = torch_model.decode_logits(
            self.model, self.engine.ops, self.cache, self.x, self.positions
        )
        self.engine.ops.advance(logits, self.tokens, self.positions, self.x, self.model.weights)


def ladder(lengths: Lengths, rungs: int) -> list[int]:
    """KV lengths, evenly from the first decode step's to the last one's."""
    first, last = lengths.input_tokens, lengths.input_tokens + lengths.steps - 1
    return sorted({round(c) for c in np.linspace(first, last, max(2, rungs))})


def integrate(contexts: Sequence[int], step_s: Sequence[float], lengths: Lengths) -> float:
    """Seconds of all decode steps, single steps interpolated linearly between the rungs."""
    every = np.arange(lengths.input_tokens, lengths.input_tokens + lengths.steps)
    return float(np.interp(every, contexts, step_s).sum())
