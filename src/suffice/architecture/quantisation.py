"""Which format a checkpoint's `quantization_config` says its weights are stored in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from suffice.architecture.module_formats import by_module, quark_format, torchao_storage
from suffice.architecture.quantised_modules import (
    PROBES,
    left_out,
    names_of,
    role_of,
    share_named,
)
from suffice.architecture.weight_format import (
    PLAIN,
    WIDE,
    Role,
    Storage,
    WeightDtype,
    WeightFormat,
)
from suffice.core.errors import ConfigError, UnsupportedModel

_FLOATS: Mapping[int, WeightDtype] = {8: "fp8", 4: "fp4"}
_INTEGERS: Mapping[int, WeightDtype] = {8: "int8", 4: "int4", 3: "int3", 2: "int2"}
_WEIGHT_ONLY = ("gptq", "awq", "auto-round", "auto_round", "intel/auto-round", "hqq", "aqlm",
                "autoawq", "gptq_marlin", "awq_marlin", "quanto", "spqr", "quip")  # fmt: skip


def weight_format(quantised: Mapping[str, Any] | None, config: Mapping[str, Any]) -> WeightFormat:
    """Format of a checkpoint from its quantisation settings; plain 16 bits where there are none.

    Reads fp8 (DeepSeek, Qwen, fbgemm), gptq, awq, auto-round, hqq, compressed-tensors, modelopt
    (FP8, NVFP4, mixed), quark, torchao, mxfp4, bitsandbytes and MLX. Raises UnsupportedModel for
    a quantiser that it does not know.
    """
    if quantised is None:
        return _plain(config)
    nested = quantised.get("quantization")
    if isinstance(nested, Mapping):  # modelopt's own file keeps it one level down
        quantised = {**nested, **{k: v for k, v in quantised.items() if k != "quantization"}}
    method = str(quantised.get("quant_method") or quantised.get("quant_algo") or "").lower()
    layers = int(config.get("num_hidden_layers") or config.get("num_layers") or 32)
    if isinstance(quantised.get("global_quant_config"), Mapping):
        found = quark_format(quantised, layers)
    elif isinstance(quantised.get("quantized_layers"), Mapping):
        found = replace(
            by_module(quantised["quantized_layers"], layers, _ALGORITHMS), kv=_cache(quantised)
        )
    elif method in ("compressed-tensors", "compressed_tensors", "quark") or "modelopt" in method:
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
    skipped = names_of(
        quantised, "modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules",
        "llm_int8_skip_modules", "skip_modules",
    )  # fmt: skip
    skipped += _left_by_rule(quantised)
    storage = _storage_of(method, quantised)
    if storage.dtype == "fp8" and quantised.get("weight_block_size"):
        storage = replace(storage, group=_block(quantised["weight_block_size"]))
    if method == "mxfp4":  # only experts are ever quantised
        return WeightFormat(experts=left_out(storage, "experts", skipped, layers), method=method)
    roles: dict[str, Storage] = {}
    for role in PROBES:
        own = _mlx_storage(storage, role, quantised, layers) if method in _MLX else storage
        roles[role] = left_out(own, role, skipped, layers)
    return WeightFormat(**roles, method=method or None, kv=_cache(quantised))


_MLX = ("", "mlx")  # MLX names no method


def _mlx_storage(
    storage: Storage, role: Role, quantised: Mapping[str, Any], layers: int
) -> Storage:
    """The format of most layers' modules of a kind, where MLX names modules with their own."""
    named: dict[int, Storage] = {}
    for name, how in quantised.items():
        place = role_of(str(name))
        if place is not None and place[1] == role and isinstance(how, Mapping):
            named[place[0]] = _storage_of("mlx", how)
    if 2 * len(named) <= layers:
        return storage
    return Counter(named.values()).most_common(1)[0][0]


def _left_by_rule(quantised: Mapping[str, Any]) -> tuple[str, ...]:
    """Modules that gptq's rules ("-:pattern") or auto-round's list (16 bits) leave as they are."""
    rules = quantised.get("dynamic")
    found = []
    if isinstance(rules, Mapping):
        found += [f"re:{name[2:]}" for name in map(str, rules) if name.startswith("-:")]
    found += [str(name) for name, how in quantised.items() if how is False and "." in str(name)]
    own = quantised.get("extra_config")
    if isinstance(own, Mapping):
        found += [
            str(name)
            for name, how in own.items()
            if isinstance(how, Mapping) and isinstance(how.get("bits"), int) and how["bits"] >= 16
        ]
    return tuple(found)


_STORAGES: Mapping[str, Storage] = {
    **dict.fromkeys(
        ("fp8", "fbgemm_fp8", "ptpc_fp8", "fine_grained_fp8", "deepgemm"), Storage("fp8")
    ),
    **dict.fromkeys(("eetq", "experts_int8", "tpu_int8"), Storage("int8", widened=True)),
    "mxfp4": Storage("mxfp4"),
    "mxfp8": Storage("fp8", group=32),
    "nvfp4": Storage("fp4"),
    "petit_nvfp4": Storage("fp4", widened=True),
    "bitnet": Storage("int2", widened=True),
}
# MLX's modes; "affine", integers with a scale and a shift, is its default.
_MLX_MODES: Mapping[str, Storage] = {
    "mxfp4": Storage("mxfp4", widened=True),
    "nvfp4": Storage("fp4", widened=True),
    "mxfp8": Storage("fp8", group=32, widened=True),
}


