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
