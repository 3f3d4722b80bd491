"""Smaller copies of a shape with the same proportions, for machines too slow for the original.

With hidden size d, MLP width f, and query and KV widths all divided by s at the same depth,
N falls by s², and r = 3f / (2 (d_q + d_kv)), g = h / kv and x = d / sqrt(N) stay exactly.
"""

from __future__ import annotations

from dataclasses import replace

from suffice.architecture.shape import Shape
from suffice.core.errors import InputError

# Attention kernels of engines start at this head size.
SMALLEST_HEAD_DIM = 32


def shrunk(shape: Shape, divisor: int) -> Shape:
    """`shape` with all widths and the vocabulary divided by `divisor`; depth, r, x and g stay.

    Heads become smaller before they become fewer. Raises InputError where it does not divide.
    """
    if divisor == 1:
        return shape
    if divisor < 1:
        raise InputError(f"--shrink must be a positive whole number, got {divisor}")
    head_divisor = divisor
    while head_divisor > 1 and (
        shape.head_dim % head_divisor
        or divisor % head_divisor
        or shape.head_dim // head_divisor < SMALLEST_HEAD_DIM
    ):
        head_divisor -= 1
    fewer = divisor // head_divisor
    whole = {
        "hidden_size": (shape.hidden_size, divisor),
        "intermediate_size": (shape.intermediate_size, divisor),
        "num_attention_heads": (shape.num_attention_heads, fewer),
        "num_key_value_heads": (shape.num_key_value_heads, fewer),
    }
    for name, (value, by) in whole.items():
        if value % by:
            raise InputError(
                f"{shape.name or shape} cannot be divided by {divisor}: {name} {value} is not a "
                f"multiple of {by}"
            )
    smaller = shape.resized(
        hidden_size=shape.hidden_size // divisor,
        intermediate_size=shape.intermediate_size // divisor,
        num_attention_heads=shape.num_attention_heads // fewer,
        num_key_value_heads=shape.num_key_value_heads // fewer,
        head_dim=shape.head_dim // head_divisor,
        name=f"{shape.name or shape.model_type} / {divisor}",
    )
    return replace(smaller, vocab_size=max(1, shape.vocab_size // divisor))
