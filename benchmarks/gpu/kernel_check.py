"""Every Triton kernel against plain torch in float32: fresh random inputs, poisoned outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from suffice.architecture.shape import Shape
from suffice.throughput.engines.torch_model import (
    KvCache,
    LayerWeights,
    Model,
    TorchOps,
    Weights,
    build_model,
    random_weights,
)
from suffice.throughput.engines.triton_ops import (
    AttentionChoice,
    Kind,
    TritonOps,
    matmul_candidates,
)

# bf16 holds 8 bits: a rounding is up to 2^-9, and a step rounds a few times.
TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """‖out − reference‖ / ‖reference‖ of one kernel on one input."""

    name: str
    relative_error: float

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return self.relative_error < TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCase:
    """One attention problem; contexts differ between the sequences."""

    kv_heads: int
    gqa: int
    head_dim: int
    batch: int
    context: int
    choice: AttentionChoice
    qk_norm: bool = False


def check_kernels(
    ops: TritonOps,
    device: torch.device,
    dtype: torch.dtype,
    *,
    tokens: tuple[int, ...],
    matrices: tuple[tuple[int, int], ...],
    attention: tuple[AttentionCase, ...],
    seed: int = 0,
) -> list[Check]:
    """Check all matrix kernels on `tokens` x `matrices` (N, K), attention, norm and prefill."""
    generator = torch.Generator(device=device).manual_seed(seed)
    checks: list[Check] = []
    with _poisoned_allocations():
        for rows in tokens:
            for n, k in matrices:
                checks += _matmuls(ops, _Draw(generator, dtype), (rows, n, k))
        for case in attention:
            checks += _attention(ops, generator, dtype, case)
            checks.append(_prefill_rotation(ops, generator, dtype, case))
        checks.append(_advance(ops, generator, dtype))
    return checks


def relative_error(out: Tensor, reference: Tensor) -> float:
    """‖out − reference‖ / ‖reference‖ in float64; NaN if anything is."""
    out, reference = out.double(), reference.double()
    return float((out - reference).norm() / reference.norm())


def _matmuls(ops: TritonOps, draw: _Draw, size: tuple[int, int, int]) -> Iterator[Check]:
    reference = TorchOps()
    rows, n, k = size
    kinds: tuple[Kind, ...] = ("linear", "gated", "add")
    for kind in kinds:
        for choice in matmul_candidates(rows, kind):
            x, norm = draw(rows, k), 1 + 0.1 * draw(k)
            w = draw(2 * n if kind == "gated" else n, k) * k**-0.5
            held = draw(rows, n)
            ops.matmuls[(kind, rows, w.shape[0], k, 0)] = choice
            wide = (x.float(), norm.float(), w.float(), 1e-5)
            if kind == "linear":
                out, expected = ops.norm_linear(x, norm, w, 1e-5), reference.norm_linear(*wide)
            elif kind == "gated":
                out, expected = ops.norm_gated(x, norm, w, 1e-5), reference.norm_gated(*wide)
            else:
                expected = reference.add_linear(_copied(held), x.float(), w.float())
                out = ops.add_linear(held, x, w)
            del ops.matmuls[(kind, rows, w.shape[0], k, 0)]
            yield Check(
                name=f"{kind} {rows}x{n}x{k} {choice}", relative_error=relative_error(out, expected)
            )


def _attention(
    ops: TritonOps, generator: torch.Generator, dtype: torch.dtype, case: AttentionCase
) -> list[Check]:
    model, cache = _attention_problem(generator, dtype, case)
    draw = _Draw(generator, dtype)
    shape = model.shape
    qkv = draw(case.batch, (shape.num_attention_heads + 2 * case.kv_heads) * case.head_dim)
    span = torch.arange(case.batch, device=generator.device)
    positions = (case.context - 7 * span).clamp(min=0).to(torch.int32)
    wide_cache = KvCache(keys=_copied(cache.keys), values=_copied(cache.values))
    expected = TorchOps().attend(qkv.float(), wide_cache, 1, positions, _widened(model))
    ops.attention[("attention", case.batch, case.kv_heads, case.gqa, case.head_dim)] = case.choice
    out = ops.attend(qkv, cache, 1, positions, model)
    name = (
        f"attention {case.batch}x{case.kv_heads}x{case.gqa}x{case.head_dim} at {case.context}, "
        f"{case.choice}"
    )
    return [
        Check(name=name, relative_error=relative_error(out, expected)),
        Check(name=f"{name}, keys", relative_error=relative_error(cache.keys, wide_cache.keys)),
        Check(
            name=f"{name}, values", relative_error=relative_error(cache.values, wide_cache.values)
        ),
    ]


def _prefill_rotation(
    ops: TritonOps, generator: torch.Generator, dtype: torch.dtype, case: AttentionCase
) -> Check:
    model, cache = _attention_problem(generator, dtype, case)
    prompt = max(1, min(case.context, 33))
    shape = model.shape
    qkv = _Draw(generator, dtype)(
        case.batch * prompt, (shape.num_attention_heads + 2 * case.kv_heads) * case.head_dim
    )
    wide_cache = KvCache(keys=_copied(cache.keys), values=_copied(cache.values))
    rows = slice(0, case.batch)
    expected = TorchOps().rotate_and_cache(
        qkv.float(), wide_cache, 1, rows=rows, prompt=prompt, model=_widened(model)
    )
    out = ops.rotate_and_cache(qkv, cache, 1, rows=rows, prompt=prompt, model=model)
    errors = [
        relative_error(out, expected),
        relative_error(cache.keys, wide_cache.keys),
        relative_error(cache.values, wide_cache.values),
    ]
    return Check(
        name=f"prefill rotation {case.batch}x{case.kv_heads}x{case.gqa}x{case.head_dim}",
        relative_error=sum(errors),
    )


def _advance(ops: TritonOps, generator: torch.Generator, dtype: torch.dtype) -> Check:
    """Greedy choice, position and next input must be exact: the error is 0 or NaN."""
    draw = _Draw(generator, dtype)
    logits, embedding, x = draw(3, 10_007), draw(10_007, 96), draw(3, 96)
    tokens = torch.zeros(3, dtype=torch.int64, device=generator.device)
    positions = torch.tensor([0, 5, 4095], dtype=torch.int32, device=generator.device)
    norm = draw(96)
    weights = Weights(embedding=embedding, layers=(), final_norm=norm, head=embedding)
    ops.advance(logits, tokens, positions, x, weights)
    # Equal logits may be told apart either way; the value must be the largest.
    chosen = logits.gather(1, tokens[:, None])[:, 0]
    exact = (
        torch.equal(chosen, logits.amax(1))
        and torch.equal(x, embedding[tokens])
        and positions.tolist() == [1, 6, 4096]
    )
    return Check(name="greedy token", relative_error=0.0 if exact else float("nan"))


def _attention_problem(
    generator: torch.Generator, dtype: torch.dtype, case: AttentionCase
) -> tuple[Model, KvCache]:
    shape = Shape(
        hidden_size=64, intermediate_size=64, num_hidden_layers=2, vocab_size=16,
        num_attention_heads=case.kv_heads * case.gqa, num_key_value_heads=case.kv_heads,
        head_dim=case.head_dim, qk_norm="head" if case.qk_norm else "none",
        config={"rope_theta": 500_000.0},
    )  # fmt: skip
    weights = random_weights(
        shape, device=generator.device, dtype=dtype, seed=generator.initial_seed()
    )
    capacity = max(case.context + 16, 48)
    arena = _Draw(generator, dtype)(
        KvCache.bytes_for(shape, case.batch, capacity, dtype.itemsize) // dtype.itemsize
    )
    model = build_model(shape, weights, capacity=capacity)
    return model, KvCache.view(arena, shape, case.batch, capacity)


def _widened(model: Model) -> Model:
    def wide(layer: LayerWeights) -> LayerWeights:
        q, k = layer.q_norm, layer.k_norm
        return replace(
            layer,
            q_norm=None if q is None else q.float(),
            k_norm=None if k is None else k.float(),
        )

    layers = tuple(wide(layer) for layer in model.weights.layers)
    return replace(model, weights=replace(model.weights, layers=layers))


def _copied(tensor: Tensor) -> Tensor:
    """A float32 copy, also of what is float32 already: both sides write in place."""
    return tensor.to(torch.float32, copy=True)


class _Draw:
    """Standard normal values, rounded to the dtype."""

    def __init__(self, generator: torch.Generator, dtype: torch.dtype) -> None:
        self.generator, self.dtype = generator, dtype

    def __call__(self, *size: int) -> Tensor:
        values = torch.randn(size, generator=self.generator, device=self.generator.device)
        return values.to(self.dtype)


@contextmanager
def _poisoned_allocations() -> Iterator[None]:
    """Fill what is allocated uninitialised with NaN, so that an element left out shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
