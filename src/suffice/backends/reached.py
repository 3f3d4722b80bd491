"""Whether a request has reached its engine: told by whoever sends it, heard by whoever books it.

What never reached an engine cost nothing, whatever became of it afterwards. The listener is set for
the task that reads the answer (a context variable), so that nothing between the two has to pass it
on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

Heard = Callable[[bool], None]
_HEARD: ContextVar[Heard | None] = ContextVar("suffice_reached", default=None)


def tell_reached(reached: bool = True) -> None:
    """A backend says that the request at hand is with its engine; False takes that back."""
    heard = _HEARD.get()
    if heard is not None:
        heard(reached)


class hearing:  # noqa: N801 - a context manager; as a generator it costs every sample microseconds
    """Hear it of every request that is sent inside the block, in this task."""

    __slots__ = ("_heard", "_token")

    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    def __enter__(self) -> None:
        self._token = _HEARD.set(self._heard)

    def __exit__(self, *_: object) -> None:
        _HEARD.reset(self._token)
