"""The KV cache of a transformers model under the name that the installed release gives it.

`past_key_values` became `cache` in transformers 5.24 and goes away in 5.40; the old name warns.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any


@cache
def cache_name() -> str:
    """`cache` or `past_key_values`: the field of a causal model's output, and its argument."""
    from transformers.modeling_outputs import CausalLMOutputWithPast  # noqa: PLC0415 - heavy

    names = {field.name for field in dataclasses.fields(CausalLMOutputWithPast)}
    return "cache" if "cache" in names else "past_key_values"


def forward(model: Any, cache: Any = None, **inputs: Any) -> tuple[Any, Any]:
    """One forward pass that continues `cache` (None: an empty one): output and new cache."""
    out = model(**inputs, **{cache_name(): cache}, use_cache=True)
    return out, getattr(out, cache_name())
