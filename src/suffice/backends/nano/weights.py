"""A model folder's config and weights as NumPy arrays: safetensors without its library."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.core.errors import CorruptData, UnsupportedModel
from suffice.core.files import read_json

Array = NDArray[np.float32]

WEIGHTS = "model.safetensors"
RECORD = "record.json"  # what `suffice train` notes beside a model; holds the weights' hash
_HEADER_BYTES = 8
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class NanoConfig:
    """The dimensions of a Llama model that the NumPy runtime needs."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool


def read_config(folder: Path) -> NanoConfig:
    """The folder's `config.json`; raises UnsupportedModel for anything but a plain Llama."""
    path = folder / "config.json"
    values = read_json(path, what="model config")
    if not isinstance(values, dict) or values.get("model_type") != "llama":
        kind = values.get("model_type") if isinstance(values, dict) else None
        raise UnsupportedModel(
            f"{str(path)!r} is of model_type {kind!r}; the runtime without torch computes Llama "
            "models alone: serve it with transformers or vLLM"
        )
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", "default")
    unusual = [key for key in ("attention_bias", "mlp_bias") if values.get(key)]
    if unusual or kind != "default" or values.get("hidden_act", "silu") != "silu":
        raise UnsupportedModel(
            f"{str(path)!r} has biases, scaled rotary embeddings or another activation, which the "
            "runtime without torch does not compute: serve it with transformers or vLLM"
        )
    try:
        heads = int(values["num_attention_heads"])
        return NanoConfig(
            hidden_size=int(values["hidden_size"]),
            intermediate_size=int(values["intermediate_size"]),
            num_hidden_layers=int(values["num_hidden_layers"]),
            num_attention_heads=heads,
            num_key_value_heads=int(values.get("num_key_value_heads") or heads),
            head_dim=int(values.get("head_dim") or int(values["hidden_size"]) // heads),
            vocab_size=int(values["vocab_size"]),
            max_position_embeddings=int(values.get("max_position_embeddings", 2048)),
            rms_norm_eps=float(values.get("rms_norm_eps", 1e-6)),
            rope_theta=float(rope.get("rope_theta") or values.get("rope_theta") or 10000.0),
            tie_word_embeddings=bool(values.get("tie_word_embeddings", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"{str(path)!r} lacks or garbles a dimension: {error}") from None


def expected_shapes(config: NanoConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a model of this config has."""
    d, f, V = config.hidden_size, config.intermediate_size, config.vocab_size
    d_q = config.num_attention_heads * config.head_dim
    d_kv = config.num_key_value_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, d)}
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.input_layernorm.weight": (d,),
            f"{at}.self_attn.q_proj.weight": (d_q, d),
            f"{at}.self_attn.k_proj.weight": (d_kv, d),
            f"{at}.self_attn.v_proj.weight": (d_kv, d),
            f"{at}.self_attn.o_proj.weight": (d, d_q),
            f"{at}.post_attention_layernorm.weight": (d,),
            f"{at}.mlp.gate_proj.weight": (f, d),
            f"{at}.mlp.up_proj.weight": (f, d),
            f"{at}.mlp.down_proj.weight": (d, f),
        }
    shapes["model.norm.weight"] = (d,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (V, d)
    return shapes


def read_weights(folder: Path, config: NanoConfig) -> dict[str, Array]:
    """All tensors in float32, checked against the config and a recorded hash."""
    path = folder / WEIGHTS
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptData(f"weights {str(path)!r} cannot be read: {error.strerror}") from None
    _check_hash(folder, path, data)
    tensors = _parse(path, data)
    for name, shape in expected_shapes(config).items():
        found = tensors.get(name)
        if found is None or found.shape != shape:
            got = "is missing" if found is None else f"has shape {found.shape}"
            raise CorruptData(
                f"weights {str(path)!r}: {name} {got}, config.json asks for {shape}: the two "
                "files do not belong together"
            )
        if not np.isfinite(found).all():
            raise CorruptData(f"weights {str(path)!r}: {name} holds NaN or infinity: train anew")
    return tensors


def weights_sha256(folder: Path) -> str:
    """Hash of the weights file."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _check_hash(folder: Path, path: Path, data: bytes) -> None:
    record = folder / RECORD
    if not record.exists():
        return
    wanted = read_json(record, what="training record").get("weights_sha256")
    if wanted and hashlib.sha256(data).hexdigest() != wanted:
        raise CorruptData(
            f"weights {str(path)!r} differ from the hash in {RECORD}: they are damaged or were "
            "exchanged; fetch or train them anew"
        )


def _parse(path: Path, data: bytes) -> dict[str, Array]:
    damaged = CorruptData(f"weights {str(path)!r} are cut off or no safetensors file: fetch anew")
    if len(data) < _HEADER_BYTES:
        raise damaged
    length = int.from_bytes(data[:_HEADER_BYTES], "little")
    try:
        header: Mapping[str, Any] = json.loads(data[_HEADER_BYTES : _HEADER_BYTES + length])
    except ValueError:
        raise damaged from None
    body = memoryview(data)[_HEADER_BYTES + length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, stop = entry["data_offsets"]
        shape, kind = tuple(entry["shape"]), entry["dtype"]
        if kind not in _BYTES:
            raise UnsupportedModel(
                f"weights {str(path)!r}: {name} is stored as {kind}; float32, float16 and bfloat16 "
                "are read"
            )
        if stop > len(body) or stop - start != math.prod(shape) * _BYTES[kind]:
            raise damaged
        tensors[name] = _array(body[start:stop], kind).reshape(shape)
    return tensors


def _array(raw: memoryview, kind: str) -> Array:
    if kind == "BF16":
        # bfloat16 is the upper half of a float32.
        return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, dtype="<f4" if kind == "F32" else "<f2").astype(np.float32)
