"""Files that are either whole or absent."""

from __future__ import annotations

import json
import os
import select
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any, TypeVar

from suffice.core.errors import DiskFull, InputError

T = TypeVar("T")

# Of one file that is read whole; none of ours comes near it.
MOST_BYTES = 2**30
MOST_SETTINGS_BYTES = 4 * 2**20
MOST_LEVELS = 64
# A pipe whose writer says nothing for so long is given up.
SILENCE_S = 5.0


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically: a reader sees the old file or the new one, never half."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically, creating parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        # mkstemp makes the file private; give it the mode that open() would have given.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:  # Ctrl-C too: raised again, but half a file must not stay
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinities are errors rather than invalid JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_text(path: Path, *, what: str, most_bytes: int = MOST_BYTES) -> str:
    """Text of a file, or of a pipe that someone writes into; raises InputError that names `what`.

    Anything else (a folder, a device) is refused, and so is more than `most_bytes`.
    """
    named = f"{what} {str(path)!r}"
    try:
        # Opening a pipe waits for its writer unless told otherwise.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise InputError(f"{named} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"{named} is a folder, a file is needed") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{named} cannot be read: {_said(error)}") from None
    try:
        data = _read(handle, named, most_bytes)
    except OSError as error:
        raise InputError(f"{named} cannot be read: {_said(error)}") from None
    finally:
        os.close(handle)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{named} is not UTF-8 text (line {line})") from None


def _read(handle: int, named: str, most_bytes: int) -> bytes:
    mode = os.fstat(handle).st_mode
    if stat.S_ISDIR(mode):
        raise InputError(f"{named} is a folder, a file is needed")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise InputError(f"{named} is neither a file nor a pipe")
    data = bytearray()
    while True:
        if stat.S_ISFIFO(mode) and not select.select([handle], [], [], SILENCE_S)[0]:
            raise InputError(f"{named} is a pipe into which nothing is written")
        piece = os.read(handle, 1 << 20)
        if not piece:
            return bytes(data)
        data += piece
        if len(data) > most_bytes:
            raise InputError(f"{named} has more than {most_bytes} bytes, too many for one")


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def read_toml(path: Path, *, what: str) -> tuple[dict[str, Any], str]:
    """Parsed TOML of `path`, and its text; raises InputError that names `what`, file and place."""
    text = read_text(path, what=what, most_bytes=MOST_SETTINGS_BYTES)
    try:
        return shallow(tomllib.loads(text), f"{what} {str(path)!r}"), text
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{what} {str(path)!r} is not valid TOML: {error}") from None
    except RecursionError:
        raise too_deep(f"{what} {str(path)!r}") from None


def read_json(path: Path, *, what: str) -> Any:
    """Parsed JSON of `path`; raises InputError that names `what`, the file and the place."""
    text = read_text(path, what=what)
    try:
        return shallow(json.loads(text), f"{what} {str(path)!r}")
    except json.JSONDecodeError as error:
        raise InputError(
            f"{what} {str(path)!r} is not valid JSON: {error.msg} at line {error.lineno}, "
            f"column {error.colno}"
        ) from None
    except RecursionError:
        raise too_deep(f"{what} {str(path)!r}") from None


def shallow(value: T, named: str) -> T:
    """The parsed value as it is; raises InputError if it is nested deeper than MOST_LEVELS."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_LEVELS):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return value
    raise too_deep(named)


def too_deep(named: str) -> InputError:
    """The error about a file that is nested deeper than anyone means."""
    return InputError(f"{named} is nested deeper than {MOST_LEVELS} levels")


@contextmanager
def disk_full_is_an_error(path: Path) -> Iterator[None]:
    """Turn "no space left" into DiskFull that names `path`; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT):
            raise
        raise DiskFull(
            f"the disk is full while writing {str(path)!r}: free some room and repeat the same "
            "command; what is finished is kept"
        ) from None
