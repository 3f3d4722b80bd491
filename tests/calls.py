"""How much work a piece of code does, in function calls: a measure that no busy machine moves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def calls() -> Iterator[list[str]]:
    """Names of the functions that this thread calls in the block, C functions included."""
    made: list[str] = []

    def seen(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            made.append(frame.f_code.co_name)
        elif event == "c_call":
            made.append(argument.__name__)

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        yield made
    finally:
        sys.setprofile(before)
