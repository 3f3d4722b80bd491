"""Which format a checkpoint's `quantization_config` says its weights are stored in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any, Literal

from suffice.architecture.weight_format import PLAIN, WIDE, Role, Storage, WeightDtype, WeightFormat
from suffice.core.errors import ConfigError, UnsupportedModel

# Modules of each kind, as checkpoints name them: a quantiser's list of exceptions is tried on them.
_PROBES: Mapping[Role, tuple[str, ...]] = {
    "attention": ("self_attn.q_proj", "self_attn.o_proj", "self_attn.kv_b_proj",
                  "linear_attn.out_proj", "mixer.out_proj"),
    "mlp": ("mlp.down_proj", "mlp.up_proj", "mlp.shared_experts.down_proj",
            "mlp.shared_expert.down_proj", "feed_forward.down_proj"),
    "experts": ("mlp.experts.0.down_proj", "mlp.experts.down_proj",
                "block_sparse_moe.experts.0.w2", "feed_forward.experts.0.down_proj",
                "mixer.experts.0.down_proj"),
}  # fmt: skip
_FLOATS: Mapping[int, WeightDtype] = {8: "fp8", 4: "fp4"}
_INTEGERS: Mapping[int, WeightDtype] = {8: "int8", 4: "int4", 3: "int3", 2: "int2"}
_WEIGHT_ONLY = ("gptq", "awq", "auto-round", "auto_round", "intel/auto-round", "hqq", "aqlm",
                "autoawq", "gptq_marlin", "awq_marlin", "quanto", "spqr", "quip")  # fmt: skip


def weight_format(quantised: Mapping[str, Any] | None, config: Mapping[str, Any]) -> WeightFormat:
    """Format of a checkpoint from its quantisation settings; plain 16 bits where there are none.

    Reads fp8 (DeepSeek, Qwen, fbgemm), gptq, awq, auto-round, compressed-tensors, modelopt (FP8,
    NVFP4), mxfp4 and bitsandbytes. Raises UnsupportedModel for a quantiser that it does not know.
    """
    if quantised is None:
        return _plain(config)
    nested = quantised.get("quantization")
    if isinstance(nested, Mapping):  # modelopt's own file keeps it one level down
        quantised = {**nested, **{k: v for k, v in quantised.items() if k != "quantization"}}
    method = str(quantised.get("quant_method") or quantised.get("quant_algo") or "").lower()
    layers = int(config.get("num_hidden_layers") or config.get("num_layers") or 32)
    if method in ("compressed-tensors", "compressed_tensors", "modelopt", "modelopt_fp4", "quark"):
        found = _grouped(quantised, layers)
    else:
        found = _single(method, quantised, layers, config)
    experts = config.get("expert_dtype") or quantised.get("expert_dtype")
    if experts in ("fp4", "mxfp4"):  # DeepSeek-V4: fp8 but for its experts
        narrow: WeightDtype = "mxfp4"
        found = replace(found, experts=Storage(narrow))
    return found


def _plain(config: Mapping[str, Any]) -> WeightFormat:
    wide = config.get("dtype") or config.get("torch_dtype")
    if str(wide).removeprefix("torch.") == "float16":
        storage = Storage("fp16")
        return WeightFormat(attention=storage, mlp=storage, experts=storage, head=storage)
    return PLAIN


def _single(
    method: str, quantised: Mapping[str, Any], layers: int, config: Mapping[str, Any]
) -> WeightFormat:
    """A quantiser with one format for everything that it does not leave out."""
    skipped = _names(
        quantised, "modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules",
        "llm_int8_skip_modules",
    )  # fmt: skip
    storage = _storage_of(method, quantised)
    if storage.dtype == "fp8" and quantised.get("weight_block_size"):
        storage = replace(storage, group=_block(quantised["weight_block_size"]))
    if method == "mxfp4":  # only experts are ever quantised
        return WeightFormat(experts=_left(storage, "experts", skipped, layers), method=method)
    return WeightFormat(
        attention=_left(storage, "attention", skipped, layers),
        mlp=_left(storage, "mlp", skipped, layers),
        experts=_left(storage, "experts", skipped, layers),
        method=method or None,
        kv=_cache(quantised),
    )


_STORAGES: Mapping[str, Storage] = {
    **dict.fromkeys(
        ("fp8", "fbgemm_fp8", "ptpc_fp8", "fine_grained_fp8", "deepgemm"), Storage("fp8")
    ),
    **dict.fromkeys(("eetq", "experts_int8", "tpu_int8"), Storage("int8", widened=True)),
    "mxfp4": Storage("mxfp4"),
    "bitnet": Storage("int2", widened=True),
}


def _storage_of(method: str, quantised: Mapping[str, Any]) -> Storage:
    if method in _STORAGES:
        return _STORAGES[method]
    if method in ("bitsandbytes", "bnb") or "load_in_4bit" in quantised:
        eight = quantised.get("load_in_8bit") or quantised.get("_load_in_8bit")
        return Storage("int8") if eight else Storage("nf4", widened=True)
    if method in _WEIGHT_ONLY:
        bits = quantised.get("bits", quantised.get("w_bit", quantised.get("nbits", 4)))
        if bits not in _INTEGERS:
            raise ConfigError(f"quantization_config: bits {bits!r} is not one of 2, 3, 4 and 8")
        group = quantised.get("group_size", quantised.get("q_group_size"))
        size = group if isinstance(group, int) and group > 0 else None
        # A 16-bit scale and a packed zero point per group.
        scales = 2.0 + bits / 8.0
        return Storage(_INTEGERS[bits], group=size, widened=True, scale_bytes=scales)
    raise UnsupportedModel(
        f"quantization_config: quant_method {method!r} is not modelled; known: fp8, fbgemm_fp8, "
        "gptq, awq, auto-round, compressed-tensors, modelopt, mxfp4, bitsandbytes; take it out of "
        "the config and pass --weights to say what the weights are stored in"
    )


def _grouped(quantised: Mapping[str, Any], layers: int) -> WeightFormat:
    """compressed-tensors and its relatives: groups of targets, each with its own format."""
    method = str(quantised.get("quant_method", "compressed-tensors")).lower()
    groups = quantised.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        return _by_algorithm(method, quantised, layers)
    skipped = _names(quantised, "ignore", "exclude_modules", "modules_to_not_convert")
    layout = str(quantised.get("format", ""))
    formats = [
        (tuple(map(str, group.get("targets") or ("Linear",))), _group_storage(group, layout))
        for group in groups.values()
        if isinstance(group, Mapping)
    ]
    roles: dict[str, Storage] = {}
    for role in _PROBES:
        storage = next(
            (
                found
                for targets, found in formats
                if "Linear" in targets or _share(targets, role, layers) > 0.0
            ),
            WIDE,
        )
        roles[role] = _left(storage, role, skipped, layers)
    return WeightFormat(**roles, method=method, kv=_cache(quantised))


def _group_storage(group: Mapping[str, Any], layout: str) -> Storage:
    weights = group.get("weights")
    if not isinstance(weights, Mapping):
        return WIDE
    bits = weights.get("num_bits", 8)
    kind = str(weights.get("type", "int"))
    table = _FLOATS if kind == "float" else _INTEGERS
    if bits not in table:
        raise ConfigError(
            f"quantization_config: {bits!r} bits of type {kind!r} are not modelled; known: "
            f"{', '.join(map(str, table))}"
        )
    size = weights.get("group_size")
    dtype = table[bits]
    layout = str(group.get("format", layout))
    if dtype == "fp4" and (layout.startswith("mxfp4") or size == 32):
        dtype = "mxfp4"
    return Storage(
        dtype,
        group=size if isinstance(size, int) and size > 0 else None,
        widened=not group.get("input_activations"),
        scale_bytes=2.0 + (0.0 if weights.get("symmetric", True) else bits / 8.0),
    )


def _by_algorithm(method: str, quantised: Mapping[str, Any], layers: int) -> WeightFormat:
    """modelopt without groups: an algorithm by name."""
    algorithm = str(quantised.get("quant_algo") or quantised.get("quant_type") or "").upper()
    known: Mapping[str, Storage] = {
        "FP8": Storage("fp8"),
        "FP8_PB_WO": Storage("fp8"),
        "NVFP4": Storage("fp4"),
        "NVFP4_AWQ": Storage("fp4"),
        "W4A16_NVFP4": Storage("fp4", widened=True),
        "W4A16_AWQ": Storage("int4", widened=True),
        "W4A8_AWQ": Storage("int4", widened=True),
        "W8A8_SQ_PER_CHANNEL": Storage("int8"),
        "MXFP4": Storage("mxfp4"),
    }
    if algorithm not in known:
        raise UnsupportedModel(
            f"quantization_config of {method!r}: quant_algo {algorithm!r} is not modelled; known: "
            f"{', '.join(known)}; pass --weights to say what the weights are stored in"
        )
    skipped = _names(quantised, "ignore", "exclude_modules", "modules_to_not_convert")
    roles = {role: _left(known[algorithm], role, skipped, layers) for role in _PROBES}
    return WeightFormat(**roles, method=method, kv=_cache(quantised))


def _left(storage: Storage, role: Role, skipped: Sequence[str], layers: int) -> Storage:
    """`storage`, with the share of a role's matrices that the quantiser leaves out."""
    share = _share(skipped, role, layers)
    if share >= 1.0:
        return WIDE
    return replace(storage, wide_share=share)


