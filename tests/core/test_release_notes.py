"""A release says what its version brings, and nothing of another version."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "release_notes.py"
CHANGELOG = """# Changelog

## Unreleased

- New.

## 0.2.0 (2026-12-01)

- Second.

### Fixed

- A fault.

## 0.1.0

"""


def test_the_notes_of_a_version_are_its_section() -> None:
    notes_of = runpy.run_path(str(SCRIPT))["notes_of"]
    assert notes_of("0.2.0", CHANGELOG) == "- Second.\n\n### Fixed\n\n- A fault."
    for missing in ("0.1.0", "0.2", "1.0.0"):
        with pytest.raises(ValueError, match="no notes"):
            notes_of(missing, CHANGELOG)


def test_a_tag_of_another_version_makes_no_release() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "v99.0.0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "99.0.0" in done.stderr
