"""Notes of one version: its section of CHANGELOG.md; `v0.2.0` and `0.2.0` mean the same.

    python scripts/release_notes.py v0.2.0

Ends with an error where the package has another version, or the section is missing or empty: a
release is not made of what nobody has written down.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from suffice.core.version import __version__

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def notes_of(version: str, changelog: str) -> str:
    """The text below `## VERSION`, up to the next version; raises ValueError without one."""
    head = rf"^## {re.escape(version)}(?: [^\n]*)?$"
    found = re.search(rf"{head}\n(.*?)(?=^## |\Z)", changelog, flags=re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise ValueError(f"CHANGELOG.md has no notes under '## {version}': rename Unreleased to it")
    return found[1].strip()


def main() -> None:
    """Print the notes of the version that was asked for."""
    version = sys.argv[1].removeprefix("v")
    if version != __version__:
        sys.exit(
            f"the tag says {version}, src/suffice/core/version.py {__version__}: make them one"
        )
    try:
        print(notes_of(version, CHANGELOG.read_text(encoding="utf-8")))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
