"""Raw bytes at a gateway, for as long as you like: mutated requests, cut anywhere, in any order.

    python benchmarks/gateway/fuzz_http.py --minutes 30 [--seed 1]

A seed makes one connection's worth of bytes. The server must answer or close within its limits,
never log a traceback, and go on answering others. A seed that fails is printed and goes into
tests/servers/test_raw_http.py.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import time
from contextlib import suppress
from typing import Any

ASK = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "2+2"}]}).encode()
METHODS = (b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"get", b"\x00", b"A" * 99)
PATHS = (
    b"/live", b"/v1/models", b"/v1/chat/completions", b"/v1/feedback", b"*", b"/../x", b"//a",
    b"http://localhost/live", b"http://evil/", b"/%00", b"/\xff", b"", b"/" + b"a" * 70_000,
)  # fmt: skip
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"", b"HTTP/1.1 x")
HEADERS = (
    b"Host: localhost", b"Host: evil", b"Host:", b"Connection: close", b"Connection: keep-alive",
    b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket", b"Expect: 100-continue",
    b"Expect: x", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, identity", b"X: \xff\xfe",
    b"X: a\x00b", b"X Y: z", b" folded", b"X: " + b"a" * 9000, b"Content-Encoding: gzip",
    b"traceparent: zz", b"Authorization: Bearer \xff", b"Accept: */*", b":", b"",
)  # fmt: skip
BODIES = (
    b"", ASK, ASK[:20], b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"zz\r\n", b"0\r\n",
    b"0\r\nX: y\r\n\r\n", b"1;a=b\r\nx\r\n0\r\n\r\n", b"\r\n" * 50, b"\x00" * 100, b"{" * 5000,
)  # fmt: skip
ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r")


def request(rng: random.Random) -> bytes:
    """One request, whole or broken."""
    end = rng.choice(ENDS)
    body = rng.choice(BODIES)
    lines = [b" ".join((rng.choice(METHODS[:2] if rng.random() < 0.7 else METHODS),
                        rng.choice(PATHS), rng.choice(VERSIONS[:1] * 5 + VERSIONS)))]  # fmt: skip
    if rng.random() < 0.8:
        lines.append(HEADERS[0])
    if rng.random() < 0.5:
        lines.append(b"Content-Length: %d" % len(body))
    lines += rng.sample(HEADERS, rng.randrange(4))
    data = end.join([*lines, b"", b""]) + body
    if rng.random() < 0.3:  # bytes changed, left out, or doubled
        mutable = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(mutable) + 1)
            match rng.randrange(3):
                case 0:
                    mutable[at:at] = rng.randbytes(rng.randrange(1, 8))
                case 1:
                    del mutable[at : at + rng.randrange(1, 20)]
                case _:
                    mutable[at:at] = mutable[at : at + rng.randrange(1, 50)]
        data = bytes(mutable)
    return data


def one(address: tuple[str, int], seed: int) -> bytes:
    """Everything that one connection says, and what comes back."""
    rng = random.Random(seed)
    data = b"".join(request(rng) for _ in range(rng.choice((1, 1, 1, 2, 5))))
    said = b""
    with suppress(OSError), socket.create_connection(address, timeout=20) as client:
        client.settimeout(0.05)
        while data:
            size = rng.choice((1, 7, 100, 10**6))
            client.sendall(data[:size] if size > 1 or len(data) < 300 else data)
            data = data[size:] if size > 1 or len(data) < 300 else b""
        if rng.random() < 0.2:
            client.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):
            while piece := client.recv(65536):
                said += piece
    return said


def check(address: tuple[str, int], seed: int) -> str | None:
    """What is wrong with what the server did, None if nothing is."""
    said = one(address, seed)
    if said and not said.startswith(b"HTTP/1."):
        return f"seed {seed}: the answer begins with {said[:40]!r}"
    for head in said.split(b"HTTP/1.1 ")[1:]:
        if head[:3] in (b"500", b"502") and b"upstream" not in head:
            return f"seed {seed}: {head[:200]!r}"
    with socket.create_connection(address, timeout=20) as client:
        client.settimeout(20)
        client.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        if not client.recv(100).startswith(b"HTTP/1.1 200"):
            return f"seed {seed}: others are not answered any more"
    return None


def main() -> None:
    import tempfile  # noqa: PLC0415 - of the command alone
    from pathlib import Path  # noqa: PLC0415

    import hostile  # noqa: PLC0415 - it is beside this file

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found: dict[str, Any] = {"seeds": 0, "wrong": []}
    with hostile.engine_running("fake"), tempfile.TemporaryDirectory() as folder:
        gateway = hostile.Gateway(Path(folder), good="fake")
        until = time.monotonic() + given.minutes * 60
        before_mb = hostile.rss_mb(gateway.process.pid)
        seed, read = given.seed, 0
        while time.monotonic() < until and gateway.process.poll() is None:
            wrong = check(("127.0.0.1", hostile.PORT), seed)
            if len(gateway.log) > read and "Traceback" in (log := "".join(gateway.log[read:])):
                wrong = f"seed {seed}, or one just before it:\n{log}"
            read = len(gateway.log)
            if wrong is not None:
                print(wrong, flush=True)
                found["wrong"].append(wrong)
            seed += 1
        found |= {"seeds": seed - given.seed, "rss_before_mb": round(before_mb, 1),
                  "rss_after_mb": round(hostile.rss_mb(gateway.process.pid), 1)}  # fmt: skip
        found["ended_s"] = round(gateway.end(), 2)
        found["tracebacks"] = "".join(gateway.log).count("Traceback")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
