"""The shape of a dense decoder: what decides its cost and, by the laws, its loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from suffice.core.errors import ConfigError

QkNorm = Literal["none", "head", "full"]

# Far beyond any published model; catches a swapped or mistyped field before it becomes a shape.
_LARGEST = {
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "num_hidden_layers": 1 << 11,
    "num_attention_heads": 1 << 11,
    "num_key_value_heads": 1 << 11,
    "head_dim": 1 << 12,
    "vocab_size": 1 << 24,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A dense decoder-only transformer, with the field names of a Hugging Face `config.json`.

    `head_dim` is always explicit: `num_attention_heads * head_dim` need not equal `hidden_size`.
    `qk_norm` is "head" for one weight vector of `head_dim` (Qwen3, Gemma 3) and "full" for one of
    the whole projection (OLMo 2). `config` holds the keys that do not change any count, verbatim,
    so that a shape read from a file can be written back.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool = True
    model_type: str = "llama"
    gated_mlp: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    lm_head_bias: bool = False
    qk_norm: QkNorm = "none"
    norms_per_layer: int = 2
    norm_bias: bool = False
    sliding_window: int | None = None
    num_sliding_layers: int = 0
    name: str | None = field(default=None, compare=False)
    config: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False, repr=False)

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            _check_dimension(name, getattr(self, name), largest)
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads}): each KV head serves a whole "
                "number of query heads"
            )
        if self.head_dim % 2:
            raise ConfigError(
                f"head_dim ({self.head_dim}) must be even: rotary embeddings turn pairs"
            )
        if not 0 <= self.num_sliding_layers <= self.num_hidden_layers:
            raise ConfigError(
                f"num_sliding_layers ({self.num_sliding_layers}) must lie between 0 and "
                f"num_hidden_layers ({self.num_hidden_layers})"
            )

    @property
    def gqa(self) -> int:
        """Query heads that share one KV head."""
        return self.num_attention_heads // self.num_key_value_heads

    def resized(
        self,
        *,
        hidden_size: int,
        intermediate_size: int,
        num_attention_heads: int,
        num_key_value_heads: int,
        head_dim: int | None = None,
        num_hidden_layers: int | None = None,
        name: str | None = None,
    ) -> Shape:
        """The same family and vocabulary with other dimensions; the name is not inherited."""
        depth = self.num_hidden_layers if num_hidden_layers is None else num_hidden_layers
        if depth != self.num_hidden_layers and self.num_sliding_layers:
            raise ConfigError(
                f"the depth of a {self.model_type} shape with sliding-window layers cannot be "
                "changed: which layers slide would be a guess"
            )
        return replace(
            self,
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
            num_attention_heads=num_attention_heads,
            num_key_value_heads=num_key_value_heads,
            head_dim=self.head_dim if head_dim is None else head_dim,
            num_hidden_layers=depth,
            name=name,
        )

    def __str__(self) -> str:
        return (
            f"{self.name or self.model_type}: hidden {self.hidden_size}, MLP "
            f"{self.intermediate_size}, {self.num_hidden_layers} layers, "
            f"{self.num_attention_heads}/{self.num_key_value_heads} heads of {self.head_dim}"
        )


def _check_dimension(name: str, value: object, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} must be a whole number, got {value!r}")
    if not 1 <= value <= largest:
        raise ConfigError(f"{name} must lie between 1 and {largest}, got {value}")
