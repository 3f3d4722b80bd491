"""Exact counts of a `Model`: parameters, cache, state and FLOPs.

T  KV length, tokens
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from suffice.architecture.model import Block, Mixer, Model, Run
from suffice.architecture.weight_format import WeightFormat

# Recurrent state is kept in 32 bits by the engines that serve it; it accumulates over the sequence.
STATE_VALUE_BYTES = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameters by part. `total` is what transformers counts: tied weights once, `draft` not.

    `active` are those of `total` that one token meets: all but the experts it is not sent to; of
    tables only the row it reads is met, so `active` counts no embedding but the output matrix.
    """

    embedding: int
    mixing: int
    mlp: int
    experts: int
    rest: int
    lm_head: int
    draft: int
    active: int

    @property
    def total(self) -> int:
        """All parameters of the language model."""
        return self.embedding + self.mixing + self.mlp + self.experts + self.rest + self.lm_head


def parameters(model: Model) -> Parameters:
    """Parameters by part, exact; `rest` are norms and whatever else a layer or the model has."""
    mixing = _stored(model.runs, lambda run: sum(m.part.values for m in run.block.mixers))
    mlp = _stored(
        model.runs,
        lambda run: run.block.mlp.values + sum(e.always.values for e in run.block.experts),
    )
    routed = _stored(
        model.runs, lambda run: sum(e.count * e.expert.values for e in run.block.experts)
    )
    rest = model.body.values + _stored(model.runs, lambda run: run.block.rest.values)
    head = model.head.vectors if model.tied else model.head.values
    idle = _stored(
        model.runs,
        lambda run: sum((e.count - e.per_token) * e.expert.values for e in run.block.experts),
    )
    met = mixing + mlp + routed - idle + rest + model.head.values
    return Parameters(
        embedding=model.lookup,
        mixing=mixing,
        mlp=mlp,
        experts=routed,
        rest=rest,
        lm_head=head,
        draft=_stored(model.draft, lambda run: run.block.values),
        active=met,
    )


def _stored(runs: tuple[Run, ...], values: Callable[[Run], int]) -> int:
    return sum(run.stored * values(run) for run in runs)


def mixers(model: Model) -> tuple[tuple[Mixer, int], ...]:
    """Every kind of mixer and how many layers run it."""
    return tuple((mixer, run.layers) for run in model.runs for mixer in run.block.mixers)


def cached_values_per_token(model: Model) -> float:
    """Values that one more token adds to the cache while no window is full, over all layers."""
    return sum(layers * mixer.cached / mixer.stride for mixer, layers in mixers(model))


def growing_values_per_token(model: Model) -> float:
    """Values that one more token adds once every window is full: what a long sequence grows by."""
    return sum(
        layers * mixer.cached / mixer.stride
        for mixer, layers in mixers(model)
        if mixer.window is None
    )


def cached_values(model: Model, context: int) -> int:
    """Values in the cache of one sequence of `context` tokens, without recurrent state."""
    return sum(layers * mixer.cached * mixer.entries(context) for mixer, layers in mixers(model))


def state_values(model: Model) -> int:
    """Values of recurrent state of one sequence, whatever its length."""
    return sum(layers * mixer.state for mixer, layers in mixers(model))


def sequence_bytes(model: Model, context: int, value_bytes: float) -> float:
    """Bytes that one sequence of `context` tokens holds; recurrent state is in 32 bits."""
    return value_bytes * cached_values(model, context) + STATE_VALUE_BYTES * state_values(model)


def token_matrix_values(model: Model) -> int:
    """Weights that one token is multiplied with, output matrix included."""
    per_layer = sum(
        run.layers
        * (
            sum(m.part.matrix_values for m in run.block.mixers)
            + run.block.mlp.matrix_values
            + run.block.rest.matrix_values
            + sum(
                e.always.matrix_values + e.per_token * e.expert.matrix_values
                for e in run.block.experts
            )
        )
        for run in model.runs
    )
    return per_layer + model.body.matrix_values + model.head.matrix_values


def decode_flops(model: Model, context: int) -> int:
    """FLOPs to decode one token at KV length `context`: both attention matmuls, output matrix."""
    attending = sum(
        layers * (mixer.pair_flops * mixer.attended(context) + mixer.token_flops)
        for mixer, layers in mixers(model)
    )
    return 2 * token_matrix_values(model) + attending


def prefill_flops(model: Model, prompt: int) -> int:
    """FLOPs to prefill `prompt` tokens, causal, with logits for the last token only."""
    body = token_matrix_values(model) - model.head.matrix_values
    attending = sum(
        layers * (mixer.prefill_pair_flops * _pairs(mixer, prompt) + mixer.token_flops * prompt)
        for mixer, layers in mixers(model)
    )
    return 2 * body * prompt + 2 * model.head.matrix_values + attending


def _pairs(mixer: Mixer, prompt: int) -> int:
    """Query-entry pairs of a causal prefill: the sum of what each token attends to."""
    limit = prompt if mixer.window is None else min(mixer.window, prompt)
    if mixer.selected is not None:
        limit = min(limit, mixer.selected * mixer.stride)
    beyond = prompt - limit
    return (limit * (limit + 1) // 2 + beyond * limit) // mixer.stride


def weight_bytes(model: Model, stored: WeightFormat) -> float:
    """Bytes of all weights as a server holds them, on all devices together, `draft` left out.

    Matrices in their formats; embeddings, norms, routers and whatever stands outside the layers in
    16 bits.
    """
    wide = 2.0 * (model.lookup + model.body.values)
    head = model.head.vectors if model.tied else model.head.values
    total = wide + stored.head.value_bytes * head
    for run in model.runs:
        total += run.stored * _block_bytes(run.block, stored)
    return total


def _block_bytes(block: Block, stored: WeightFormat) -> float:
    mixing = [mixer.part for mixer in block.mixers]
    total = stored.attention.value_bytes * sum(part.matrix_values for part in mixing)
    total += stored.mlp.value_bytes * block.mlp.matrix_values
    wide = sum(part.vectors for part in mixing) + block.mlp.vectors + block.rest.values
    for experts in block.experts:
        total += stored.experts.value_bytes * experts.count * experts.expert.matrix_values
        total += stored.mlp.value_bytes * experts.shared.matrix_values
        wide += experts.count * experts.expert.vectors + experts.router.values
        wide += experts.shared.vectors
    return total + 2.0 * wide


def notes_on(model: Model, context: int) -> list[str]:
    """What a count of `model` at `context` tokens rests on or leaves out, a sentence each."""
    notes = []
    if model.left_out:
        notes.append(f"the language model is counted; left out: {', '.join(model.left_out)}")
    if model.assumed:
        notes.append(
            f"the config leaves out {', '.join(model.assumed)}: taken from the family's defaults"
        )
    if model.max_context is not None and context > model.max_context:
        notes.append(
            f"{context:,} tokens are more than max_position_embeddings "
            f"({model.max_context:,}): the model was not trained for them"
        )
    if model.weights.method:
        notes.append(f"the checkpoint is quantised by {model.weights.method}: {model.weights}")
    return notes
