"""Every fault that an upstream or a client can commit, and what the client sees of it.

The table in docs/faults.md is made from what is written here (`python tests/servers/faults.py`)
and the tests hold both the gateway and the page to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.scripted_server import Step, framed, plain

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- upstream faults -->", "<!-- end -->"

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BARE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
WORDS = ("it", " is", " 4")
LIMIT_BYTES = 2**20  # of an answer, in these tests


def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake",
             "choices": [choice]}  # fmt: skip
    return f"data: {json.dumps(value)}\n\n".encode()


TOKENS = [chunk({"content": word}) for word in WORDS]
LAST = chunk({}, "stop")
DONE = b"data: [DONE]\n\n"
STREAM: list[Step] = [HEAD, *map(framed, TOKENS), framed(LAST), framed(DONE), b"0\r\n\r\n"]
WHOLE = json.dumps(
    {
        "id": "c", "object": "chat.completion", "created": 1, "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "it is 4"},
                     "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 3},
    }
).encode()  # fmt: skip
TWO: list[Step] = [HEAD, framed(TOKENS[0]), framed(TOKENS[1])]
HALF = plain(WHOLE[:50], length=len(WHOLE))


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`stream` and `whole` are what the upstream plays; the rest is what the client sees.

    Of a stream: the text before the error, if any, and the error's code. Of a whole answer: status
    and code. `policy` is the same through suffice/single, where it differs (`whole` there is made
    from a stream).
    """

    what: str
    stream: Sequence[Step]
    whole: Sequence[Step]
    seen_stream: str
    seen_whole: str
    policy_stream: str | None = None
    policy_whole: str | None = None
    tries: int = 1  # requests that reach the upstream, of two attempts


def error(status: int, extra: str = "", body: bytes = b'{"error":{"message":"no"}}') -> list[Step]:
    return [plain(body, status=status, extra=extra)]


def both(what: str, steps: Sequence[Step], seen: str, **more: Any) -> Fault:
    return Fault(what=what, stream=steps, whole=steps, seen_stream=seen, seen_whole=seen, **more)


