"""Hold the figures of README and docs against what their commands print now.

    python scripts/check_claims.py [--only WORD]

docs/claims.toml has a table for each claim: the page and its exact words, the command (or a
committed result file, for what takes long), where the figure is, and how far it may be off. A claim
fails if the page no longer says so or the figure differs. Each command runs once, in a temporary
folder, with nothing beside the clone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLAIMS = ROOT / "docs" / "claims.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One figure on one page. Exactly one of `command` and `file` says where it comes from."""

    page: str
    says: str  # exact words of the page, white space folded
    value: float
    within: float  # allowed difference
    command: str | None = None
    file: str | None = None  # a committed result, relative to the clone
    at: str | None = None  # path into JSON: parts.0.ways.3.right
    find: str | None = None  # or a regular expression with one group, over what is printed
    scale: float = 1.0  # the figure is this times what is found


@cache
def printed(command: str) -> str:
    """Standard output of one command, run once."""
    environment = dict(os.environ) | {"MPLBACKEND": "Agg", "COLUMNS": "200"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    argv = [part.replace("ROOT", str(ROOT)) for part in shlex.split(command)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            argv, cwd=folder, env=environment, check=False, capture_output=True, text=True
        )
    if done.returncode != 0:
        raise RuntimeError(f"{command}: exit code {done.returncode}: {done.stderr[-400:]}")
    return done.stdout


def found(claim: Claim) -> float:
    """The figure as it is now."""
    text = (ROOT / claim.file).read_text("utf-8") if claim.file else printed(str(claim.command))
    if claim.at is not None:
        value: Any = json.loads(text)
        for part in claim.at.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        return claim.scale * float(value)
    match = re.search(str(claim.find), text)
    if match is None:
        raise RuntimeError(f"{claim.find!r} is not in what {claim.command or claim.file} gives")
    return claim.scale * float(match[1].replace("−", "-").replace(",", ""))


def fault(claim: Claim) -> str | None:
    """What is wrong with a claim; None: nothing."""
    page = " ".join((ROOT / claim.page).read_text("utf-8").split())
    if " ".join(claim.says.split()) not in page:
        return "the page does not say so any more"
    try:
        now = found(claim)
    except (RuntimeError, KeyError, IndexError, ValueError, OSError) as error:
        return str(error)
    if abs(now - claim.value) > claim.within:
        return f"now {now:g}"
    return None


def main() -> int:
    """Exit code 0 when every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="claims whose page or words contain this")
    only = parser.parse_args().only
    claims = [Claim(**table) for table in tomllib.loads(CLAIMS.read_text("utf-8"))["claim"]]
    chosen = [claim for claim in claims if only in claim.page or only in claim.says]
    wrong = 0
    for claim in chosen:
        what = fault(claim)
        wrong += what is not None
        state = "ok  " if what is None else "FAIL"
        print(
            f"{state} {claim.page}: {claim.value:g} in {claim.says!r}"
            + (f": {what}" if what else "")
        )
    print(f"{len(chosen) - wrong} passed, {wrong} failed")
    return 1 if wrong or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
