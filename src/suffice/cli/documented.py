"""A verb's options are explained in its docstring, a line each:

    def size(model: Argument[str], gpus: int = 1, as_json: Flag = False) -> None:
        '''How fast a model is on a machine.

        Options:
            model: Its name or its folder.
        Limits:
            gpus: How many there are.
        '''

A title other than Options is the panel of `--help` in which its options stand together. A parameter
may have an own `typer.Option` with what else typer has to know (another name, `min`, …).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from copy import copy
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo, ParameterInfo

_FLAG = object()
Flag = Annotated[bool, _FLAG]  # --name alone, without --no-name

_START = "Options:\n"
_LINE = re.compile(r" {4}(\w+): (.*)")


def documented(verb: Callable[..., Any]) -> None:
    """Move what the docstring says of options to where typer reads it.

    Raises KeyError where it explains one that the verb has not.
    """
    about, start, options = inspect.cleandoc(verb.__doc__ or "").partition(_START)
    if not start:
        return
    hints = get_type_hints(verb, include_extras=True)
    parameters = inspect.signature(verb).parameters
    for name, text, panel in _explained(options):
        default = parameters[name].default
        verb.__annotations__[name] = _option(name, hints[name], default, text, panel)
    verb.__doc__ = about.rstrip()


def _explained(options: str) -> Iterator[tuple[str, str, str | None]]:
    """(parameter, help, panel) of the lines below "Options:"."""
    name, text, panel = "", "", None
    for line in options.splitlines():
        found = _LINE.fullmatch(line)
        if name and (found or not line.startswith(" ")):
            yield name, text, panel
            name = ""
        if found:
            name, text = found.groups()
        elif line.startswith(" "):
            text += " " + line.strip()
        elif line:
            panel = line.rstrip(":")
    if name:
        yield name, text, panel


def _option(name: str, hint: Any, default: Any, text: str, panel: str | None) -> Any:
    """The annotation that typer reads: the type, with an option or argument that has its help."""
    kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    own = [mark for mark in marks if isinstance(mark, ParameterInfo)]
    flag = (f"--{name.replace('_', '-')}",) if _FLAG in marks else ()
    info: ParameterInfo = copy(own[0]) if own else typer.Option(*flag)
    info.help, info.rich_help_panel = text, panel
    if isinstance(info, OptionInfo) and default in (None, ""):
        info.show_default = False
    return Annotated[kind, info]
