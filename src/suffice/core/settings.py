"""One definition per setting: a frozen dataclass whose limits and meaning are annotations.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class RetryConfig:
        __pydantic_config__ = STRICT
        attempts: Annotated[int, Ge(1), About("tries on each upstream")] = 3

The program uses the dataclass, a file is checked against it by pydantic's TypeAdapter, and
`suffice config init` writes what is said here. Limits (Ge, Gt, Le) come from annotated_types.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from annotated_types import Ge, Gt, Le

if TYPE_CHECKING:
    from pydantic import ConfigDict

# Of a table in a file: unknown keys are mistakes, and so are nan and inf.
STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True, slots=True)
class About:
    """What a setting means, on one line; `example` is shown where there is no default."""

    doc: str
    example: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as it is defined; `default` is MISSING where it has to be given."""

    name: str
    about: About
    default: Any
    kinds: tuple[type, ...]  # the plain types it may have, None aside
    limits: tuple[Any, ...]  # Ge, Gt, Le


def settings_of(table: type) -> list[Setting]:
    """Every setting of a table's class, in the order of its definition.

    Raises TypeError for one without About: a setting that nobody explains.
    """
    hints = get_type_hints(table, include_extras=True)
    return [_setting(table, field, hints[field.name]) for field in dataclasses.fields(table)]


def _setting(table: type, field: dataclasses.Field[Any], hint: Any) -> Setting:
    notes = [note for note in _notes(hint) if isinstance(note, About)]
    kinds = tuple(kind for kind in _kinds(hint) if kind is not NoneType)
    if not notes and not any(dataclasses.is_dataclass(kind) for kind in kinds):
        raise TypeError(f"{table.__name__}.{field.name} has no About")
    default = field.default
    if default is MISSING and field.default_factory is not MISSING:
        default = field.default_factory()
    about = notes[0] if notes else About("")
    limits = tuple(note for note in _notes(hint) if isinstance(note, Ge | Gt | Le))
    return Setting(name=field.name, about=about, default=default, kinds=kinds, limits=limits)


def _notes(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())


def _kinds(hint: Any) -> list[type]:
    """Plain types in an annotation, whatever they are wrapped in."""
    if isinstance(hint, type) and not get_args(hint):
        return [hint]
    inner = [hint.__origin__] if _notes(hint) else get_args(hint)
    return [kind for each in inner for kind in _kinds(each)]
