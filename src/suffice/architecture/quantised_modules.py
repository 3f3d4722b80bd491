"""Modules by name: which kind of matrix one is, and which a quantiser's lists mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from suffice.architecture.weight_format import WIDE, Role, Storage
from suffice.core.errors import ConfigError

# Modules of each kind, as checkpoints name them: a quantiser's list of exceptions is tried on them.
PROBES: Mapping[Role, tuple[str, ...]] = {
    "attention": ("self_attn.q_proj", "self_attn.o_proj", "self_attn.kv_b_proj",
                  "linear_attn.out_proj", "mixer.out_proj"),
    "mlp": ("mlp.down_proj", "mlp.up_proj", "mlp.shared_experts.down_proj",
            "mlp.shared_expert.down_proj", "feed_forward.down_proj"),
    "experts": ("mlp.experts.0.down_proj", "mlp.experts.down_proj",
                "block_sparse_moe.experts.0.w2", "feed_forward.experts.0.down_proj",
                "mixer.experts.0.down_proj"),
}  # fmt: skip

_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.(.+)")


def role_of(module: str) -> tuple[int, Role] | None:
    """Layer and kind of a module by its full name; None for one outside the layers, or a router."""
    found = _LAYER.search(module)
    if found is None:
        return None
    layer, rest = int(found[1]), found[2]
    if "shared_expert" in rest:
        return layer, "mlp"
    if "experts" in rest:
        return layer, "experts"
    if re.search(r"attn|attention|kv_[ab]_proj|mixer\.(in|out|q|k|v|o|qkv)_proj", rest):
        return layer, "attention"
    if re.search(r"(up|down|gate_up|gate)_proj|fc\d|dense_|\bw[123]\b", rest):
        return layer, "mlp"
    return None


def left_out(storage: Storage, role: Role, skipped: Sequence[str], layers: int) -> Storage:
    """`storage`, with the share of a role's matrices that the quantiser leaves out."""
    share = share_named(skipped, role, layers)
    if share >= 1.0:
        return WIDE
    return replace(storage, wide_share=share)


def share_named(patterns: Sequence[str], role: Role, layers: int) -> float:
    """Share of the layers in which one of a role's modules is named by `patterns`."""
    if not patterns:
        return 0.0
    tests = [_test(pattern) for pattern in patterns]
    hits = sum(
        any(test(f"model.layers.{i}.{probe}") for test in tests for probe in PROBES[role])
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


def names_of(quantised: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    """Module names that a quantiser keeps under any of `keys`."""
    found: list[str] = []
    for key in keys:
        value = quantised.get(key)
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, Sequence):
            found += [str(item) for item in value]
    return tuple(found)
