"""The decoder's operations through Triton kernels, the fastest of several chosen by timing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from suffice.throughput.engines import triton_kernels as kernels
from suffice.throughput.engines.timing import replay_s
from suffice.throughput.engines.torch_model import KvCache, Model, TorchOps, Weights

Kind = Literal["linear", "gated", "add"]
Builder = Callable[[Tensor], Callable[[Tensor], object]]
_Key = tuple[str, int, int, int, int]

# log2(e): the kernels exponentiate with base 2.
_LOG2_E = 1.4426950408889634
MAX_SPLITS = 64
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Entries a tile, tiles in flight, warps.
_ATTENTION_TILES = ((128, 3, 4), (64, 4, 4), (32, 4, 2), (128, 2, 8), (64, 3, 2))
_ARGMAX_BLOCK = 4096
# Timing a candidate over fewer bytes than this would time the L2 cache.
_BYTES_PER_TRIAL = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class MatmulChoice:
    """One way to multiply a few tokens with a weight matrix; None: the vendor's library."""

    kernel: Literal["gemv", "skinny"] | None = None
    block_m: int = 1
    block_n: int = 0
    block_k: int = 0
    stages: int = 1
    warps: int = 4

    def __str__(self) -> str:
        if self.kernel is None:
            return "library"
        return f"{self.kernel} {self.block_m}x{self.block_n}x{self.block_k}"


LIBRARY = MatmulChoice()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionChoice:
    """How the KV cache is cut: parallel splits of the context, and tiles of `block_t` entries."""

    splits: int = 1
    block_t: int = 64
    stages: int = 3
    warps: int = 4

    def __str__(self) -> str:
        return f"{self.splits} splits, tiles of {self.block_t} x{self.stages}, {self.warps} warps"


