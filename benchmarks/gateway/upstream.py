"""A fast scripted engine: raw asyncio, answers prepared beforehand, thousands of requests a second.

It does what an engine does on the wire and nothing else, so that what is measured in front of it is
the gateway. `python upstream.py --port 9100 --chunks 200 --delay-ms 0`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re

MODELS = json.dumps(
    {"object": "list", "data": [{"id": "fake", "object": "model", "owned_by": "fake"}]}
).encode()
MOST = re.compile(rb'"max_(?:completion_)?tokens": ?(\d+)')
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
TEXT = "it is 4 and so it goes on, a sentence of the length that answers to a question have."


def response(body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def whole() -> bytes:
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake"}
    return response(json.dumps({**head, "choices": [choice], "usage": usage}).encode())


def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake"}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return framed(f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode())


def framed(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Engine(asyncio.Protocol):
    def __init__(self, chunks: int, delay_s: float) -> None:
        self.delay_s = delay_s
        self.whole = whole()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        head += b"transfer-encoding: chunked\r\n\r\n"
        usage = {"prompt_tokens": 12, "completion_tokens": chunks, "total_tokens": 12 + chunks}
        last = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                "model": "fake", "choices": [], "usage": usage}  # fmt: skip
        answer = [f" word{number}" for number in range(chunks)]
        self.pieces = [head + chunk({"role": "assistant", "content": ""})]
        self.pieces += [chunk({"content": word}) for word in answer]
        # Votes find a number to agree on in every answer, however short.
        ending = (
            chunk({"content": " 4"})
            + chunk({}, "stop")
            + framed(f"data: {json.dumps(last)}\n\n".encode())
        )
        self.pieces += [ending + framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"]
        self.buffer = b""
        self.stream: asyncio.Task[None] | None = None
        self.may_write = asyncio.Event()
        self.may_write.set()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.stream is not None:
            self.stream.cancel()

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            found = LENGTH.search(head)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self.buffer) < size:
                return
            body, self.buffer = self.buffer[end + 4 : size], self.buffer[size:]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET /v1/models"):
            self.transport.write(response(MODELS))
        elif head.startswith(b"GET") or b"completions" not in head:
            self.transport.write(b"HTTP/1.1 404 X\r\ncontent-length: 2\r\n\r\n{}")
        elif b'"stream":true' in body or b'"stream": true' in body:
            most = MOST.search(body)
            tokens = int(most[1]) if most else len(self.pieces)
            self.stream = asyncio.get_running_loop().create_task(self.send_stream(tokens))
        else:
            self.transport.write(self.whole)

    async def send_stream(self, tokens: int) -> None:
        """One write per chunk, as an engine does; without a delay they come as fast as can be."""
        for number, piece in enumerate([*self.pieces[:-1][: tokens + 1], self.pieces[-1]]):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            elif number % 20 == 19:
                await asyncio.sleep(0)  # others want to be served too
            await self.may_write.wait()
            self.transport.write(piece)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--chunks", type=int, default=200)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    options = parser.parse_args()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Engine(options.chunks, options.delay_ms / 1e3),
        "127.0.0.1", options.port, backlog=4096,
    )  # fmt: skip
    print(f"listening on {options.port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main())
    except ImportError:
        asyncio.run(main())