FAULTS = [
    both("hangs before the headers", ["hang"], "504 upstream_timeout"),
    both("closes before the headers", ["close"], "502 upstream_disconnected", tries=2),
    both("resets the connection", ["reset"], "502 upstream_disconnected", tries=2),
    Fault(
        what="hangs in the middle",
        stream=[*TWO, "hang"],
        whole=[HALF, "hang"],
        seen_stream="“it is”, then upstream_timeout",
        seen_whole="504 upstream_timeout",
    ),
    Fault(
        what="dies in the middle",
        stream=[*TWO, "close"],
        whole=[HALF, "close"],
        seen_stream="“it is”, then upstream_disconnected",
        seen_whole="502 upstream_disconnected",
        tries=2,
    ),
    Fault(
        what="dies in the middle of an event",
        stream=[*TWO, framed(TOKENS[2][:20]), "close"],
        whole=[HALF, "reset"],
        seen_stream="“it is”, then upstream_disconnected",
        seen_whole="502 upstream_disconnected",
        tries=2,
    ),
    Fault(
        what="ends properly, but before the answer does",
        stream=[*TWO, b"0\r\n\r\n"],
        whole=[plain(WHOLE[:50])],
        seen_stream="“it is”, then upstream_disconnected",
        seen_whole="502 upstream_malformed",
        policy_whole="502 upstream_disconnected",
    ),
    Fault(
        what="sends an event that is not JSON",
        stream=[*TWO, framed(b"data: {oops}\n\n"), *STREAM[1:]],
        whole=[plain(b"{oops}")],
        seen_stream="“it is”, then upstream_malformed",
        seen_whole="502 upstream_malformed",
    ),
    Fault(
        what="sends JSON of another form",
        stream=[*TWO, framed(b'data: {"choices": [7]}\n\n')],
        whole=[plain(b"[1, 2]")],
        seen_stream="“it is”, then upstream_malformed",
        seen_whole="502 upstream_malformed",
    ),
    Fault(
        what="sends an event without end",
        stream=[*TWO, *[framed(b"data: " + b"x" * 2**20)] * 9],
        whole=[plain(b"[" + b" " * LIMIT_BYTES)],
        seen_stream="“it is”, then upstream_malformed",
        seen_whole="502 upstream_malformed",
    ),
    Fault(
        what="sends an error event in the stream",
        stream=[
            *TWO,
            framed(b'data: {"error": {"message": "overloaded", "code": 503}}\n\n'),
            b"0\r\n\r\n",
        ],
        whole=error(503),
        seen_stream="“it is”, then its own error",
        seen_whole="503, its own error",
        policy_stream="“it is”, then upstream_rejected",
        policy_whole="503 upstream_rejected",
        tries=2,
    ),
    both(
        "rejects the request (400)",
        error(400),
        "400, its own error",
        policy_stream="400 upstream_rejected",
        policy_whole="400 upstream_rejected",
    ),
    both("rejects our key (401)", error(401), "502 upstream_rejected"),
    both(
        "429",
        error(429),
        "429, its own error",
        policy_stream="429 upstream_rejected",
        policy_whole="429 upstream_rejected",
        tries=2,
    ),
    both(
        "429, Retry-After 7",
        error(429, "retry-after: 7\r\n"),
        "429, its own error, Retry-After 7",
        policy_stream="429 upstream_rejected, Retry-After 7",
        policy_whole="429 upstream_rejected, Retry-After 7",
    ),
    both(
        "500",
        error(500),
        "500, its own error",
        policy_stream="500 upstream_rejected",
        policy_whole="500 upstream_rejected",
        tries=2,
    ),
    both(
        "503, a page of a proxy",
        error(503, body=b"<html>busy</html>"),
        "503 upstream_rejected",
        tries=2,
    ),
    both(
        "503, Retry-After 7",
        error(503, "retry-after: 7\r\n"),
        "503, its own error, Retry-After 7",
        policy_stream="503 upstream_rejected, Retry-After 7",
        policy_whole="503 upstream_rejected, Retry-After 7",
    ),
    both(
        "answers with a status that HTTP does not have (999)",
        error(999),
        "502 upstream_rejected",
    ),
    both(
        "429, Retry-After that is no time (inf, nan, a year)",
        error(429, "retry-after: inf\r\n"),
        "429, its own error",
        policy_stream="429 upstream_rejected",
        policy_whole="429 upstream_rejected",
        tries=2,
    ),
    both(
        "sends an error without end",
        [plain(b'{"error":{"message":"', status=400, length=10**10), *[b"x" * 2**16] * 10_000],
        "502 upstream_malformed",
    ),
    Fault(
        what="sends an answer without end",
        stream=[HEAD, *[framed(TOKENS[0])] * 100_000],
        whole=[plain(b"{", length=10**10), *[b" " * 2**16] * 10_000],
        seen_stream="“it…”, then upstream_malformed",
        seen_whole="502 upstream_malformed",
        policy_whole="502 upstream_malformed",
    ),
    Fault(
        what="sends comments without end, and no event",
        stream=[HEAD, *[framed(b": " + b"x" * 2**15 + b"\n\n")] * 10_000],
        whole=[HEAD, *[framed(b" " * 2**15)] * 10_000],
        seen_stream="“”, then upstream_malformed",
        seen_whole="502 upstream_malformed",
        policy_stream="502 upstream_malformed",
        policy_whole="502 upstream_malformed",
    ),
    Fault(
        what="sends a comment now and then, and no event",
        stream=[HEAD, *[framed(b": ping\n\n"), 0.1] * 100],
        whole=[HEAD, *[framed(b" "), 0.1] * 100],
        seen_stream="“”, then upstream_timeout",
        seen_whole="504 upstream_timeout",
        policy_stream="504 upstream_timeout",
        policy_whole="504 upstream_timeout",
    ),
    both(
        "sends trailers, or a chunk's extension, without end",
        [HEAD, b"1;x=", *[b"y" * 2**16] * 10_000],
        "502 upstream_malformed",
    ),
    Fault(
        what="is slow to begin, but begins",
        stream=[HEAD, 0.25, *STREAM[1:]],
        whole=[0.25, plain(WHOLE)],
        seen_stream="“it is 4”, complete",
        seen_whole="200 “it is 4”",
    ),
    Fault(
        what="is slow to begin, beyond the limit",
        stream=[HEAD, "hang"],
        whole=["hang"],
        seen_stream="504 upstream_timeout",
        seen_whole="504 upstream_timeout",
    ),
    Fault(
        what="sends every event twice",
        stream=[
            HEAD,
            *[framed(t) for t in TOKENS for _ in range(2)],
            framed(LAST),
            framed(DONE),
            framed(DONE),
            b"0\r\n\r\n",
        ],
        whole=[plain(WHOLE)],
        seen_stream="“itit is is 4 4”, complete",
        seen_whole="200 “it is 4”",
        policy_whole="200 “itit is is 4 4”",
    ),
    both(
        "answers with a page (text/html)",
        [plain(b"<html>hello</html>", kind="text/html")],
        "502 upstream_malformed",
    ),
    Fault(
        what="answers with JSON where a stream was asked for, or the reverse",
        stream=[plain(WHOLE)],
        whole=STREAM,
        seen_stream="502 upstream_malformed",
        seen_whole="502 upstream_malformed",
    ),
    both(
        "does not speak HTTP", [b"SSH-2.0-OpenSSH_9.7\r\n\r\n", "close"], "502 upstream_malformed"
    ),
    both(
        "sends headers without end",
        [b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 8000 + b"\r\n"] * 9, "hang"],
        "502 upstream_malformed",
    ),
    both(
        "compresses without being asked",
        [plain(b"\x1f\x8b", extra="content-encoding: gzip\r\n")],
        "502 upstream_malformed",
    ),
]

# Over TLS, with a body that only the end of the connection delimits: hard to tell from a whole one.
CUT_TLS: list[Step] = [BARE, TOKENS[0], TOKENS[1], 0.05, "cut"]


def table() -> str:
    """The page's table."""
    lines = [
        "| the upstream … | stream, passed through | whole answer | a policy's, if different |",
        "|---|---|---|---|",
        "| refuses the connection | 502 upstream_refused | 502 upstream_refused | |",
    ]
    for fault in FAULTS:
        different = []
        if fault.policy_stream is not None:
            different.append(f"stream: {fault.policy_stream}")
        if fault.policy_whole is not None and fault.policy_whole != fault.policy_stream:
            different.append(f"whole: {fault.policy_whole}")
        elif fault.policy_whole is not None:
            different = [fault.policy_whole]
        lines.append(
            f"| {fault.what} | {fault.seen_stream} | {fault.seen_whole} | {'; '.join(different)} |"
        )
    seen = "“it is”, then upstream_disconnected"
    lines.append(
        f"| cuts a TLS connection without a goodbye | {seen} | 502 upstream_disconnected | |"
    )
    return "\n".join(lines)


def write(page: Path = PAGE) -> None:
    text = page.read_text()
    before, rest = text.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    write()
