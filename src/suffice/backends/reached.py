"""Whether a request has reached its engine: told by whoever sends it, heard by whoever books it.

What never reached an engine cost nothing, whatever became of it afterwards. The listener is set for
the task that reads the answer (a context variable), so that nothing between the two has to pass it
on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Heard = Callable[[bool], None]
_HEARD: ContextVar[Heard | None] = ContextVar("suffice_reached", default=None)


def tell_reached(reached: bool = True) -> None:
    """A backend says that the request at hand is with its engine; False takes that back."""
    heard = _HEARD.get()
    if heard is not None:
        heard(reached)


@contextmanager
def hearing(heard: Heard) -> Iterator[None]:
    """Hear it of every request that is sent inside the block, in this task."""
    token = _HEARD.set(heard)
    try:
        yield
    finally:
        _HEARD.reset(token)
