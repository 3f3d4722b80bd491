"""Waiting until the ledger has what this process told it."""

from __future__ import annotations

import asyncio

from suffice.ledger.writer import Writer

# Not longer: then whoever asks is told what is known.
CAUGHT_UP_S = 1.0


async def caught_up(writer: Writer) -> None:
    """Wait until the calls that ended here are written; not long where they cannot be."""
    written = writer.caught_up()
    if written is not None:
        waited = asyncio.wrap_future(written)
        await asyncio.wait([waited], timeout=CAUGHT_UP_S)
        if waited.done():
            waited.exception()  # the ledger has logged and counted it
