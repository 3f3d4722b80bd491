"""What a model's name tells: parameters that a token passes, precision that it is served in."""

from __future__ import annotations

import re

# "8x7B": the experts' sum is what has to be held, about a quarter of it is what a token passes.
_EXPERTS = re.compile(r"(?<![A-Za-z0-9])(\d+)x(\d+(?:\.\d+)?)[bB](?![A-Za-z])")
_ACTIVE = re.compile(r"(?<![A-Za-z0-9])A(\d+(?:\.\d+)?)[bB](?![A-Za-z])")
_DENSE = re.compile(r"(?<![A-Za-z0-9])(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z])")
_EXPERTS_PER_TOKEN = 2
_PRECISION = re.compile(
    r"(?i)(?:^|[-_./])(nvfp4|mxfp4|fp8|fp4|int8|int4|awq|gptq|w4a16|w8a8|bnb-4bit|bf16|fp16|q\d_\w+)"
    r"(?=$|[-_./])"
)


def billions(model: str) -> float | None:
    """Parameters that a token passes, in billions, as the name tells; None where it does not.

    "Qwen3-30B-A3B" gives 3, "Mixtral-8x7B" 14 (two experts a token), "SmolLM2-135M" 0.135.
    """
    if active := _ACTIVE.search(model):
        return float(active[1])
    if experts := _EXPERTS.search(model):
        return _EXPERTS_PER_TOKEN * float(experts[2])
    if dense := _DENSE.search(model):
        return float(dense[1]) / (1000.0 if dense[2] in "mM" else 1.0)
    return None


def precision(model: str) -> str | None:
    """Precision of the weights as the name tells, in lower case: "fp8", "awq"; else None."""
    found = _PRECISION.search(model)
    return found[1].lower() if found else None
