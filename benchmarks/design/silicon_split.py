"""Which measured serving points constants are fitted to, and which only check them.

Fixed before the first fit. A sweep (one model on one machine under one engine, at one pair of
lengths, over concurrencies) goes whole to one side, by a hash of what it is; some models and one
pair of model and machine are on neither side of a fit at all.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Side = Literal["fit", "test", "unseen"]


@cache
def _rule() -> dict[str, Any]:
    text = files("suffice.throughput").joinpath("data/silicon/split.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def side_of(model: str, hardware: str, sweep: tuple[object, ...]) -> Side:
    """Side of the points of a sweep; `sweep` is everything but their concurrency."""
    rule = _rule()
    if model in rule["unseen_models"] or [model, hardware] in rule["unseen_pairs"]:
        return "unseen"
    words = "|".join(map(str, (rule["salt"], model, hardware, *sweep)))
    share = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big") / 2**32
    return "test" if share < rule["test_share"] else "fit"
