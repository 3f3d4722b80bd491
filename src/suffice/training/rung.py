"""One training run to make: a shape, a number of tokens, a seed; and the recipe all runs share."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from suffice.architecture.counts import aspect, mlp_to_attention_ratio, non_embedding_parameters
from suffice.architecture.shape import Shape
from suffice.core.errors import ConfigError

Schedule = Literal["cosine", "wsd"]
Precision = Literal["fp32", "bf16"]

# The dimensions that a ladder varies; everything else of a shape is the Llama family's default.
DIMENSIONS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)


_LATER_FIELDS = frozenset(
    {"layer_rate_exponent", "base_layers", "repeated_kv_rate", "decay_evaluations"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How every rung is trained. Two runs are comparable only if their recipes are equal.

    `aimed_steps` sets the batch: the power of two of sequences nearest to tokens / (aimed_steps *
    sequence_length), so that small and large rungs take about as many steps.
    `peak_learning_rate` holds for a matrix of fan-in `base_fan_in`; see `optimiser`.
    `layer_rate_exponent`: matrices inside layers learn at (base_layers / layers) to this power.
    `repeated_kv_rate`: key and value matrices learn slower the more query heads share them.
    The loss of a run is the mean of its last `decay_evaluations`, spread over the last tenth.
    """

    sequence_length: int = 256
    aimed_steps: int = 1000
    min_batch_sequences: int = 4
    max_batch_sequences: int = 1024
    peak_learning_rate: float = 4e-3
    base_fan_in: int = 256
    embedding_std: float = 1.0
    schedule: Schedule = "cosine"
    warmup_share: float = 0.05
    decay_share: float = 0.2
    final_learning_rate_share: float = 0.05
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    gradient_clip: float = 1.0
    evaluation_sequences: int = 1024
    precision: Precision = "fp32"
    layer_rate_exponent: float = 0.0
    base_layers: int = 4
    repeated_kv_rate: bool = False
    decay_evaluations: int = 1

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "wsd"):
            raise ConfigError(f"schedule must be cosine or wsd, got {self.schedule!r}")
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"precision must be fp32 or bf16, got {self.precision!r}")
        for name in ("sequence_length", "aimed_steps", "min_batch_sequences", "base_fan_in",
                     "base_layers", "decay_evaluations", "evaluation_sequences",
                     "peak_learning_rate", "gradient_clip"):  # fmt: skip
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup_share", "decay_share", "final_learning_rate_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")

    @property
    def sha256(self) -> str:
        """12 hexadecimal digits over every field but the precision.

        CPU rungs train in fp32 and GPU rungs in bf16 by one recipe; each record says which.
        Fields that came later count only away from their defaults, so that older records keep
        their names.
        """
        defaults = {f.name: f.default for f in fields(self) if f.name in _LATER_FIELDS}
        values = {
            k: v
            for k, v in asdict(self).items()
            if k != "precision" and not (k in defaults and v == defaults[k])
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def batch_sequences(self, tokens: int) -> int:
        """Sequences per optimiser step for a run of `tokens`."""
        ideal = tokens / (self.aimed_steps * self.sequence_length)
        nearest: int = 1 << round(math.log2(max(ideal, 1.0)))
        return max(self.min_batch_sequences, min(self.max_batch_sequences, nearest))

    def steps(self, tokens: int) -> int:
        """Optimiser steps for a run of at least `tokens`."""
        return max(1, math.ceil(tokens / (self.batch_sequences(tokens) * self.sequence_length)))

    def trained_tokens(self, tokens: int) -> int:
        """Tokens that a run asked for `tokens` sees: whole batches."""
        return self.steps(tokens) * self.batch_sequences(tokens) * self.sequence_length


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRung:
    """One run of a ladder. `purpose` says why it is there and does not change the run."""

    shape: Shape
    tokens: int
    seed: int = 0
    learning_rate_factor: float = 1.0
    purpose: str = "design"

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigError(f"a rung needs a positive number of tokens, got {self.tokens}")
        if not 0 <= self.seed < 1 << 31:
            raise ConfigError(f"seed must lie between 0 and 2**31 - 1, got {self.seed}")

    @property
    def parameters(self) -> int:
        """N, non-embedding."""
        return int(non_embedding_parameters(self.shape))

    def run_id(self, recipe: Recipe, data_fingerprint: str) -> str:
        """12 hexadecimal digits that name this rung under a recipe and a data set."""
        key = {
            "dimensions": dimensions(self.shape),
            "tokens": self.tokens,
            "seed": self.seed,
            "learning_rate_factor": self.learning_rate_factor,
            "recipe": recipe.sha256,
            "precision": recipe.precision,
            "data": data_fingerprint,
        }
        return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a plan file."""
        return {
            **dimensions(self.shape),
            "tokens": self.tokens,
            "seed": self.seed,
            "learning_rate_factor": self.learning_rate_factor,
            "purpose": self.purpose,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LadderRung:
        """The rung behind `to_json`'s values; unknown and missing keys are errors."""
        own = {f.name for f in fields(cls)} - {"shape"}
        unknown = set(values) - own - set(DIMENSIONS)
        missing = (own | set(DIMENSIONS)) - set(values)
        if unknown or missing:
            raise ConfigError(
                f"a rung has the keys {', '.join((*DIMENSIONS, *sorted(own)))}; "
                f"unknown: {sorted(unknown) or 'none'}, missing: {sorted(missing) or 'none'}"
            )
        return cls(
            shape=ladder_shape(**{key: values[key] for key in DIMENSIONS}),
            **{key: values[key] for key in own},
        )


def dimensions(shape: Shape) -> dict[str, int]:
    """The dimensions of `shape` that a ladder varies."""
    return {key: getattr(shape, key) for key in DIMENSIONS}


def ladder_shape(**dimensions: Any) -> Shape:
    """A Llama shape with an untied output matrix, as every rung has.

    Untied, because the learning-rate rule treats input and output embeddings differently.
    """
    return Shape(
        **dimensions,
        tie_word_embeddings=False,
        config={"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0},
    )


def law_coordinates(shape: Shape) -> dict[str, float]:
    """x, r and the KV share (KV heads over query heads) of `shape`."""
    return {
        "x": float(aspect(shape)),
        "r": float(mlp_to_attention_ratio(shape)),
        "kv_share": shape.num_key_value_heads / shape.num_attention_heads,
    }
