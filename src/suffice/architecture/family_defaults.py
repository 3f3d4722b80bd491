"""What config classes fill in, as a table: see scripts/family_defaults.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from suffice.architecture.families import OWN_DEFAULTS


@cache
def _table() -> Mapping[str, Any]:
    text = files("suffice.architecture").joinpath("data/families.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def defaults_of(model_type: str) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """A family's defaults and the second names of its keys, name to name."""
    own = OWN_DEFAULTS.get(model_type)
    if own is not None:
        return own, {}
    entry = _table()["families"].get(model_type, {"defaults": {}, "aliases": {}})
    return entry["defaults"], entry["aliases"]


def wrapper(model_type: str) -> Mapping[str, Any] | None:
    """What is known of a multimodal wrapper: `model_type` and `text`, its text part by default."""
    entry: Mapping[str, Any] | None = _table()["wrappers"].get(model_type)
    return entry
