"""Everything suffice raises on purpose.

SufficeError
├── InputError            (ValueError)   what the user gave cannot be used
│   ├── ConfigError                      a model configuration is malformed or contradictory
│   ├── UnsupportedModel                 recognised, but outside what suffice models today
│   ├── UnknownName       (LookupError)  a model, hardware or law that is not in the catalogue
│   ├── TableError                       a table of runs lacks columns, rows or sane values
│   ├── CorruptData                      a file of a data set differs from its recorded hash
│   ├── OutsideValidity                  a law or a table is asked beyond its evidence
│   ├── LacksCapability                  the policy needs what this backend cannot do
│   └── BudgetTooSmall                   the budget leaves no room for a single sample
├── BackendError        (RuntimeError)   an upstream engine failed while it served a request
│   ├── UpstreamRefused (ConnectionError)  no connection
│   ├── UpstreamTimeout (TimeoutError)     it hangs
│   │   └── UpstreamUnreachable                before it has taken the connection
│   ├── UpstreamDisconnected (ConnectionError)  it died in the middle of a stream
│   ├── MalformedStream                  it sent what is not valid server-sent events or JSON
│   ├── UpstreamRejected                 it answered with an error status
│   └── NoAnswer                         every sample failed
├── PolicyMisbehaved    (RuntimeError)   a policy broke its contract
├── TrainingDiverged  (ArithmeticError)  a loss is not a number any more
├── DiskFull              (OSError)      no room is left to write a shard, checkpoint or record
├── DoesNotFit            (MemoryError)  the model leaves no room for a single sequence
├── NothingFeasible       (LookupError)  a search whose constraints no shape meets
├── MissingExtra          (ImportError)  an optional dependency is not installed
└── MeasurementError      (RuntimeError) an engine failed while it was being measured

A message says what was given, what is allowed and what to do, on one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TypeVar

from suffice.core.extras import install_command

E = TypeVar("E", bound=BaseException)


class SufficeError(Exception):
    """Base of every deliberate error; the command line prints it on one line and exits with 2."""


class InputError(SufficeError, ValueError):
    """What the user gave cannot be used."""


class ConfigError(InputError):
    """A model configuration is malformed or contradicts itself."""


class UnsupportedModel(InputError):
    """A model family that is recognised but not modelled."""


# A longer name than this is no misspelt one.
LONGEST_NAME = 200


class UnknownName(InputError, LookupError):
    """A name that is in no catalogue; the message offers the nearest ones."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str], hint: str) -> UnknownName:
        """Build the error for `name`, with the closest of `known` and what to do instead."""
        known = sorted(known)
        by_folded = {candidate.lower(): candidate for candidate in known}
        close: list[str] = []
        if len(name) <= LONGEST_NAME:  # comparing takes the product of both lengths
            close = get_close_matches(name.lower(), by_folded, n=3, cutoff=0.5)
        name = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
        meant = f"; did you mean {', '.join(by_folded[match] for match in close)}?" if close else ""
        return cls(f"unknown {kind} {name!r}{meant} {hint}".replace("  ", " "))


class TableError(InputError):
    """A table of runs lacks columns, rows or sane values."""


class CorruptData(InputError):
    """A file of a data set differs from the hash that was recorded when it was written."""


class OutsideValidity(InputError):
    """A law or a calibration is asked beyond the range of its evidence."""


class LacksCapability(InputError):
    """A policy needs something that the backend cannot do (logprobs, prefill, a scorer)."""


class BudgetTooSmall(InputError):
    """The budget leaves no room for a single sample."""


class BackendError(SufficeError, RuntimeError):
    """An upstream engine failed while it served a request."""


class UpstreamRefused(BackendError, ConnectionError):
    """The upstream accepts no connection."""


class UpstreamTimeout(BackendError, TimeoutError):
    """The upstream sent nothing for too long."""


class UpstreamUnreachable(UpstreamTimeout):
    """The upstream did not take the connection in time: it has seen nothing of the request."""


class UpstreamDisconnected(BackendError, ConnectionError):
    """The upstream closed the connection before the stream was complete."""


class MalformedStream(BackendError):
    """The upstream sent something that is not valid server-sent events or JSON."""


class UpstreamRejected(BackendError):
    """The upstream answered with an error status, kept in `status` (an HTTP code).

    `retry_after_s` is the time after which it said to try again, if it did.
    """

    def __init__(
        self, message: str, *, status: int = 500, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class NoAnswer(BackendError):
    """Every sample of a request failed; the message says how each did."""


class PolicyMisbehaved(SufficeError, RuntimeError):
    """A policy broke its contract: a number used twice, an answer that was never drawn."""


class TrainingDiverged(SufficeError, ArithmeticError):
    """A training loss is NaN or infinite; what was saved before is whole."""


class DiskFull(SufficeError, OSError):
    """No room is left on the disk; what was written before is whole."""


class DoesNotFit(SufficeError, MemoryError):
    """The weights leave no room for a single sequence on this hardware."""


class NothingFeasible(SufficeError, LookupError):
    """No shape meets the constraints of a search."""


class MeasurementError(SufficeError, RuntimeError):
    """An engine failed while it was being measured."""


class MissingExtra(SufficeError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingExtra:
        """Build the error for a missing `package` that `extra` would install."""
        how = install_command(extra, fallback=package)
        return cls(f"{purpose} needs {package}: {how} (the extra {extra})")


@contextmanager
def needs(extra: str, purpose: str) -> Iterator[None]:
    """Around imports that `extra` brings: where a package is missing, MissingExtra names it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or extra).partition(".")[0]
        if package == "suffice":
            raise
        raise MissingExtra.of(package, extra, purpose) from None


def without_frames(error: E) -> E:
    """The error, and those behind it, without the frames that they went through.

    An error that is kept would keep what was in them: of an answer that was too large, all of it.
    """
    behind: BaseException | None = error
    while behind is not None and behind.__traceback__ is not None:
        behind.__traceback__ = None
        behind = behind.__cause__ or behind.__context__
    return error
