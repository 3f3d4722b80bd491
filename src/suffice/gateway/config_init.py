"""The file that `suffice config init` writes: every setting as it is defined, with its default."""

from __future__ import annotations

import re
from dataclasses import MISSING, is_dataclass
from typing import Any

from suffice.core.settings import Setting, settings_of
from suffice.gateway.config_file import ConfigFile

HEAD = """\
# suffice serve --config suffice.toml
# Every setting is here. What is not commented out is its default (but for the upstream's URL); what
# is, is an example of one that is not set. Secrets come from the environment: a key here names the
# variable. `suffice config check` says what is wrong, with its line; `kill -HUP` reads it again.
"""
# Tables that everyone looks at come first, limits that few change last.
_FIRST = (
    "upstream",
    "prices",
    "baseline",
    "models",
    "budget",
    "policies",
    "fallback",
    "ledger",
    "keys",
    "auto",
    "log",
    "traces",
)
_WIDTH = 40


def template() -> str:
    """The file's text."""
    lines = [HEAD]
    settings = settings_of(ConfigFile)
    free = {"policies": _policies, "prices": _free}
    lines += [_line(each) for each in settings if _table(each) is None and each.name not in free]
    order = {name: place for place, name in enumerate(_FIRST)}
    for each in sorted(settings, key=lambda s: order.get(s.name, len(_FIRST))):
        if each.name in free:
            lines += ["", *free[each.name](each)]
        elif (table := _table(each)) is not None:
            lines += _section(each.name, table, many=isinstance(each.default, tuple))
    return "\n".join(lines) + "\n"


def _section(name: str, table: type, *, many: bool = False) -> list[str]:
    lines = ["", f"[[{name}]]" if many else f"[{name}]"]
    inner = []
    for each in settings_of(table):
        # Small tables of examples stay on one line; those with defaults get a section.
        below = None if each.about.example is not None else _table(each)
        if below is None:
            lines.append(_line(each))
        else:
            inner += _section(f"{name}.{each.name}", below)
    if name == "fallback":  # there is no model that every gateway has
        return ["", *(line if line.startswith("#") else f"# {line}" for line in lines[1:])]
    return lines + inner


def _policies(setting: Setting) -> list[str]:
    lines = [f"# Policies of your own: {setting.about.doc}."]
    for name, table in setting.about.example.items():
        lines += [f"# [policies.{name}]", *(f"# {key} = {value(v)}" for key, v in table.items())]
    return lines


def _free(setting: Setting) -> list[str]:
    """A table whose keys are names of the operator's own."""
    lines = [f"[{setting.name}]", f"# {setting.about.doc}"]
    return lines + [f"# {_key(k)} = {value(v)}" for k, v in setting.about.example.items()]


def _line(setting: Setting) -> str:
    unset = setting.default is None or setting.default is MISSING
    shown = f"{setting.name} = {value(setting.about.example if unset else setting.default)}"
    if setting.default is None:
        shown = f"# {shown}"
    size = _size(setting) if not unset else ""
    return f"{shown:{_WIDTH - 1}} # {setting.about.doc}{size}"


def value(given: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, str):
        escaped = given.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(given, dict):
        inside = ", ".join(f"{_key(key)} = {value(inner)}" for key, inner in given.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(given, tuple | list):
        return f"[{', '.join(map(value, given))}]"
    if isinstance(given, int):
        return f"{given:_}" if given >= 100_000 else str(given)
    return f"{given:g}" if given == int(given) and given < 1e6 else repr(given)


def _key(name: str) -> str:
    """A key, in quotes where TOML wants them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else value(name)


def _size(setting: Setting) -> str:
    if not setting.name.endswith("_bytes") or not setting.default:
        return ""
    for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
        if setting.default % size == 0:
            return f" ({setting.default // size} {unit})"
    return ""


def _table(setting: Setting) -> type | None:
    return next((kind for kind in setting.kinds if is_dataclass(kind)), None)
