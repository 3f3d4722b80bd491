"""Load on an OpenAI-compatible server, counted by what a client sees; raw asyncio, one process.

Closed loop (`--concurrency`: each client asks again when it has its answer) or open loop
(`--rate`: requests leave at their time, whether the last ones are back or not; latency counts from
the time a request was due, so that a server which stalls cannot hide it). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Seen:
    latencies_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    example: str = ""  # of what went wrong


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.lost = False
        self.begin(asyncio.get_running_loop().create_future())
        self.done.cancel()

    def begin(self, done: asyncio.Future[str]) -> None:
        self.done = done
        self.first_s: float | None = None
        self.buffer = bytearray()
        self.size: int | None = None
        self.stream = False
        self.status = 0
        self.tokens = 0
        self.last = False  # the server will close the connection
        self.said_done = False
        self.said_error = False
        self.tail = b""
        self.error = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.done.done():
            self.done.set_result("cut" if self.status else "refused")

    def data_received(self, data: bytes) -> None:
        if self.done.done():
            return
        if not self.status:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            self.status = int(head[9:12])
            self.stream = b"transfer-encoding: chunked" in head
            self.last = head.startswith(b"http/1.0") or b"connection: close" in head
            at = head.find(b"content-length:")
            if at >= 0:
                self.size = int(
                    head[at + 15 : head.find(b"\r\n", at) if b"\r\n" in head[at:] else None]
                )
            data = bytes(self.buffer[end + 4 :])
            self.buffer.clear()
        if self.stream:
            self.take_stream(data)
        else:
            self.buffer += data
            if self.size is not None and len(self.buffer) >= self.size:
                self.done.set_result("ok" if self.status == 200 else str(self.status))

    def take_stream(self, data: bytes) -> None:
        if data and self.first_s is None:
            self.first_s = time.perf_counter()
        joined = self.tail + data
        # Tokens are the engine's words, however a gateway packs them into events.
        self.tokens += joined.count(b" word") - self.tail.count(b" word")
        self.said_done = self.said_done or b"data: [DONE]" in joined
        at = joined.find(b'data: {"error"')
        if at >= 0:
            self.said_error, self.error = True, joined[at:]
        self.tail = joined[-40:]
        if self.tail.endswith(b"0\r\n\r\n") and (
            self.tail == b"0\r\n\r\n" or self.tail[-7:-5] == b"\r\n"
        ):
            if self.said_error:
                self.done.set_result("error event")
            elif self.status != 200:
                self.done.set_result(str(self.status))
            else:
                self.done.set_result("ok" if self.said_done else "ended without [DONE]")


class Load:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        parts = urlsplit(options.url)
        self.host, self.port = parts.hostname, parts.port
        body: dict[str, object] = {
            "model": options.model,
            "messages": [{"role": "user", "content": "what is 2+2? " * options.prompt_repeats}],
            "max_tokens": options.max_tokens,
        }
        if options.stream:
            body |= {"stream": True}
        if options.answer_format:
            body |= {"suffice": {"answer_format": options.answer_format}}
        data = json.dumps(body).encode()
        head = (
            f"POST {parts.path.rstrip('/')}/v1/chat/completions HTTP/1.1\r\n"
            f"host: {parts.netloc}\r\n"
            f"authorization: Bearer {options.key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(data)}\r\n\r\n"
        )
        self.request = head.encode() + data
        self.seen = Seen()
        self.idle: list[Client] = []
        self.measuring = False

    async def once(self, due_s: float | None = None) -> None:
        began_s = time.perf_counter() if due_s is None else due_s
        loop = asyncio.get_running_loop()
        outcome, client = "refused", None
        try:
            while self.idle:
                client = self.idle.pop()
                if not client.lost:
                    break
                client = None
            if client is None:
                _, client = await loop.create_connection(Client, self.host, self.port)
            client.begin(loop.create_future())
            client.transport.write(self.request)
            async with asyncio.timeout(self.options.timeout_s):
                outcome = await client.done
        except TimeoutError:
            outcome = "hangs"
            client.lost = True
            client.transport.abort()
        except OSError:
            pass
        ended_s = time.perf_counter()
        if client is not None and client.last:
            client.transport.close()
        elif client is not None and not client.lost:
            self.idle.append(client)
        if self.measuring:
            self.seen.outcomes[outcome] += 1
            if outcome != "ok" and not self.seen.example and client is not None:
                said = bytes(client.buffer) + client.error
                self.seen.example = said[:300].decode(errors="replace")
            if outcome == "ok":
                self.seen.latencies_s.append(ended_s - began_s)
                self.seen.tokens += client.tokens
                if client.first_s is not None:
                    self.seen.first_s.append(client.first_s - began_s)

    async def closed(self, until_s: float) -> None:
        async def repeat() -> None:
            while time.perf_counter() < until_s and self.left():
                await self.once()

        await asyncio.gather(*(repeat() for _ in range(self.options.concurrency)))

    def left(self) -> bool:
        limit = self.options.requests
        return limit is None or self.seen.outcomes.total() < limit

    async def open(self, until_s: float) -> None:
        rng = random.Random(1)
        due_s = time.perf_counter()
        tasks: set[asyncio.Task[None]] = set()
        while due_s < until_s:
            wait_s = due_s - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            task = asyncio.create_task(self.once(due_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due_s += rng.expovariate(self.options.rate)
        await asyncio.gather(*tasks)

    async def run(self) -> dict[str, object]:
        options = self.options
        go = self.open if options.rate else self.closed
        if options.warm_s:
            await go(time.perf_counter() + options.warm_s)
        self.measuring = True
        began_s = time.perf_counter()
        await go(began_s + options.seconds)
        return self.result(time.perf_counter() - began_s)

    def result(self, took_s: float) -> dict[str, object]:
        seen = self.seen
        return {
            "seconds": round(took_s, 3),
            "outcomes": dict(seen.outcomes),
            "requests_per_s": round(seen.outcomes["ok"] / took_s, 1),
            "tokens_per_s": round(seen.tokens / took_s, 1),
            "latency_ms": percentiles(seen.latencies_s),
            "first_byte_ms": percentiles(seen.first_s),
            **({"example": seen.example} if seen.example else {}),
        }


def percentiles(values_s: list[float]) -> dict[str, float]:
    ranked = sorted(values_s)
    if not ranked:
        return {}
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    found = {name: ranked[min(len(ranked) - 1, int(q * len(ranked)))] for name, q in at.items()}
    found |= {"mean": sum(ranked) / len(ranked), "max": ranked[-1]}
    return {name: round(value * 1e3, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--model", default="fake")
    parser.add_argument("--key", default="none")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--answer-format")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rate", type=float, help="requests a second, open loop")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-s", type=float, default=1.0)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--max-tokens", type=int, default=20)
    parser.add_argument("--timeout-s", type=float, default=60.0)
    parser.add_argument("--prompt-repeats", type=int, default=1)
    load = Load(parser.parse_args())
    try:
        import uvloop  # noqa: PLC0415

        result = uvloop.run(load.run())
    except ImportError:
        result = asyncio.run(load.run())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
