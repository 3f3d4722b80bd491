"""A server that answers every request with a script of bytes, pauses and misdeeds.

It reads a request whole, then plays the steps that the script gives for it. What is not a request
for a completion (the list of models) is answered properly. Runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Literal

from suffice.testing.threaded_server import ThreadedServer

# Bytes are sent, numbers are seconds to wait. "close" ends the connection, "reset" tears it down,
# "hang" waits until the other side leaves, "cut" closes the socket under TLS without a goodbye.
Step = bytes | float | Literal["close", "reset", "hang", "cut"]
# A generator decides as it goes, which lets an answer wait for what a test does.
Steps = Callable[[dict[str, Any]], Iterable[Step]]


class ScriptedServer(ThreadedServer):
    """`with ScriptedServer(steps) as server:` serves at `server.url`; `steps` sees each body."""

    def __init__(self, steps: Steps, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls=tls)
        self._steps = steps
        self.requests = 0  # completions asked for
        self.left = 0  # times that the other side went away while it was to wait

    @property
    def url(self) -> str:
        """Base URL, without /v1."""
        return f"http{'s' if self._tls else ''}://localhost:{self.port}"

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        if head.startswith("GET"):
            models = json.dumps({"object": "list", "data": [{"id": "fake"}]}).encode()
            writer.write(plain(models))
            return True
        self.requests += 1
        for step in self._steps(json.loads(body)):
            if not await self._play(step, reader, writer):
                return False
        return True

    async def _play(
        self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Carry out one step; whether the connection goes on."""
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
            return True
        if isinstance(step, float):
            await asyncio.sleep(step)
            return True
        if step == "hang":
            with suppress(ConnectionError):
                await reader.read(1)
            self.left += 1
        elif step == "close":
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
        elif step == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return False  # what is left is torn down without a goodbye


def plain(
    body: bytes,
    *,
    status: int = 200,
    kind: str = "application/json",
    length: int | None = None,
    extra: str = "",
) -> bytes:
    """A whole answer; `length` can promise more than there is."""
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n{extra}\r\n"
    return head.encode() + body


def framed(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
