"""What verbs that train small models share: settings with options over them, and progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from suffice.cli.lazy_group import HELP_ONLY

if not HELP_ONLY:
    from suffice.training.settings import from_toml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)


def settings_of(kind: type[T], config: Path | None, **given: Any) -> T:
    """The settings of a file, or the defaults; options that were given win."""
    asked = from_toml(kind, config) if config else kind()
    return replace(asked, **{name: value for name, value in given.items() if value is not None})


def phases(quiet: bool) -> Callable[[dict[str, Any]], None]:
    """Prints a line of progress: its phase and its figures; nothing if `quiet`."""

    def tell(line: dict[str, Any]) -> None:
        if quiet:
            return
        figures = (
            f"{name.replace('_', ' ')} {value:.4g}"
            for name, value in line.items()
            if name != "phase"
        )
        typer.echo(f"{line['phase']} · " + " · ".join(figures))

    return tell
