"""A policy's table from a file: what `suffice calibrate` wrote, or a TOML file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suffice.core.errors import InputError
from suffice.core.files import read_json, read_toml


def is_policy_file(text: str) -> bool:
    """Whether `text` names a file rather than a policy."""
    return Path(text).suffix in (".toml", ".json")


def policy_table(path: Path) -> dict[str, Any]:
    """The table in a TOML or JSON file, as `build_policy` reads it. Raises InputError."""
    if path.suffix == ".json":
        table = read_json(path, what="policy file")
    else:
        table, _ = read_toml(path, what="policy file")
    if not isinstance(table, dict):
        raise InputError(f"policy file {str(path)!r} must hold one table")
    return table