def _storage_of(method: str, quantised: Mapping[str, Any]) -> Storage:
    if method in _STORAGES:
        return _STORAGES[method]
    if method == "torchao":
        return torchao_storage(quantised)
    if method == "fp_quant":
        return Storage("fp4" if str(quantised.get("forward_dtype")) == "nvfp4" else "mxfp4")
    if method in ("bitsandbytes", "bnb") or "load_in_4bit" in quantised:
        eight = quantised.get("load_in_8bit") or quantised.get("_load_in_8bit")
        return Storage("int8") if eight else Storage("nf4", widened=True)
    # MLX writes bits and group size alone, and keeps a 16-bit shift beside each 16-bit scale.
    if method in _WEIGHT_ONLY or (method in _MLX and "bits" in quantised):
        if method in _MLX and quantised.get("mode") in _MLX_MODES:
            return _MLX_MODES[quantised["mode"]]
        nested = quantised.get("quant_config")
        if isinstance(nested, Mapping) and isinstance(nested.get("weight_quant_params"), Mapping):
            quantised = {**quantised, **nested["weight_quant_params"]}  # hqq
        bits = quantised.get("bits", quantised.get("w_bit", quantised.get("nbits", 4)))
        if bits not in _INTEGERS:
            raise ConfigError(f"quantization_config: bits {bits!r} is not one of 2, 3, 4 and 8")
        group = quantised.get("group_size", quantised.get("q_group_size"))
        size = group if isinstance(group, int) and group > 0 else None
        # A 16-bit scale and a packed zero point per group.
        scales = 2.0 + (bits / 8.0 if method in _WEIGHT_ONLY else 2.0)
        return Storage(_INTEGERS[bits], group=size, widened=True, scale_bytes=scales)
    raise UnsupportedModel(
        f"quantization_config: quant_method {method!r} is not modelled; known: fp8, fbgemm_fp8, "
        "gptq, awq, auto-round, hqq, compressed-tensors, modelopt, quark, torchao, mxfp4, "
        "bitsandbytes; take it out of the config and pass --weights to say what the weights are "
        "stored in"
    )


def _grouped(quantised: Mapping[str, Any], layers: int) -> WeightFormat:
    """compressed-tensors and its relatives: groups of targets, each with its own format."""
    method = str(quantised.get("quant_method", "compressed-tensors")).lower()
    groups = quantised.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        return _by_algorithm(method, quantised, layers)
    skipped = names_of(quantised, "ignore", "exclude_modules", "modules_to_not_convert")
    layout = str(quantised.get("format", ""))
    formats = [
        (tuple(map(str, group.get("targets") or ("Linear",))), _group_storage(group, layout))
        for group in groups.values()
        if isinstance(group, Mapping)
    ]
    roles: dict[str, Storage] = {}
    for role in PROBES:
        storage = next(
            (
                found
                for targets, found in formats
                if "Linear" in targets or share_named(targets, role, layers) > 0.0
            ),
            WIDE,
        )
        roles[role] = left_out(storage, role, skipped, layers)
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


# modelopt's names.
_ALGORITHMS: Mapping[str, Storage] = {
    "FP8": Storage("fp8"),
    "FP8_PB_WO": Storage("fp8"),
    "NVFP4": Storage("fp4"),
    "NVFP4_AWQ": Storage("fp4"),
    "W4A16_NVFP4": Storage("fp4", widened=True),
    "W4A16_AWQ": Storage("int4", widened=True),
    "W4A8_AWQ": Storage("int4", widened=True),
    "W8A8_SQ_PER_CHANNEL": Storage("int8"),
    "MXFP4": Storage("mxfp4"),
    "MXFP8": Storage("fp8", group=32),
}


def _by_algorithm(method: str, quantised: Mapping[str, Any], layers: int) -> WeightFormat:
    """modelopt without groups: an algorithm by name."""
    algorithm = str(quantised.get("quant_algo") or quantised.get("quant_type") or "").upper()
    if algorithm not in _ALGORITHMS:
        raise UnsupportedModel(
            f"quantization_config of {method!r}: quant_algo {algorithm!r} is not modelled; known: "
            f"{', '.join(_ALGORITHMS)}; pass --weights to say what the weights are stored in"
        )
    skipped = names_of(quantised, "ignore", "exclude_modules", "modules_to_not_convert")
    roles = {role: left_out(_ALGORITHMS[algorithm], role, skipped, layers) for role in PROBES}
    return WeightFormat(**roles, method=method, kv=_cache(quantised))


def _block(size: Any) -> int:
    """Weights of a row that share a scale."""
    last = size[-1] if isinstance(size, Sequence) and size else size
    return last if isinstance(last, int) and last > 0 else 128


def _cache(quantised: Mapping[str, Any]) -> Literal["fp8"] | None:
    scheme = quantised.get("kv_cache_scheme") or quantised.get("kv_cache_quant_algo")
    if isinstance(scheme, Mapping):
        return "fp8" if scheme.get("num_bits") == 8 else None
    return "fp8" if str(scheme).upper() == "FP8" else None
