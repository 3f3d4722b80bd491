"""Quantisers that give a format to each module or name it in a way of their own."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from suffice.architecture.quantised_modules import (
    PROBES,
    left_out,
    names_of,
    role_of,
    share_named,
)
from suffice.architecture.weight_format import WIDE, Role, Storage, WeightDtype, WeightFormat
from suffice.core.errors import UnsupportedModel


def by_module(
    quantized_layers: Mapping[str, Any], layers: int, known: Mapping[str, Storage]
) -> WeightFormat:
    """modelopt's mixed precision: an algorithm for each module.

    A kind of matrix has the format of most of its layers; layers that are not named stay wide.
    """
    algorithms: dict[Role, dict[int, str]] = defaultdict(dict)
    for module, how in quantized_layers.items():
        place = role_of(str(module))
        algorithm = str(how.get("quant_algo") if isinstance(how, Mapping) else how).upper()
        if algorithm not in known:
            raise UnsupportedModel(
                f"quantization_config: quant_algo {algorithm!r} of {module!r} is not modelled; "
                f"known: {', '.join(known)}; pass --weights to say what the weights are stored in"
            )
        if place is not None:
            algorithms[place[1]][place[0]] = algorithm
    roles: dict[str, Storage] = {}
    for role in PROBES:
        found = algorithms.get(role)
        if not found:
            roles[role] = WIDE
            continue
        most = Counter(found.values()).most_common(1)[0][0]
        roles[role] = replace(known[most], wide_share=max(0.0, 1.0 - len(found) / layers))
    return WeightFormat(
        attention=roles["attention"], mlp=roles["mlp"], experts=roles["experts"], method="modelopt"
    )


def quark_format(quantised: Mapping[str, Any], layers: int) -> WeightFormat:
    """AMD Quark: one format for all, others for modules by pattern, and exceptions."""
    whole = _quark_storage(quantised["global_quant_config"])
    own = quantised.get("layer_quant_config")
    rules = own if isinstance(own, Mapping) else {}
    skipped = names_of(quantised, "exclude", "ignore")
    roles: dict[str, Storage] = {}
    for role in PROBES:
        storage = next(
            (
                _quark_storage(how)
                for pattern, how in rules.items()
                if share_named((str(pattern),), role, layers) > 0.5
            ),
            whole,
        )
        roles[role] = left_out(storage, role, skipped, layers)
    cache = quantised.get("kv_cache_quant_config")
    narrow = "fp8" in str(cache) if cache else False
    return WeightFormat(
        attention=roles["attention"],
        mlp=roles["mlp"],
        experts=roles["experts"],
        method="quark",
        kv="fp8" if narrow else None,
    )


def _quark_storage(how: Any) -> Storage:
    weight = how.get("weight") if isinstance(how, Mapping) else None
    if isinstance(weight, list):  # weights that are rounded twice name two
        weight = weight[0] if weight else None
    if not isinstance(weight, Mapping):
        return WIDE
    name = str(weight.get("dtype")).lower()
    size = weight.get("group_size")
    group = size if isinstance(size, int) and size > 0 else None
    widened = not how.get("input_tensors")
    if name.startswith("fp8"):
        return Storage("fp8", widened=widened)
    if name in ("fp4", "mxfp4", "mx", "nvfp4"):
        return Storage("fp4" if group == 16 else "mxfp4", widened=widened)
    integer = re.fullmatch(r"u?int(\d)", name)
    table: Mapping[str, WeightDtype] = {"8": "int8", "4": "int4", "3": "int3", "2": "int2"}
    if integer and integer[1] in table:
        return Storage(table[integer[1]], group=group, widened=widened)
    if name in ("bfloat16", "float16", "none"):
        return WIDE
    raise UnsupportedModel(
        f"quantization_config of 'quark': dtype {name!r} is not modelled; known: fp8, fp4, int8, "
        "int4; pass --weights to say what the weights are stored in"
    )


# torchao's configurations, letters and digits of their names alone.
_TORCHAO: tuple[tuple[str, Storage], ...] = (
    ("float8dynamicactivationint4", Storage("int4", group=128)),
    ("float8dynamicactivation", Storage("fp8")),
    ("float8staticactivation", Storage("fp8")),
    ("float8weightonly", Storage("fp8", widened=True)),
    ("int8dynamicactivationint8", Storage("int8")),
    ("int8dynamicactivation", Storage("int4", group=32, widened=True)),
    ("int8weightonly", Storage("int8", widened=True)),
    ("int4weightonly", Storage("int4", group=128, widened=True)),
    ("nvfp4", Storage("fp4")),
    ("mxfpinference", Storage("mxfp4")),
    ("mxdynamicactivation", Storage("mxfp4")),
)


def torchao_storage(quantised: Mapping[str, Any]) -> Storage:
    """The format behind a torchao configuration's name."""
    told = quantised.get("quant_type")
    options: Any = quantised.get("quant_type_kwargs")
    if isinstance(told, Mapping):
        default = told.get("default", told)
        told = default.get("_type") if isinstance(default, Mapping) else default
        options = default.get("_data") if isinstance(default, Mapping) else None
    name = re.sub(r"[^a-z0-9]", "", str(told).lower())
    storage = next((found for start, found in _TORCHAO if name.startswith(start)), None)
    if storage is None:
        raise UnsupportedModel(
            f"quantization_config of 'torchao': {told!r} is not modelled; pass --weights to say "
            "what the weights are stored in"
        )
    size = options.get("group_size") if isinstance(options, Mapping) else None
    return replace(storage, group=size) if isinstance(size, int) and size > 0 else storage
