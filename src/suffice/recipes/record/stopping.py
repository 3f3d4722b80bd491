"""SIGTERM ends a run as Ctrl-C does: what was drawn is written before the process goes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Terminated(BaseException):
    """The process was asked to end (SIGTERM), and has put its things in order."""


def run_until_stopped(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, or to SIGINT (KeyboardInterrupt) or SIGTERM (Terminated).

    Either cancels the work first, so that its `with` blocks write what they hold.
    """
    asked = False

    async def watched() -> T:
        task = asyncio.ensure_future(work)

        def terminate() -> None:
            nonlocal asked
            asked = True
            task.cancel()

        # Not on Windows, and not outside the main thread: there SIGTERM keeps its usual meaning.
        with suppress(NotImplementedError, ValueError, RuntimeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()  # by Ctrl-C: asyncio has cancelled this coroutine, not the task
            with suppress(asyncio.CancelledError):
                await task
            raise

    try:
        return asyncio.run(watched())
    except asyncio.CancelledError:
        if asked:
            raise Terminated from None
        raise
