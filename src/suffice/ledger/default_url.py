"""Where the ledger is unless someone says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

# Environment variable that names the ledger for every command; also holds PostgreSQL's password.
VARIABLE = "SUFFICE_LEDGER"


def default_url() -> str:
    """`SUFFICE_LEDGER`, else `ledger.db` in the user's state folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return str(Path(state) / "suffice" / "ledger.db")


def writable(url: str) -> bool:
    """Whether the file `url` is there or can be made; servers are taken to be reachable."""
    if "://" in url:
        return True
    path = Path(url)
    if path.exists():
        return os.access(path, os.W_OK)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    return os.access(folder, os.W_OK)
