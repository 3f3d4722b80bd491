"""Write docs/commands.md: every verb of `suffice` with its options, from what `--help` says.

python scripts/write_commands.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from suffice.cli.main import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
HEAD = """# Commands

Every verb and its options, as `--help` says them. Made by `python scripts/write_commands.py`.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """(name, command) of every verb that does something by itself."""
    root = typer.main.get_command(app)
    root.load_all()  # type: ignore[attr-defined]

    def walk(name: str, at: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(at, "commands", {})
        if not inner or getattr(at, "invoke_without_command", False):
            yield name, at
        for sub in inner:
            yield from walk(f"{name} {sub}", inner[sub])

    return walk("suffice", root)


def options(command: Any) -> Iterator[str]:
    """A row of the table for each option and argument that `--help` shows."""
    for each in command.params:
        if each.hidden or each.name in ("install_completion", "show_completion", "help"):
            continue
        names = " ".join(f"`{name}`" for name in (*each.opts, *each.secondary_opts))
        text = " ".join((each.help or "").replace("\\[", "[").split()).replace("|", "\\|")
        yield f"| {names}{' (required)' if each.required else ''} | {text} |"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, command in commands():
        rows = list(options(command))
        if name == "suffice" or command.hidden:
            continue
        said = (command.help or "").split("\n\n")[0].replace("\n", " ")
        parts.append(f"## `{name}`\n\n{said}\n")
        if rows:
            parts.append("\n".join(["| option | what |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
