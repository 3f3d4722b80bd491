"""What an import is asked for, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from suffice.core.errors import InputError
from suffice.evals.traces.columns import TraceInformation
from suffice.evals.traces.trace_set import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What the user says of the files; None: it is guessed, and the guess is told.

    `columns` maps fields to columns of a table; `checker` is an answer format; `pick` names one of
    several filters, metrics or scorers of a log; a verdict of `right_from` or more is right.
    """

    dataset: str | None = None
    model: str | None = None
    checker: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    pick: str | None = None
    right_from: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.right_from <= 1.0:
            raise InputError(f"a verdict is right from above 0 to 1 on, got {self.right_from:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Traces that are read as they are taken, what the file says about itself, what was guessed."""

    traces: Iterator[Trace]
    information: TraceInformation
    notes: tuple[str, ...] = ()
