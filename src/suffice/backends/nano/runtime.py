"""A Llama model's forward pass in NumPy, float32, one sequence at a time with a KV cache.

For models of up to a few million parameters: there the arithmetic takes microseconds, and a
framework's start-up and memory would be most of the cost.

n  new tokens   T  tokens so far   h  query heads   k  KV heads   c  head size   V  vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suffice.backends.nano.vocabulary import Vocabulary
from suffice.backends.nano.weights import Array, NanoConfig, read_config, read_weights
from suffice.core.errors import CorruptData, InputError


@dataclass(slots=True)
class SequenceCache:
    """Keys and values of one sequence, per layer (k, capacity, c); grows by doubling."""

    keys: list[Array]
    values: list[Array]
    length: int = 0

    def copy(self) -> SequenceCache:
        """An independent cache, so that several samples share one prefill."""
        return SequenceCache(
            [a.copy() for a in self.keys], [a.copy() for a in self.values], self.length
        )


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Array
    qkv: Array  # (d, d_q + 2 d_kv): one product instead of three
    output: Array
    mlp_norm: Array
    gate_up: Array  # (d, 2 f)
    down: Array


class NanoModel:
    """Weights and vocabulary of one model folder, ready to compute."""

    def __init__(self, folder: Path) -> None:
        self.config = read_config(folder)
        tokenizer = folder / "tokenizer.json"
        if not tokenizer.is_file():
            raise InputError(f"{str(folder)!r} has no tokenizer.json: is it a model folder?")
        self.vocabulary = Vocabulary.from_json(
            tokenizer.read_text(encoding="utf-8"), source=str(tokenizer)
        )
        if len(self.vocabulary) > self.config.vocab_size:
            raise CorruptData(
                f"{str(tokenizer)!r} has {len(self.vocabulary)} tokens, config.json only "
                f"{self.config.vocab_size}: the two files do not belong together"
            )
        weights = read_weights(folder, self.config)
        self._embedding = weights["model.embed_tokens.weight"]
        self._layers = [_layer(weights, i) for i in range(self.config.num_hidden_layers)]
        self._norm = weights["model.norm.weight"]
        self._head = _transposed(weights.get("lm_head.weight", self._embedding))
        self._cos, self._sin = _rotary_tables(self.config)

    @property
    def parameters(self) -> int:
        """Number of weights, embeddings included."""
        layers = sum(
            a.size
            for layer in self._layers
            for a in (layer.attention_norm, layer.qkv, layer.output,
                      layer.mlp_norm, layer.gate_up, layer.down)
        )  # fmt: skip
        tied = self.config.tie_word_embeddings
        return layers + self._norm.size + self._embedding.size * (1 if tied else 2)

    def start(self, capacity: int = 64) -> SequenceCache:
        """An empty cache."""
        shape = (self.config.num_key_value_heads, capacity, self.config.head_dim)
        layers = range(self.config.num_hidden_layers)
        return SequenceCache(
            [np.empty(shape, np.float32) for _ in layers],
            [np.empty(shape, np.float32) for _ in layers],
        )

    def embed(self, ids: Sequence[int]) -> Array:
        """The ids' vectors, (n, d)."""
        vectors_nd: Array = self._embedding[np.asarray(ids)]
        return vectors_nd

    def advance(self, ids: Sequence[int], cache: SequenceCache) -> Array:
        """Logits (V,) after `ids`, which are appended to `cache`."""
        return self.advance_vectors(self.embed(ids), cache)

    def advance_vectors(self, hidden_nd: Array, cache: SequenceCache) -> Array:
        """`advance` with vectors (n, d) in the place of ids."""
        for index, layer in enumerate(self._layers):
            normed_nd = _rms_norm(hidden_nd, layer.attention_norm, self.config.rms_norm_eps)
            hidden_nd = hidden_nd + self._attend(normed_nd, layer, cache, index) @ layer.output
            normed_nd = _rms_norm(hidden_nd, layer.mlp_norm, self.config.rms_norm_eps)
            both_nF, f = normed_nd @ layer.gate_up, self.config.intermediate_size
            gate_nf, up_nf = both_nF[:, :f], both_nF[:, f:]
            # silu(x) = x sigmoid(x); sigmoid by tanh, which does not overflow.
            silu_nf = gate_nf * (0.5 * (np.tanh(0.5 * gate_nf) + 1.0))
            hidden_nd = hidden_nd + (silu_nf * up_nf) @ layer.down
        cache.length += len(hidden_nd)
        last_d = _rms_norm(hidden_nd[-1], self._norm, self.config.rms_norm_eps)
        logits_V: Array = last_d @ self._head
        return logits_V[: len(self.vocabulary)]

    def _attend(self, normed_nd: Array, layer: _Layer, cache: SequenceCache, index: int) -> Array:
        shape, n = self.config, len(normed_nd)
        h, k, c = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
        start, stop = cache.length, cache.length + n
        if stop > shape.max_position_embeddings:
            raise InputError(
                f"the sequence has {stop} tokens, the model takes "
                f"{shape.max_position_embeddings} at most"
            )
        cos_nc, sin_nc = self._cos[start:stop], self._sin[start:stop]
        heads = (normed_nd @ layer.qkv).reshape(n, h + 2 * k, c).transpose(1, 0, 2)
        q_hnc = _rotate(heads[:h], cos_nc, sin_nc)
        _append(cache.keys, index, _rotate(heads[h : h + k], cos_nc, sin_nc), start)
        _append(cache.values, index, heads[h + k :], start)
        keys_kTc, values_kTc = cache.keys[index][:, :stop], cache.values[index][:, :stop]
        # Query heads of one KV head lie together: (k, h/k * n, c) against (k, c, T).
        q_kgc = q_hnc.reshape(k, h // k * n, c)
        scores = (q_kgc @ keys_kTc.transpose(0, 2, 1)) * np.float32(c**-0.5)
        if n > 1:
            future_nT = np.arange(stop)[None, :] > np.arange(start, stop)[:, None]
            scores = np.where(np.tile(future_nT, (h // k, 1))[None], np.float32(-np.inf), scores)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: Array = (scores @ values_kTc).reshape(h, n, c).transpose(1, 0, 2).reshape(n, h * c)
        return mixed


def greedy(
    model: NanoModel, ids: Sequence[int], *, max_tokens: int, cache: SequenceCache | None = None
) -> list[int]:
    """Most likely continuation of `ids`, up to and with the end token."""
    cache = model.start() if cache is None else cache
    end = model.vocabulary.id("<end>")
    drawn: list[int] = []
    step = list(ids)
    while len(drawn) < max_tokens:
        token = int(model.advance(step, cache).argmax())
        drawn.append(token)
        if token == end:
            break
        step = [token]
    return drawn


def _layer(weights: dict[str, Array], index: int) -> _Layer:
    at = f"model.layers.{index}"
    qkv = [weights[f"{at}.self_attn.{name}_proj.weight"] for name in "qkv"]
    gate_up = [weights[f"{at}.mlp.{name}_proj.weight"] for name in ("gate", "up")]
    return _Layer(
        attention_norm=weights[f"{at}.input_layernorm.weight"],
        qkv=_transposed(np.concatenate(qkv)),
        output=_transposed(weights[f"{at}.self_attn.o_proj.weight"]),
        mlp_norm=weights[f"{at}.post_attention_layernorm.weight"],
        gate_up=_transposed(np.concatenate(gate_up)),
        down=_transposed(weights[f"{at}.mlp.down_proj.weight"]),
    )


def _transposed(matrix: Array) -> Array:
    return np.ascontiguousarray(matrix.T)


def _rms_norm(x: Array, weight: Array, eps: float) -> Array:
    # The reduction itself: np.mean's own bookkeeping would be a third of a token's time.
    squares: Array = np.add.reduce(x * x, axis=-1, keepdims=True)
    scale: Array = np.sqrt(squares / np.float32(x.shape[-1]) + np.float32(eps))
    normed: Array = weight * (x / scale)
    return normed


def _rotary_tables(config: NanoConfig) -> tuple[Array, Array]:
    half = np.arange(0, config.head_dim, 2, dtype=np.float32) / config.head_dim
    inverse = (1.0 / config.rope_theta**half).astype(np.float32)
    angles = np.outer(np.arange(config.max_position_embeddings, dtype=np.float32), inverse)
    twice: Array = np.concatenate([angles, angles], axis=1)
    return np.cos(twice), np.sin(twice)


def _rotate(x_hnc: Array, cos_nc: Array, sin_nc: Array) -> Array:
    half = x_hnc.shape[-1] // 2
    turned = np.empty_like(x_hnc)
    np.negative(x_hnc[..., half:], out=turned[..., :half])
    turned[..., half:] = x_hnc[..., :half]
    return x_hnc * cos_nc + turned * sin_nc


def _append(store: list[Array], index: int, new_knc: Array, start: int) -> None:
    stop = start + new_knc.shape[1]
    if stop > store[index].shape[1]:
        k, capacity, c = store[index].shape
        grown = np.empty((k, max(stop, 2 * capacity), c), np.float32)
        grown[:, :start] = store[index][:, :start]
        store[index] = grown
    store[index][:, start:stop] = new_knc
