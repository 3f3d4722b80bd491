"""Verbs that are imported when they are called; help and completion read a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from suffice.cli.documented import documented

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


def only_help(argv: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a command line asks for help or for completion, and certainly for nothing else.

    A word after an option may be its value, so `--system -h` does not count.
    """
    if "_SUFFICE_COMPLETE" in environ:
        return True
    *_, before, last = ("", "", *argv[1:])
    return last in HELP_OPTIONS["help_option_names"] and not before.startswith("-")


# Help shows options alone: what a verb works with (numpy, pydantic, …) is imported for a run.
HELP_ONLY = only_help(sys.argv, os.environ)


class Named(TyperCommand):
    """A verb that is not imported yet: its name and a line of help."""


class LazyGroup(TyperGroup):
    """A group of `verbs`: name -> ("module:object" in suffice.cli, a line of help).

    The object is a function with typer's annotations, or a `typer.Typer` with verbs of its own.
    Tests and tools that want every command call `load_all`.
    """

    verbs: Mapping[str, tuple[str, str]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, (_, line) in self.verbs.items():
            self.commands.setdefault(name, Named(name, help=line))

    def loaded(self, name: str) -> Any:
        """The command behind `name`; its module is imported when it is first asked for."""
        if not isinstance(self.commands[name], Named):
            return self.commands[name]
        module, _, attribute = self.verbs[name][0].partition(":")
        command = as_command(getattr(import_module(f"suffice.cli.{module}"), attribute), name)
        self.commands[name] = command
        return command

    def load_all(self) -> None:
        """Import every verb, for who lists options."""
        for name in self.verbs:
            if isinstance(inner := self.loaded(name), LazyGroup):
                inner.load_all()

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As click does, with the real command in place of its line in the table."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, self.loaded(name) if name and name in self.verbs else command, rest


def lazy_app(verbs: Mapping[str, tuple[str, str]], **settings: Any) -> typer.Typer:
    """A typer app of `verbs`, each imported when it is called; without a verb it shows its help."""
    group = type("Verbs", (LazyGroup,), {"verbs": verbs})
    return typer.Typer(
        cls=group, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
        context_settings=HELP_OPTIONS, **settings,
    )  # fmt: skip


def as_command(verb: Callable[..., Any] | typer.Typer, name: str) -> Any:
    """The command of a function or of a typer app."""
    if isinstance(verb, typer.Typer):
        for inner in (*verb.registered_commands, verb.registered_callback):
            if inner is not None and inner.callback is not None:
                documented(inner.callback)
        command = typer.main.get_group(verb)
        command.name = name
        return command
    app = typer.Typer(
        add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False,
        context_settings=HELP_OPTIONS,
    )  # fmt: skip
    documented(verb)
    app.command(name)(verb)
    return typer.main.get_command(app)
