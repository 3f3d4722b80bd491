"""Records of results that were committed before records were kept, from the history in git."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from suffice.core.errors import InputError
from suffice.core.version import __version__
from suffice.recipes.evidence.claim import Claim
from suffice.recipes.evidence.freshness import Made, code_hash, hashes


def adopted(root: Path, claim: Claim) -> Made:
    """The code as it was when the claim's result was committed.

    A file that had another name then is followed to it. Raises InputError without a history, or
    where the result is not committed or differs from what is.
    """
    if claim.test is None:
        raise InputError(f"{claim.title}: no test, so no result")
    test = claim.test
    if _git(root, "status", "--porcelain", "--", test.result).strip():
        raise InputError(f"{test.result} differs from what is committed: run the test instead")
    commit = _git(root, "log", "-1", "--format=%H", "--", test.result).strip()
    if not commit:
        raise InputError(f"{test.result} is not committed: run the test instead")
    return Made(
        command=test.command,
        result_sha256=hashes(root, [test.result])[test.result],
        code={name: _then(root, commit, name) for name in test.depends},
        inputs=hashes(root, test.inputs),
        version=__version__,
        commit=commit,
    )


def _then(root: Path, commit: str, name: str) -> str:
    """Hash of a file, or of a folder's files, at a commit; "absent" if it was not there yet."""
    path = name if _there(root, commit, name) else _earlier_name(root, commit, name)
    if path is None:
        return "absent"
    if _git(root, "cat-file", "-t", f"{commit}:{path}").strip() == "blob":
        return code_hash(_show(root, commit, path), path)
    inner = [
        f"{Path(file).relative_to(path)} {code_hash(_show(root, commit, file), file)}"
        for file in sorted(
            _git(root, "ls-tree", "-r", "--name-only", commit, f"{path}/").splitlines(),
            key=lambda file: Path(file).parts,
        )
    ]
    return hashlib.sha256("\n".join(inner).encode()).hexdigest()


def _there(root: Path, commit: str, name: str) -> bool:
    return not subprocess.run(
        ["git", "cat-file", "-e", f"{commit}:{name}"], cwd=root, check=False, capture_output=True
    ).returncode


def _earlier_name(root: Path, commit: str, name: str) -> str | None:
    """What a file that was renamed since was called at `commit`."""
    listed = _git(root, "log", "--follow", "--name-only", "--format=", "--", name).splitlines()
    return next((each for each in listed if each and _there(root, commit, each)), None)


def _show(root: Path, commit: str, path: str) -> bytes:
    return subprocess.run(
        ["git", "show", f"{commit}:{path}"], cwd=root, check=True, capture_output=True
    ).stdout


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=root, check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise InputError("git is not installed: records come from the history") from None
    if done.returncode:
        raise InputError(f"git {words[0]}: {(done.stderr.strip() or 'it failed')[:200]}")
    return done.stdout
