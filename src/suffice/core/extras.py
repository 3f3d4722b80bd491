"""How an optional part is installed, in names that package indexes know.

suffice itself is installed from its folder or from a wheel, so no command names it: what an extra
brings is read from the installed metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from shlex import quote

_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_NAME = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?")


def install_command(extra: str, *, fallback: str = "") -> str:
    """`pip install …` of what the extra `extra` brings; of `fallback` where that is not known."""
    wanted = list(dict.fromkeys(_requirements(extra))) or ([fallback] if fallback else [])
    if not wanted:
        return f"pip install '.[{extra}]' in suffice's folder"
    return " ".join(["pip install", *map(quote, wanted)])


def _requirements(extra: str) -> Iterator[str]:
    """Requirements of an extra, those of the extras of ours that it names included."""
    try:
        lines = requires("suffice") or []
    except PackageNotFoundError:
        return
    for line in lines:
        requirement, _, marker = line.partition(";")
        found = _EXTRA.search(marker)
        if found is None or found[1] != extra:
            continue
        name = _NAME.match(requirement)
        if name is not None and name[1] == "suffice":
            for inner in (name[2] or "").split(","):
                yield from _requirements(inner.strip())
        else:
            yield requirement.strip().replace(" ", "")