def worthwhile_splits(pairs: int, context: int, units: int) -> list[int]:
    """Splits to try for `pairs` of sequence and KV head on `units` multiprocessors.

    Enough programs to fill them, at most sixteen on each, and at least 64 entries a program.
    """
    able = [s for s in _SPLITS if s == 1 or (pairs * s <= 16 * units and context // s >= 64)]
    return [s for s in able if pairs * s >= units] or able[-1:]


def matmul_candidates(tokens: int, kind: Kind) -> list[MatmulChoice]:
    """The ways worth timing for `tokens` rows. Gated kernels hold two tiles, so half the rows."""
    half = 2 if kind == "gated" else 1
    if tokens == 1:
        gemv_sizes = ((8, 512, 4), (4, 1024, 4), (16, 512, 8))
        return [
            LIBRARY,
            *(
                MatmulChoice(kernel="gemv", block_n=n // half, block_k=k, warps=w)
                for n, k, w in gemv_sizes
            ),
        ]
    if tokens <= 16:
        sizes = ((16, 256, 4), (32, 128, 4))
        return [
            LIBRARY,
            *(
                MatmulChoice(kernel="skinny", block_m=16, block_n=n, block_k=k, stages=4, warps=w)
                for n, k, w in sizes
            ),
        ]
    if tokens <= 64:
        block_n = 32 // half
        return [
            LIBRARY,
            MatmulChoice(kernel="skinny", block_m=64, block_n=block_n, block_k=128, stages=4),
        ]
    return [LIBRARY]


class TritonOps(TorchOps):
    """Kernels for one device; `pdl` overlaps each kernel's start with the previous one's end."""

    def __init__(self, *, pdl: bool, units: int) -> None:
        self.pdl, self.units = pdl, units
        self.matmuls: dict[_Key, MatmulChoice] = {}
        self.attention: dict[_Key, AttentionChoice] = {}
        self._reports: dict[_Key, str] = {}

    def norm(self, x: Tensor, norm: Tensor, eps: float) -> Tensor:
        """RMSNorm of the last dimension, one kernel."""
        width = x.shape[-1]
        out = torch.empty_like(x)
        block = _power_of_two(width)
        kernels.rms_norm[(x.numel() // width,)](
            x.contiguous(), norm, out, width, eps, BLOCK=block, num_warps=_warps(block),
            **self._options(),
        )  # fmt: skip
        return out

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """SiLU of the first half of the last dimension times the second, one kernel."""
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = gate_up.new_empty(rows, width)
        grid = (rows, math.ceil(width / 1024))
        kernels.silu_mul[grid](gate_up, out, width, BLOCK=1024, **self._options())
        return out

    def norm_linear(self, x: Tensor, norm: Tensor, w: Tensor, eps: float) -> Tensor:
        """W · RMSNorm(x)."""
        choice = self._choice("linear", x, w)
        if choice.kernel is None:
            return torch.mm(self.norm(x, norm, eps), w.T)
        return self._matmul(choice, x, w, norm=norm, eps=eps)

    def norm_gated(self, x: Tensor, norm: Tensor, w: Tensor, eps: float) -> Tensor:
        """SiLU(gate) · up, from W · RMSNorm(x)."""
        choice = self._choice("gated", x, w)
        if choice.kernel is None:
            return self.silu_mul(torch.mm(self.norm(x, norm, eps), w.T))
        return self._matmul(choice, x, w, norm=norm, eps=eps, gated=True)

    def add_linear(self, residual: Tensor, x: Tensor, w: Tensor) -> Tensor:
        """Residual + W · x, in place."""
        choice = self._choice("add", x, w)
        if choice.kernel is None:
            return residual.addmm_(x, w.T)
        return self._matmul(choice, x, w, add_to=residual)

    def attend(
        self, qkv: Tensor, cache: KvCache, index: int, positions: Tensor, model: Model
    ) -> Tensor:
        """Attention of one new token per sequence; appends its key and value. [B, H D]."""
        choice = self.attention.get(_attention_key(qkv.shape[0], model), AttentionChoice())
        return self._attend(choice, qkv, cache, index, positions, model)

    def rotate_and_cache(
        self, qkv: Tensor, cache: KvCache, index: int, *, rows: slice, prompt: int, model: Model
    ) -> Tensor:
        """Queries [B, H, T, D] with rotary positions; keys and values go into rows of the cache."""
        shape, layer = model.shape, model.weights.layers[index]
        H, KV, D = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
        q = qkv.new_empty(qkv.shape[0], H, D)
        grid = (qkv.shape[0], math.ceil((H + 2 * KV) / 16))
        kernels.rotate_and_cache[grid](
            qkv, q, cache.keys[index, rows], cache.values[index, rows], model.cos, model.sin,
            _or(layer.q_norm, qkv), _or(layer.k_norm, qkv), H, KV, prompt, cache.capacity,
            model.eps, QK_NORM=layer.q_norm is not None, HEAD_DIM=D, BLOCK_H=16,
        )  # fmt: skip
        return q.unflatten(0, (-1, prompt)).transpose(1, 2)

    def advance(
        self, logits: Tensor, tokens: Tensor, positions: Tensor, x: Tensor, w: Weights
    ) -> None:
        """Greedy next token, its embedding into `x`, and one more position: two kernels."""
        rows, vocab = logits.shape
        chunks = math.ceil(vocab / _ARGMAX_BLOCK)
        best = logits.new_empty((rows, chunks), dtype=torch.float32)
        where = logits.new_empty((rows, chunks), dtype=torch.int32)
        kernels.argmax_chunks[(rows, chunks)](
            logits, best, where, vocab, BLOCK=_ARGMAX_BLOCK, **self._options()
        )
        width = x.shape[1]
        block = _power_of_two(width)
        kernels.next_token[(rows,)](
            best, where, w.embedding, tokens, positions, x, chunks, width,
            BLOCK_C=_power_of_two(chunks), BLOCK=block, num_warps=_warps(block), **self._options(),
        )  # fmt: skip

    def choose(self, model: Model, cache: KvCache, batch: int, context: int) -> dict[str, str]:
        """Time every candidate for `batch` sequences of `context` tokens and keep the fastest.

        Returns what was chosen, by operation, with the bytes per second it reached.
        """
        weights = model.weights
        layers, eps, norm = weights.layers, model.eps, weights.final_norm

        def linear(w: Tensor) -> Callable[[Tensor], object]:
            return lambda x: self.norm_linear(x, norm, w, eps)

        def gated(w: Tensor) -> Callable[[Tensor], object]:
            return lambda x: self.norm_gated(x, norm, w, eps)

        def add(w: Tensor) -> Callable[[Tensor], object]:
            residual = w.new_zeros(batch, w.shape[0])
            return lambda x: self.add_linear(residual, x, w)

        operations: tuple[tuple[str, Kind, Builder, list[Tensor]], ...] = (
            ("qkv", "linear", linear, [layer.qkv for layer in layers]),
            ("output", "add", add, [layer.output for layer in layers]),
            ("gate_up", "gated", gated, [layer.gate_up for layer in layers]),
            ("down", "add", add, [layer.down for layer in layers]),
            ("head", "linear", linear, [weights.head]),
        )
        chosen = {
            name: self._fastest_matmul(kind, batch, matrices, build)
            for name, kind, build, matrices in operations
        }
        return chosen | {"attention": self._fastest_attention(model, cache, batch, context)}

    def _fastest_matmul(
        self, kind: Kind, batch: int, matrices: list[Tensor], build: Builder
    ) -> str:
        key = _matmul_key(kind, batch, matrices[0])
        if key not in self._reports:
            each = matrices[0].numel() * matrices[0].element_size()
            trial = matrices[: _enough(each, len(matrices))]
            steps = [build(w) for w in trial]
            x = torch.randn(batch, trial[0].shape[1], device=trial[0].device).to(trial[0].dtype)

            def run() -> None:
                for step in steps:
                    step(x)

            seconds = {}
            for candidate in matmul_candidates(batch, kind):
                self.matmuls[key] = candidate
                seconds[candidate] = replay_s(run, x.device, replays=3)
            best = min(seconds, key=lambda candidate: seconds[candidate])
            self.matmuls[key] = best
            self._reports[key] = _report(str(best), len(trial) * each, seconds[best])
        return self._reports[key]

    def _fastest_attention(self, model: Model, cache: KvCache, batch: int, context: int) -> str:
        key = _attention_key(batch, model)
        if key not in self._reports:
            shape = model.shape
            pairs = batch * shape.num_key_value_heads
            read = 2 * pairs * context * shape.head_dim * cache.keys.element_size()
            count = _enough(read, shape.num_hidden_layers)
            width = (shape.num_attention_heads + 2 * shape.num_key_value_heads) * shape.head_dim
            qkv = torch.randn(batch, width, device=cache.keys.device).to(cache.keys.dtype)
            positions = torch.full((batch,), context, dtype=torch.int32, device=qkv.device)

            def run(choice: AttentionChoice) -> None:
                for index in range(count):
                    self._attend(choice, qkv, cache, index, positions, model)

            seconds: dict[AttentionChoice, float] = {}
            for splits in worthwhile_splits(pairs, context, self.units):
                choice = AttentionChoice(splits=splits)
                seconds[choice] = replay_s(partial(run, choice), qkv.device, replays=3)
            splits = min(seconds, key=lambda choice: seconds[choice]).splits
            for block_t, stages, warps in _ATTENTION_TILES:
                choice = AttentionChoice(splits=splits, block_t=block_t, stages=stages, warps=warps)
                # Wide heads would not fit into shared memory, many query heads into two warps.
                fits = block_t * stages * shape.head_dim <= 48 * 1024
                if fits and (warps >= 4 or shape.gqa <= 16):
                    seconds[choice] = replay_s(partial(run, choice), qkv.device, replays=3)
            best = min(seconds, key=lambda choice: seconds[choice])
            self.attention[key] = best
            self._reports[key] = _report(str(best), count * read, seconds[best])
        return self._reports[key]

    def _attend(  # noqa: PLR0917
        self,
        choice: AttentionChoice,
        qkv: Tensor,
        cache: KvCache,
        index: int,
        positions: Tensor,
        model: Model,
    ) -> Tensor:
        shape, layer = model.shape, model.weights.layers[index]
        batch, H, D = qkv.shape[0], shape.num_attention_heads, shape.head_dim
        splits = choice.splits
        out = qkv.new_empty(batch, H * D)
        single = splits == 1
        parts = 0 if single else batch * H * splits
        partial_sums = out if single else out.new_empty(parts * D, dtype=torch.float32)
        stats = out if single else out.new_empty(2 * parts, dtype=torch.float32)
        kernels.decode_attention[(splits, shape.num_key_value_heads, batch)](
            qkv, cache.keys[index], cache.values[index], model.cos, model.sin, positions,
            _or(layer.q_norm, qkv), _or(layer.k_norm, qkv), out, partial_sums, stats,
            shape.num_key_value_heads, shape.gqa, splits, cache.capacity,
            _LOG2_E / math.sqrt(D), model.eps,
            QK_NORM=layer.q_norm is not None, HEAD_DIM=D,
            BLOCK_G=max(16, _power_of_two(shape.gqa)), BLOCK_T=choice.block_t,
            STAGES=choice.stages, SINGLE=single, num_warps=choice.warps, **self._options(),
        )  # fmt: skip
        if not single:
            kernels.combine_splits[(batch * H,)](
                partial_sums, stats, out, splits, HEAD_DIM=D, BLOCK_S=MAX_SPLITS, **self._options()
            )
        return out

    def _matmul(
        self,
        choice: MatmulChoice,
        x: Tensor,
        w: Tensor,
        *,
        norm: Tensor | None = None,
        eps: float = 0.0,
        gated: bool = False,
        add_to: Tensor | None = None,
    ) -> Tensor:
        m, k = x.shape
        n = w.shape[0] // 2 if gated else w.shape[0]
        out = x.new_empty(m, n) if add_to is None else add_to
        flags = {"NORM": norm is not None, "GATED": gated, "ADD": add_to is not None}
        blocks = math.ceil(n / choice.block_n)
        if choice.kernel == "gemv":
            kernels.gemv[(blocks,)](
                x, w, _or(norm, x), out, n, k, eps, **flags, BLOCK_N=choice.block_n,
                BLOCK_K=choice.block_k, num_warps=choice.warps, **self._options(),
            )  # fmt: skip
        else:
            kernels.skinny_matmul[(blocks, math.ceil(m / choice.block_m))](
                x, w, _or(norm, x), out, m, n, k, eps, **flags, BLOCK_M=choice.block_m,
                BLOCK_N=choice.block_n, BLOCK_K=choice.block_k, STAGES=choice.stages,
                num_warps=choice.warps, **self._options(),
            )  # fmt: skip
        return out

    def _choice(self, kind: Kind, x: Tensor, w: Tensor) -> MatmulChoice:
        return self.matmuls.get(_matmul_key(kind, x.shape[0], w), LIBRARY)

    def _options(self) -> dict[str, bool]:
        return {"PDL": True, "launch_pdl": True} if self.pdl else {"PDL": False}


def _matmul_key(kind: Kind, tokens: int, w: Tensor) -> _Key:
    return kind, tokens, w.shape[0], w.shape[1], 0


def _attention_key(batch: int, model: Model) -> _Key:
    shape = model.shape
    return "attention", batch, shape.num_key_value_heads, shape.gqa, shape.head_dim


def _report(choice: str, read_bytes: int, seconds: float) -> str:
    return f"{choice}: {read_bytes / seconds / 1e12:.2f} TB/s"


def _enough(bytes_each: int, available: int) -> int:
    return max(1, min(available, math.ceil(_BYTES_PER_TRIAL / bytes_each)))


def _or(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    """Kernels take a pointer even where they do not read it."""
    return stand_in if tensor is None else tensor


def _power_of_two(value: int) -> int:
    return 1 << max(0, value - 1).bit_length()


def _warps(block: int) -> int:
    return max(1, min(8, block // 512))
