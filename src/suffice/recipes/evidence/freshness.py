"""Whether a result is older than its code: hashes of what code does, kept beside the result."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from suffice.core.errors import ConfigError
from suffice.core.files import read_json, write_json
from suffice.core.settings import STRICT
from suffice.recipes.evidence.claim import Claim, ClaimTest

RECORDS = Path("results") / "evidence" / "made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How a result came about. `seconds` is None where it was made before records were kept."""

    __pydantic_config__ = STRICT
    command: str
    result_sha256: str
    code: dict[str, str]
    inputs: dict[str, str] = field(default_factory=dict)
    version: str
    seconds: float | None = None
    commit: str | None = None  # that of the result, where the record was made from the history


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """What changed since the result was made; `known` is False where no record says."""

    known: bool
    changed: tuple[str, ...] = ()

    @property
    def stale(self) -> bool:
        """Whether code, data or the result itself changed since."""
        return self.known and bool(self.changed)

    @property
    def word(self) -> str:
        """In a word."""
        if not self.known:
            return "no record"
        return f"stale: {', '.join(self.changed)}" if self.changed else "current"


_MADE = TypeAdapter(Made)


def code_hash(text: bytes, name: str) -> str:
    """SHA-256 of what a file does: Python without comments, docstrings, imports and blank lines.

    Lines are hashed and not the syntax tree, whose form differs between versions of Python.
    """
    if not name.endswith(".py"):
        return hashlib.sha256(text).hexdigest()
    lines = text.decode("utf-8").splitlines()
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    silent = {
        row
        for node in ast.walk(ast.parse(text))
        if _says_nothing(node)
        for row in range(node.lineno, (node.end_lineno or node.lineno) + 1)  # type: ignore[attr-defined]
    }
    kept = [line.strip() for row, line in enumerate(lines, 1) if row not in silent]
    return hashlib.sha256("\n".join(line for line in kept if line).encode()).hexdigest()


def _says_nothing(node: ast.AST) -> bool:
    """An import, or a text that stands alone: renamed modules and other words change nothing."""
    return isinstance(node, ast.Import | ast.ImportFrom) or (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def hashes(root: Path, names: Iterable[str], known: dict[str, str] | None = None) -> dict[str, str]:
    """Hash of each file, or of every file of a folder taken together; absent ones have "absent".

    `known` keeps what was hashed before in the same look at the clone.
    """
    known = {} if known is None else known
    return {name: known.setdefault(name, "") or _kept(root, name, known) for name in names}


def _kept(root: Path, name: str, known: dict[str, str]) -> str:
    known[name] = _hash(root / name)
    return known[name]


def _hash(path: Path) -> str:
    if path.is_dir():
        inner = [
            f"{file.relative_to(path)} {code_hash(file.read_bytes(), file.name)}"
            for file in sorted(path.rglob("*"))
            if file.is_file() and "__pycache__" not in file.parts
        ]
        return hashlib.sha256("\n".join(inner).encode()).hexdigest()
    return code_hash(path.read_bytes(), path.name) if path.is_file() else "absent"


def record_path(root: Path, name: str) -> Path:
    """Where the record of a claim's result stands."""
    return root / RECORDS / f"{name}.json"


def write_record(root: Path, name: str, made: Made) -> None:
    """Keep how a result was made."""
    write_json(record_path(root, name), _MADE.dump_python(made, mode="json"))


def read_record(root: Path, name: str) -> Made | None:
    """The record of a claim's result; None if there is none."""
    path = record_path(root, name)
    if not path.exists():
        return None
    try:
        return _MADE.validate_python(read_json(path, what="record"))
    except ValidationError as error:
        raise ConfigError(f"{path.name}: {error.errors()[0]['msg'].lower()}") from None


def record_of(root: Path, test: ClaimTest, *, version: str, seconds: float | None) -> Made:
    """The record of a result that was just made."""
    return Made(
        command=test.command,
        result_sha256=_hash(root / test.result),
        code=hashes(root, test.depends),
        inputs=hashes(root, test.inputs),
        version=version,
        seconds=seconds,
    )


def freshness(
    root: Path, name: str, claim: Claim, known: dict[str, str] | None = None
) -> Freshness:
    """What of a claim's code, data and result is not as it was when the result was made."""
    made = read_record(root, name) if claim.test else None
    if made is None or claim.test is None:
        return Freshness(known=False)
    now = hashes(root, (*claim.test.depends, *claim.test.inputs), known)
    then = made.code | made.inputs
    changed = [file for file, value in now.items() if then.get(file) != value]
    if hashes(root, [claim.test.result], known)[claim.test.result] != made.result_sha256:
        changed.append(claim.test.result)
    if made.command != claim.test.command:
        changed.append("the command")
    return Freshness(known=True, changed=tuple(changed))
