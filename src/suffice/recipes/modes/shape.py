"""The shape of suffice-nano, chosen by the design plane like any other."""

from __future__ import annotations

from dataclasses import dataclass

from suffice.architecture.counts import parameter_counts
from suffice.architecture.shape import Shape
from suffice.core.errors import NothingFeasible
from suffice.recipes.design.config import DesignConfig
from suffice.recipes.design.run import design

# Prompt and response lengths of the shipped tasks, about their mean.
PROMPT_TOKENS, RESPONSE_TOKENS = 8, 12
POSITIONS = 256
# The smallest head that vLLM's attention on CPUs computes; it refuses 16.
HEAD_DIM = 32
# How far the weights may be from what was asked: embeddings count too, the search leaves them out.
SIZE_TOLERANCE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeChoice:
    """The chosen shape and what the design run had to say about it."""

    shape: Shape
    parameters: int
    role: str
    notes: tuple[str, ...]


def nano_shape(
    vocab_size: int, *, parameters: float, layers: int, positions: int = POSITIONS
) -> ShapeChoice:
    """The fastest Llama shape of about `parameters` weights on a CPU, one request at a time.

    The published law is asked far below its range, which its notes say; of shapes whose speed ties
    it decides by loss, and nothing else hangs on it. The design's pick is taken where transformers
    and vLLM load it as a Llama, else the next runner-up (hidden size a multiple of the heads).
    """
    reference = Shape(
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=HEAD_DIM,
        vocab_size=vocab_size,
        tie_word_embeddings=False,
        config={
            # In steps, so that a problem more changes nothing of the model.
            "max_position_embeddings": max(POSITIONS, -(-positions // 128) * 128),
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
        },
    )
    result = design(
        DesignConfig(
            like=reference,
            tokens=1e7,
            hardware="cpu",
            input_tokens=PROMPT_TOKENS,
            output_tokens=RESPONSE_TOKENS,
            objective="latency",
            batch=1,
            parameters=parameters,
            parameter_tolerance=0.03,
            hidden_multiple=16,
            mlp_multiple=16,
            head_dims=(HEAD_DIM,),
            depths=(layers,),
            gqa_range=(1, 4),
            x_range=(0.1, 0.3),
            confidence=0.5,
            law="bian2025-80m-297m",  # pinned: another law would be another model
            loss_slack=0.4,  # any shape of this size will do: speed decides
            reference_loss=1.0,  # only ratios are used
            extrapolate=True,
            num_runners_up=12,
        )
    )
    for pick in sorted(result.picks, key=lambda pick: _order(pick.role)):
        shape = pick.shape
        total = int(parameter_counts(shape).total)
        loads = shape.hidden_size % shape.num_attention_heads == 0
        # A pick may be the reference itself, under another role and of another size.
        if loads and pick.role != "reference" and abs(total / parameters - 1) < SIZE_TOLERANCE:
            return ShapeChoice(
                shape=shape,
                parameters=total,
                role=pick.role,
                notes=(*result.notes, *pick.notes),
            )
    raise NothingFeasible(
        f"no shape of {parameters:.3g} parameters and {layers} layers loads as a Llama: try "
        "another size"
    )


def _order(role: str) -> tuple[int, int]:
    kinds = ("fastest", "recommended", "runner-up", "lowest-loss", "reference")
    kind, _, number = role.partition(" ")
    return kinds.index(kind), int(number or 0)
