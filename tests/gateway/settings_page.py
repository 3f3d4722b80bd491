"""docs/settings.md, made from the settings' own definitions.

Written anew by `python -m tests.gateway.settings_page`.
"""

from __future__ import annotations

from dataclasses import MISSING, is_dataclass
from pathlib import Path

from annotated_types import Ge, Gt, Le

from suffice.core.settings import Setting, settings_of
from suffice.gateway.config_file import ConfigFile
from suffice.gateway.config_init import value

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
HEAD = """\
# Every setting of the gateway

Made from the settings' own definitions, like `suffice config init`, which writes a file with all of
them. Names end in their unit: `_s` seconds, `_bytes` bytes. A default of – means that it is not
set. Most are in use again after `kill -HUP`
([which are not](run-it-for-real.md#changing-it-while-it-runs)).
"""


def page() -> str:
    """The page's text."""
    return "\n".join([HEAD, *_tables("", ConfigFile, many=False)]).rstrip() + "\n"


def _tables(name: str, table: type, *, many: bool) -> list[str]:
    title = "top of the file" if not name else f"`[[{name}]]`" if many else f"`[{name}]`"
    lines = [f"## {title}", "", "| key | default | allowed | meaning |", "|---|--:|---|---|"]
    below: list[str] = []
    for setting in settings_of(table):
        inner = next((kind for kind in setting.kinds if is_dataclass(kind)), None)
        if inner is None or setting.about.example is not None:
            lines.append(_row(setting))
        if inner is not None:
            path = f"{name}.{setting.name}".removeprefix(".")
            below += _tables(path, inner, many=isinstance(setting.default, tuple))
    return [*lines, "", *below]


def _row(setting: Setting) -> str:
    default = "required" if setting.default is MISSING else "–"
    if setting.default not in (None, MISSING) and setting.default != {}:
        default = f"`{value(setting.default)}`"
    limits = {Ge: "≥", Gt: ">", Le: "≤"}
    allowed = ", ".join(
        f"{limits[type(limit)]} {next(iter(vars_of(limit))):g}" for limit in setting.limits
    )
    return (
        f"| `{setting.name}` | {default} | {allowed} | {setting.about.doc.replace('<', '&lt;')} |"
    )


def vars_of(limit: Ge | Gt | Le) -> list[float]:
    """The bound of a limit."""
    return [float(getattr(limit, name)) for name in ("ge", "gt", "le") if hasattr(limit, name)]


def write() -> None:
    """Write the page anew."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
