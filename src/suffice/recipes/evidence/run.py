"""Run the tests of claims: a command each, its result checked before the old one is replaced."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.core.errors import InputError, MeasurementError
from suffice.core.files import write_bytes
from suffice.core.version import __version__
from suffice.recipes.evidence.claim import Claim, ClaimTest
from suffice.recipes.evidence.freshness import record_of, write_record
from suffice.recipes.evidence.registry import Registry
from suffice.recipes.evidence.verdict import (
    Judged,
    Verdict,
    document,
    figures_of,
    judge,
    judge_figures,
)

# A test may take so many times its budget on a machine that others use, and a minute in any case.
PATIENCE = 12.0
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A claim that was tested now: verdict before and after, and how long its command took."""

    name: str
    before: Judged
    after: Judged
    seconds: float  # 0 where another claim's run of the same command served


def chosen(registry: Registry, names: Sequence[str], *, fast: bool) -> list[str]:
    """The claims to test: those named, or with `fast` all whose test is fast."""
    if bool(names) == fast:
        raise InputError("name claims, or say --fast for all whose test is fast; not both")
    for name in names:
        claim = registry.claim(name)
        if claim.test is None:
            raise InputError(f"{name} has no test: {claim.untested}")
        if not claim.test.fast:
            raise InputError(
                f"{name} takes long, its result is committed; to make it anew, by hand: "
                f"{claim.test.command}"
            )
    if fast:
        return [name for name, claim in registry.claims.items() if claim.test and claim.test.fast]
    return list(names)


def run(
    registry: Registry, names: Sequence[str], *, clock: Clock = time.monotonic
) -> Iterator[Ran]:
    """Test each claim; a command that serves several claims runs once.

    A new result takes the old one's place once all claims of the command find their figures in
    it. Raises MeasurementError if a command fails, and then nothing has changed for its claims.
    """
    for command, group in _by_command(registry, names).items():
        test = _test(registry.claims[group[0]])
        before = {name: _before(registry, name) for name in group}
        began = clock()
        with tempfile.TemporaryDirectory() as folder:
            fresh = _made(registry.root, command, test, Path(folder))
            result = document(fresh)
            found = {
                name: judge_figures(
                    registry.claims[name], figures_of(registry.claims[name], registry.root, result)
                )
                for name in group
            }
            seconds = clock() - began
            write_bytes(registry.root / test.result, fresh.read_bytes())
        for number, name in enumerate(group):
            spent = seconds if number == 0 else 0.0
            made = record_of(
                registry.root, _test(registry.claims[name]), version=__version__,
                seconds=round(seconds, 1),
            )  # fmt: skip
            write_record(registry.root, name, made)
            yield Ran(name=name, before=before[name], after=found[name], seconds=spent)


def _before(registry: Registry, name: str) -> Judged:
    """The verdict so far; a result that lacks the figures of today's claim tells nothing."""
    try:
        return judge(registry.claims[name], registry.root)
    except InputError:
        return Judged(verdict=Verdict.NOT_TESTED, holds=None)


def _test(claim: Claim) -> ClaimTest:
    assert claim.test is not None  # `chosen` refuses claims without one
    return claim.test


def _by_command(registry: Registry, names: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_test(registry.claims[name]).command, []).append(name)
    for command, group in groups.items():
        results = {_test(registry.claims[name]).result for name in group}
        if len(results) > 1:
            raise InputError(f"{command}: one command, {len(results)} results; give it one")
    return groups


def _made(root: Path, command: str, test: ClaimTest, folder: Path) -> Path:
    """The file that a command writes, or its standard output."""
    out = folder / Path(test.result).name
    argv = [
        part.replace("OUTDIR", str(folder)).replace("OUT", str(out))
        for part in shlex.split(command)
    ]
    argv = {"suffice": [sys.executable, "-m", "suffice"], "python": [sys.executable]}.get(
        argv[0], argv[:1]
    ) + argv[1:]
    limit_s = max(60.0, PATIENCE * test.budget_s)
    environment = dict(os.environ) | {"MPLBACKEND": "Agg", "COLUMNS": "200"}
    try:
        done = subprocess.run(
            argv, cwd=root, env=environment, check=False, capture_output=True, text=True,
            timeout=limit_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MeasurementError(
            f"{command}: not done after {limit_s:.0f} s; its budget is {test.budget_s:.0f} s"
        ) from None
    except FileNotFoundError:
        raise MeasurementError(f"{command}: there is no program {argv[0]!r}") from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it printed no error"])[-1]
        raise MeasurementError(f"{command}: exit code {done.returncode}: {said[:300]}")
    if "OUT" not in command:
        _json(done.stdout, command)
        out.write_text(done.stdout, encoding="utf-8")
    if not out.is_file():
        raise MeasurementError(f"{command}: it ended well and wrote no result")
    return out


def _json(text: str, command: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise MeasurementError(f"{command}: what it printed is no JSON") from None
