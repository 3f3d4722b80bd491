"""Which tokens a model of a folder chooses its mode by, read from its tokenizer."""

from __future__ import annotations

from pathlib import Path

from suffice.core.errors import InputError
from suffice.core.files import read_json
from suffice.core.thinking import ModeTokens

SHORT, THINK = "<short>", "<think>"


def mode_tokens_of(folder: Path) -> ModeTokens:
    """Ids of `<think>` and `<short>` in a folder's `tokenizer.json`; InputError without them."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{str(folder)!r} has no tokenizer.json: is it a model folder?")
    table = read_json(path, what="tokenizer")
    added = table.get("added_tokens") if isinstance(table, dict) else None
    found = {entry.get("content"): entry.get("id") for entry in added or () if _is_entry(entry)}
    lacking = [token for token in (THINK, SHORT) if not isinstance(found.get(token), int)]
    if lacking:
        raise InputError(
            f"{str(path)!r} has no token {' or '.join(lacking)}: the model does not choose its "
            "mode by them; leave mode_tokens out, or give the ids of its own"
        )
    return ModeTokens(think=found[THINK], short=found[SHORT])


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict)
