"""An engine that does whatever the prompt says: streams without end, lies, floods.

    python benchmarks/gateway/hostile_upstream.py --port 9150 --model evil

A model answers at once; of `evil` alone, the last word of the prompt names the misdeed.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
from collections.abc import Callable, Iterator

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKED = STREAM.replace(b"text/event-stream", b"application/json")
PIECES = 8000  # of 64 KiB: half a gigabyte


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(delta: dict[str, object], reason: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return chunk(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())


def whole(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "c", "object": "chat.completion", "created": 1, "model": "good",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        }
    ).encode()  # fmt: skip


def answer(
    body: bytes, status: int = 200, kind: str = "application/json", extra: str = ""
) -> bytes:
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode() + body


def good(text: str, *, stream: bool) -> bytes:
    if not stream:
        return answer(whole(text))
    last = event({}, "stop") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return STREAM + event({"role": "assistant", "content": text}) + last


KIB64 = b"a" * 2**16
BIG_EVENT = event({"content": "a" * 65000})
ERROR = b'{"error":{"message":"x"}}'


ERROR_HEAD = CHUNKED.replace(b"200 OK", b"400 X")
TOP = [{"token": "x" * 1000, "logprob": -1.0}] * 2000
ENTRY = {"token": "a", "logprob": -1.0, "top_logprobs": TOP}
BIG_LOGPROBS = {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [ENTRY]}}
LONG_LINE = b"x: %s\r\n" % (b"a" * 1000)


def endless(start: bytes, piece: bytes, times: int = PIECES) -> Iterator[bytes]:
    yield start
    for _ in range(times):
        yield piece


def many_choices() -> Iterator[bytes]:
    yield STREAM
    for number in range(200_000):
        yield event({"content": "a"}, index=number)


# Bytes of an answer, piece by piece.
MISDEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "endless-body": lambda: endless(CHUNKED, chunk(b" " * 2**16)),
    "endless-stream": lambda: endless(STREAM, BIG_EVENT),
    "endless-small-events": lambda: endless(STREAM, event({"content": "a"}) * 500),
    "endless-comments": lambda: endless(STREAM, chunk(b": " + KIB64 + b"\n\n")),
    "endless-event": lambda: endless(STREAM + chunk(b"data: "), chunk(KIB64)),
    "endless-error": lambda: endless(ERROR_HEAD, chunk(KIB64)),
    "endless-head": lambda: endless(b"HTTP/1.1 200 OK\r\n", LONG_LINE, 100_000),
    "endless-continue": lambda: endless(b"", b"HTTP/1.1 100 Continue\r\nx: aaaa\r\n\r\n" * 100),
    "endless-trailers": lambda: endless(
        CHUNKED + chunk(whole("ok")) + b"0\r\n", LONG_LINE, 400_000
    ),
    "endless-trailer": lambda: endless(CHUNKED + chunk(whole("ok")) + b"0\r\nx: ", KIB64),
    "endless-extension": lambda: endless(STREAM + b"1;a=", KIB64),
    "many-choices": many_choices,
    "big-logprobs": lambda: endless(
        STREAM, chunk(f"data: {json.dumps({'choices': [BIG_LOGPROBS]})}\n\n".encode()), 500
    ),
    "gzip": lambda: iter([answer(gzip.compress(b"0" * 10**8), extra="content-encoding: gzip\r\n")]),
    "deep": lambda: iter([answer(b"[" * 10**6)]),
    "huge-number": lambda: iter([answer(whole("ok").replace(b"7", b"7" * 10**6))]),
    "status-999": lambda: iter([answer(ERROR, status=999)]),
    "retry-inf": lambda: iter([answer(ERROR, status=503, extra="retry-after: inf\r\n")]),
    "html": lambda: iter([answer(whole("<script>alert(1)</script>"), kind="text/html")]),
    "many-numbers": lambda: iter([good("1 " * 500_000, stream=True)]),
}
WORDS = tuple(MISDEEDS)
FACTORIALS = iter(range(10**9))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next((line[15:] for line in head.split("\r\n")
                           if line.startswith("content-length:")), "0")  # fmt: skip
            body = await reader.readexactly(int(length))
            if head.startswith("get"):
                writer.write(answer(MODELS))
                await writer.drain()
                continue
            asked = json.loads(body)
            last = str(asked["messages"][-1]["content"]).split(" ")[-1]
            if last == "factorials":  # each another one, so that they have to be compared
                text = "\\boxed{(10^{%d})!}" % (next(FACTORIALS) + 5)  # noqa: UP031 - braces
                writer.write(good(text, stream=bool(asked.get("stream"))))
            elif asked["model"] == "evil" and last in WORDS:
                for piece in MISDEEDS[last]():
                    writer.write(piece)
                    await writer.drain()
            else:
                writer.write(good("it is 4", stream=bool(asked.get("stream"))))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=2**25)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9150)
    parser.add_argument("--model", default="evil", help="what it serves; all but evil is good")
    given = parser.parse_args()
    MODELS = json.dumps({"object": "list", "data": [{"id": given.model}]}).encode()
    asyncio.run(main(given.port))
