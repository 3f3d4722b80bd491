from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from suffice.architecture import counts
from suffice.architecture.families.uniform import UNIFORM
from suffice.architecture.hf_config import config_from_shape, shape_from_config
from suffice.architecture.search import pareto_front
from suffice.architecture.shape import Shape

shapes = st.builds(
    lambda d, f, layers, kv, gqa, head, vocab, tied: Shape(
        hidden_size=d,
        intermediate_size=f,
        num_hidden_layers=layers,
        num_attention_heads=kv * gqa,
        num_key_value_heads=kv,
        head_dim=2 * head,
        vocab_size=vocab,
        tie_word_embeddings=tied,
    ),
    st.integers(1, 4096),
    st.integers(1, 16384),
    st.integers(1, 80),
    st.integers(1, 32),
    st.integers(1, 12),
    st.integers(1, 128),
    st.integers(1, 200_000),
    st.booleans(),
)


@given(shapes)
def test_counts_are_the_sum_of_the_matrices(shape: Shape) -> None:
    d, d_q = shape.hidden_size, shape.num_attention_heads * shape.head_dim
    d_kv = shape.num_key_value_heads * shape.head_dim
    layer = [(d, d_q), (d, d_kv), (d, d_kv), (d_q, d)] + [(d, shape.intermediate_size)] * 3
    matrices = sum(rows * columns for rows, columns in layer) * shape.num_hidden_layers
    assert counts.non_embedding_parameters(shape) == matrices
    copies = 1 if shape.tie_word_embeddings else 2
    norms = (2 * shape.num_hidden_layers + 1) * d
    total = matrices + copies * d * shape.vocab_size + norms
    assert counts.parameter_counts(shape).total == total


@given(shapes)
def test_config_round_trip(shape: Shape) -> None:
    config = config_from_shape(shape)
    again = shape_from_config(config)
    assert counts.parameter_counts(again) == counts.parameter_counts(shape)
    if config["model_type"] == "llama":
        assert again == shape


@given(shapes, st.integers(2, 5))
def test_kv_bytes_are_linear_in_kv_heads(shape: Shape, times: int) -> None:
    more = shape.resized(
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_attention_heads=shape.num_attention_heads * times,
        num_key_value_heads=shape.num_key_value_heads * times,
    )
    assert counts.kv_cache_bytes_per_token(more, "bf16") == times * (
        counts.kv_cache_bytes_per_token(shape, "bf16")
    )


@given(shapes, st.integers(1, 200))
def test_prefill_is_the_sum_of_its_tokens(shape: Shape, prompt: int) -> None:
    body = sum(counts.decode_flops(shape, i, "matmul", lm_head=False) for i in range(1, prompt + 1))
    head = 2 * counts.lm_head_parameters(shape)
    assert counts.prefill_flops(shape, prompt, "matmul") == body + head


@given(st.sampled_from(sorted(UNIFORM)), st.integers(1, 9000))
def test_a_window_never_attends_to_more(model_type: str, context: int) -> None:
    base = Shape(
        hidden_size=64, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, vocab_size=10, model_type=model_type,
    )  # fmt: skip
    windowed = Shape(
        hidden_size=64, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, vocab_size=10, model_type=model_type,
        sliding_window=512, num_sliding_layers=3,
    )  # fmt: skip
    seen = counts.attended_tokens(windowed, context)
    assert seen == context + 3 * min(context, 512)
    assert seen <= counts.attended_tokens(base, context)
    explicit = sum(
        counts.decode_flops(windowed, i, "matmul", lm_head=False) for i in range(1, context + 1, 1)
    ) if context < 700 else None  # fmt: skip
    if explicit is not None:
        head = 2 * counts.lm_head_parameters(windowed)
        assert counts.prefill_flops(windowed, context, "matmul") == explicit + head


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
def test_pareto_front_against_the_double_loop(points: list[tuple[int, int]]) -> None:
    first, second = np.array(points, dtype=float).T
    front = {points[i] for i in pareto_front(first, second)}
    undominated = {
        p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)
    }
    assert front == undominated
    assert len(pareto_front(first, second)) == len(front)