def _share(patterns: Sequence[str], role: Role, layers: int) -> float:
    """Share of the layers in which one of a role's modules is named by `patterns`."""
    if not patterns:
        return 0.0
    tests = [_test(pattern) for pattern in patterns]
    hits = sum(
        any(test(f"model.layers.{i}.{probe}") for test in tests for probe in _PROBES[role])
        for i in range(layers)
    )
    return hits / layers


def _test(pattern: str) -> Any:
    """Whether a module's name is meant by an entry of a quantiser's list."""
    if pattern.startswith("re:"):
        try:
            compiled = re.compile(pattern[3:])
        except re.error as error:
            raise ConfigError(
                f"quantization_config: {pattern!r} is no regular expression: {error}"
            ) from None
        return lambda name: bool(compiled.match(name) or compiled.match(f"model.language_{name}"))
    if "*" in pattern:
        return lambda name: fnmatch(name, pattern) or fnmatch(name, f"*{pattern.lstrip('.')}")
    plain = pattern.strip(".").removeprefix("language_model.")
    return lambda name: f".{plain}." in f".{name}."


def _names(quantised: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    found: list[str] = []
    for key in keys:
        value = quantised.get(key)
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, Sequence):
            found += [str(item) for item in value]
    return tuple(found)


def _block(size: Any) -> int:
    """Weights of a row that share a scale."""
    last = size[-1] if isinstance(size, Sequence) and size else size
    return last if isinstance(last, int) and last > 0 else 128


def _cache(quantised: Mapping[str, Any]) -> Literal["fp8"] | None:
    scheme = quantised.get("kv_cache_scheme") or quantised.get("kv_cache_quant_algo")
    if isinstance(scheme, Mapping):
        return "fp8" if scheme.get("num_bits") == 8 else None
    return "fp8" if str(scheme).upper() == "FP8" else None
