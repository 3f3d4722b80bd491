"""Hold the figures of README and docs against what their commands print now.

    python scripts/check_claims.py [--only WORD]

docs/claims.toml has a table for each claim: the page and its exact words, the command (or a
committed result file, for what takes long), where the figure is, and how far it may be off. A claim
fails if the page no longer says so or the figure differs. A table of `[[rows]]` holds whole tables:
every row that the command prints stands on the page, word for word. Each command runs once, in a
temporary folder, with nothing beside the clone.
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
from functools import cache, partial
from pathlib import Path

from suffice.core.errors import InputError
from suffice.core.figures import figure_at, printed_figure, steps

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of a table that a command prints and a page holds."""

    page: str
    command: str
    at_least: int  # rows, so that a command that prints none is no proof
    after: str = ""  # only what is printed behind this line
    only: str = ""  # only rows that match this regular expression


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
        return claim.scale * float(figure_at(json.loads(text), steps(claim.at)))
    return claim.scale * printed_figure(text, str(claim.find))


def fault(claim: Claim) -> str | None:
    """What is wrong with a claim; None: nothing."""
    page = " ".join((ROOT / claim.page).read_text("utf-8").split())
    if " ".join(claim.says.split()) not in page:
        return "the page does not say so any more"
    try:
        now = found(claim)
    except (RuntimeError, InputError, ValueError, OSError) as error:
        return str(error)
    if abs(now - claim.value) > claim.within:
        return f"now {now:g}"
    return None


def rows_fault(rows: Rows) -> str | None:
    """The first row that is not on the page; None: all are."""
    page = {_bare(line) for line in (ROOT / rows.page).read_text("utf-8").splitlines()}
    try:
        text = printed(rows.command)
    except RuntimeError as error:
        return str(error)
    if rows.after not in text:
        return f"{rows.after!r} is not printed"
    lines = text.partition(rows.after)[2].splitlines() if rows.after else text.splitlines()
    wanted = [
        line
        for line in lines
        if line.startswith("|") and re.search(r"\d", line) and re.search(rows.only, line)
    ]
    if len(wanted) < rows.at_least:
        return f"prints {len(wanted)} rows"
    missing = [line for line in wanted if _bare(line) not in page]
    return f"{len(missing)} of {len(wanted)} rows differ, first {missing[0]}" if missing else None


def _bare(line: str) -> str:
    return " ".join(line.split())


def main() -> int:
    """Exit code 0 when every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="claims whose page or words contain this")
    only = parser.parse_args().only
    listed = tomllib.loads(CLAIMS.read_text("utf-8"))
    claims = [Claim(**table) for table in listed["claim"]]
    tables = [Rows(**table) for table in listed["rows"]]
    checks = [
        (f"{claim.page}: {claim.value:g} in {claim.says!r}", partial(fault, claim))
        for claim in claims
    ] + [(f"{rows.page}: rows of {rows.command}", partial(rows_fault, rows)) for rows in tables]
    chosen = [(said, check) for said, check in checks if only in said]
    wrong = 0
    for said, check in chosen:
        what = check()
        wrong += what is not None
        print(f"{'ok  ' if what is None else 'FAIL'} {said}" + (f": {what}" if what else ""))
    print(f"{len(chosen) - wrong} passed, {wrong} failed")
    return 1 if wrong or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
