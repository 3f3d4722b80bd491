"""The torch engine computes what transformers computes, and its kernels what plain torch does."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suffice.architecture.catalog import load_shape
from suffice.architecture.hf_config import config_from_shape
from suffice.architecture.shape import Shape
from suffice.core.errors import InputError, UnsupportedModel
from suffice.throughput.engines.protocol import Lengths

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from suffice.throughput.engines import torch_model  # noqa: E402
from suffice.throughput.engines.decode_run import integrate, ladder  # noqa: E402
from suffice.throughput.engines.torch_engine import TorchEngine  # noqa: E402

pytestmark = pytest.mark.torch

PROMPT = 13
GPU_BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"  # kernel_check.py


def small(heads: int, kv: int, head_dim: int, *, d: int = 64, kind: str = "llama") -> Shape:
    return Shape(
        hidden_size=d, intermediate_size=80, num_hidden_layers=3, num_attention_heads=heads,
        num_key_value_heads=kv, head_dim=head_dim, vocab_size=101, model_type=kind,
        tie_word_embeddings=bool(kv % 2), qk_norm="head" if kind == "qwen3" else "none",
        config={"rms_norm_eps": 1e-5, "rope_theta": 500_000.0},
    )  # fmt: skip


# Attention wider and narrower than the hidden size; KV heads that no vendor table holds.
SHAPES = [
    small(8, 2, 16),
    small(9, 3, 16, d=48),
    small(6, 6, 32),
    small(18, 9, 16),
    small(9, 1, 16),
    small(4, 2, 32, kind="qwen3"),
    small(21, 3, 16, kind="mistral"),
]


def reference_model(shape: Shape, weights: torch_model.Weights, dtype: Any) -> Any:
    """transformers' model with the same weights."""
    config = config_from_shape(shape)
    kind = config.pop("model_type")
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(kind, **config), attn_implementation="eager"
    )
    model = model.to(dtype).eval()
    q = shape.num_attention_heads * shape.head_dim
    k = shape.num_key_value_heads * shape.head_dim
    f = shape.intermediate_size
    named = {
        "model.embed_tokens.weight": weights.embedding,
        "lm_head.weight": weights.head,
        "model.norm.weight": weights.final_norm,
    }
    for index, layer in enumerate(weights.layers):
        parts = {
            "self_attn.q_proj": layer.qkv[:q],
            "self_attn.k_proj": layer.qkv[q : q + k],
            "self_attn.v_proj": layer.qkv[q + k :],
            "self_attn.o_proj": layer.output,
            "mlp.gate_proj": layer.gate_up[:f],
            "mlp.up_proj": layer.gate_up[f:],
            "mlp.down_proj": layer.down,
            "input_layernorm": layer.input_norm,
            "post_attention_layernorm": layer.mlp_norm,
        }
        if layer.q_norm is not None and layer.k_norm is not None:
            parts |= {"self_attn.q_norm": layer.q_norm, "self_attn.k_norm": layer.k_norm}
        named |= {f"model.layers.{index}.{name}.weight": value for name, value in parts.items()}
    assert set(named) == set(model.state_dict()), "a weight was left at its random start"
    for name, value in named.items():
        model.state_dict()[name].copy_(value)
    return model


def magnify(weights: torch_model.Weights) -> None:
    """Weights of .02 make logits nearly equal; larger ones let a wrong path show."""
    weights.embedding.mul_(20)
    for layer in weights.layers:
        for matrix in (layer.qkv, layer.output, layer.gate_up, layer.down):
            matrix.mul_(6)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.model_type}-{s.num_attention_heads}")
def test_prefill_and_decode_equal_transformers(shape: Shape, dtype: str) -> None:
    # float32: rounding of sums. bf16: 2^-9 per rounding, and about ten roundings a layer.
    tolerance = 1e-5 if dtype == "fp32" else 3e-2
    engine = TorchEngine(device="cpu", dtype=dtype, kernels="torch", steps_per_rung=2)
    lengths = Lengths(input_tokens=PROMPT, output_tokens=6)
    with torch.no_grad(), engine.open([shape], lengths, [2]) as (session,):
        assert session.model is not None
        magnify(session.model.weights)
        expected = reference_model(shape, session.model.weights, engine.dtype)
        session.prepare(2)
        run = session.run(2)
        sequence = torch.randint(101, (2, PROMPT), generator=torch.Generator().manual_seed(3))
        logits = run.prefill_prompts(sequence)
        for step in range(4):
            reference = expected(sequence).logits[:, -1]
            assert (logits - reference).norm() / reference.norm() < tolerance
            token = reference.argmax(-1)
            sequence = torch.cat([sequence, token[:, None]], 1)
            run.start(token, PROMPT + step)
            logits = torch_model.decode_logits(
                run.model, engine.ops, run.cache, run.x, run.positions
            )


def test_greedy_steps_equal_repeated_prefill() -> None:
    shape = SHAPES[1]
    engine = TorchEngine(device="cpu", dtype="fp32", kernels="torch", steps_per_rung=2)
    with engine.open([shape], Lengths(input_tokens=PROMPT, output_tokens=8), [3]) as (session,):
        assert session.model is not None
        magnify(session.model.weights)
        session.prepare(3)
        run = session.run(3)
        sequence = torch.randint(101, (3, PROMPT), generator=torch.Generator().manual_seed(5))
        run.start(run.prefill_prompts(sequence).argmax(-1), PROMPT)
        generated = [run.tokens.clone()]
        for _ in range(5):
            run.steps(1)
            generated.append(run.tokens.clone())
        for token in generated:
            assert torch.equal(run.prefill_prompts(sequence).argmax(-1), token)
            sequence = torch.cat([sequence, token[:, None]], 1)


