"""FLOPs of a training run, for cost estimates and utilisation. Needs no torch."""

from __future__ import annotations

from suffice.architecture.counts import query_width
from suffice.training.rung import LadderRung, Recipe


def training_flops(rung: LadderRung, recipe: Recipe) -> float:
    """Matmul FLOPs of a run: three times the forward pass.

    6 (N + d V) + 6 L T d_q per token, T the sequence length: both attention matmuls over the
    causal half. Convention: "matmul".
    """
    shape = rung.shape
    matrices = rung.parameters + shape.hidden_size * shape.vocab_size
    attention = shape.num_hidden_layers * recipe.sequence_length * query_width(shape)
    return 6.0 * (matrices + attention) * recipe.trained_tokens(rung.tokens)