def test_shapes_that_are_open_together_do_not_disturb_each_other() -> None:
    engine = TorchEngine(device="cpu", dtype="fp32", kernels="torch", steps_per_rung=2)
    lengths = Lengths(input_tokens=PROMPT, output_tokens=4)
    prompts = torch.randint(101, (1, PROMPT), generator=torch.Generator().manual_seed(1))
    with engine.open(SHAPES[:2], lengths, [1]) as (first, second):
        first.prepare(1)
        alone = first.run(1).prefill_prompts(prompts)
        second.prepare(1)
        second.measure(1, prefill=True)
        assert torch.equal(first.run(1).prefill_prompts(prompts), alone)


def test_ladder_integrates_a_linear_step_exactly() -> None:
    lengths = Lengths(input_tokens=4096, output_tokens=1024)
    contexts = ladder(lengths, 3)
    assert contexts[0] == 4096
    assert contexts[-1] == 4096 + 1022
    whole = sum(1e-3 + 2e-7 * c for c in range(4096, 4096 + 1023))
    summed = integrate(contexts, [1e-3 + 2e-7 * c for c in contexts], lengths)
    assert summed == pytest.approx(whole, rel=1e-12)


def test_footprint_counts_weights_once_and_the_whole_cache() -> None:
    from suffice.architecture.counts import parameter_counts

    shape = SHAPES[1]
    engine = TorchEngine(device="cpu", dtype="fp32", kernels="torch", steps_per_rung=2)
    lengths = Lengths(input_tokens=PROMPT, output_tokens=4)
    with engine.open([shape], lengths, [2]) as (session,):
        footprint = session.prepare(2)
    assert footprint.weight_bytes == 4 * parameter_counts(shape).total
    per_token = 2 * 4 * 3 * 3 * 16
    assert footprint.kv_cache_bytes == 2 * (PROMPT + 4 + 2) * per_token


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("google/gemma-2-2b", "norms"),
        ("Qwen/Qwen2.5-0.5B", "biases"),
        ("microsoft/phi-2", "ungated"),
        ("allenai/OLMo-2-0425-1B", "whole projection"),
    ],
)
def test_unsupported_shapes_are_refused_by_name(name: str, lacks: str) -> None:
    engine = TorchEngine(device="cpu", kernels="torch")
    with pytest.raises(UnsupportedModel, match=lacks):
        engine.open([load_shape(name)], Lengths(input_tokens=8, output_tokens=2), [1])


def test_odd_head_sizes_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="head_dim 80"):
        torch_model.check_supported(replace(SHAPES[0], head_dim=80))


def test_no_gpu_is_one_clear_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(InputError, match="no GPU is visible"):
        TorchEngine(device="cuda")


INTERPRETED = """
import torch
from kernel_check import AttentionCase, AttentionChoice, check_kernels
from suffice.throughput.engines.triton_ops import TritonOps
case = AttentionCase(kv_heads=3, gqa=3, head_dim=16, batch=2, context=75,
                     choice=AttentionChoice(splits=1, block_t=32))
split = AttentionCase(kv_heads=1, gqa=17, head_dim=16, batch=2, context=50, qk_norm=True,
                      choice=AttentionChoice(splits=3, block_t=16))
checks = check_kernels(TritonOps(pdl=False, units=1), torch.device("cpu"), torch.float32,
                       tokens=(1, 5, 17), matrices=((40, 144),), attention=(case, split))
assert len(checks) > 25, len(checks)
wrong = [c for c in checks if not c.relative_error < 1e-5]
assert not wrong, wrong
"""


def test_triton_kernels_equal_plain_torch_when_interpreted() -> None:
    # float32: the interpreter multiplies bf16 matrices by their bit patterns (triton 3.6).
    pytest.importorskip("triton")
    numpy = pytest.importorskip("numpy")
    if tuple(map(int, numpy.__version__.split(".")[:2])) >= (2, 4):
        pytest.skip("triton's interpreter needs numpy < 2.4 for loops with computed bounds")
    paths = os.pathsep.join((str(GPU_BENCHMARKS), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", INTERPRETED], check=True, env=environment, timeout=300)


@pytest.mark.gpu
def test_triton_kernels_equal_plain_torch_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    pytest.importorskip("triton")
    monkeypatch.syspath_prepend(GPU_BENCHMARKS)
    from kernel_check import (
        AttentionCase,
        AttentionChoice,
        check_kernels,
    )

    engine = TorchEngine(device="cuda", kernels="triton")
    case = AttentionCase(
        kv_heads=6, gqa=7, head_dim=128, batch=3, context=1500,
        choice=AttentionChoice(splits=5),
    )  # fmt: skip
    checks = check_kernels(
        engine.ops, engine.device, torch.bfloat16,  # type: ignore[arg-type]
        tokens=(1, 7, 64), matrices=((2560, 2304),), attention=(case,),
    )  # fmt: skip
    assert all(check.passed for check in checks)
