"""Answers of a hostile engine through the whole gateway: events mutated, cut, framed anyhow.

    python benchmarks/gateway/fuzz_upstream.py --minutes 10 [--seed 1]

A seed makes one request (passed through, one sample, a vote; chat, text, Responses, Messages; with
a stream and without) and what the engine says to it. Whatever that is, the client must get whole
HTTP: an answer in the form of its endpoint, or an error; a stream that failed has no [DONE]. The
gateway must not log a traceback, and the ledger must hold one row each, with counts that can be.
A seed that fails is printed and goes into tests/servers/test_hostile_answers.py.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sqlite3
import struct
import threading
import time
from contextlib import suppress
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**25, 1.5, -0.0, 1e308, "", "4", "\x00",
    "\ud800", "𝔘" * 3, "x" * 5000, "[DONE]", [], {}, [[]], [None], {"": None}, {"error": {}}, "stop",
    "length", "abort", "tool_calls", [{"index": 0}], {"content": "4"}, "data: [DONE]\n\n",
)  # fmt: skip
KINDS = (
    "text/event-stream", "text/event-stream; charset=utf-8", "TEXT/EVENT-STREAM", "text/plain",
    "application/json", "", "text/html", "application/x-ndjson",
)  # fmt: skip
NAMES = ("content", "role", "refusal", "reasoning", "reasoning_content", "tool_calls", "usage",
         "error", "index", "delta", "message", "finish_reason", "logprobs", "choices", "n")  # fmt: skip
ASKS = (
    ("/v1/chat/completions", "fake"), ("/v1/chat/completions", "suffice/single"),
    ("/v1/chat/completions", "suffice/adaptive_consistency"), ("/v1/completions", "fake"),
    ("/v1/completions", "suffice/single"), ("/v1/responses", "fake"), ("/v1/messages", "fake"),
    ("/v1/responses", "suffice/single"), ("/v1/messages", "suffice/adaptive_consistency"),
)  # fmt: skip
LIMIT_S = 20.0
MODELS = b'{"object":"list","data":[{"id":"fake","object":"model"}]}'


def base_events(rng: random.Random, *, chat: bool) -> list[dict[str, Any]]:
    """What an honest engine would stream."""
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "fake"}

    def event(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        body = {"delta": delta} if chat else {"text": delta.get("content", "")}
        return {**head, "choices": [{"index": 0, **body, "finish_reason": reason}]}

    events = [event({"role": "assistant", "content": ""})]
    words = ("the ", "answer ", "is ", "4", ".", " ünï ", "\n", "42", "12:30", "{", "}")
    events += [event({"content": rng.choice(words)}) for _ in range(rng.randrange(8))]
    if rng.random() < 0.2:
        events += [event({"reasoning_content": "so"}), event({"reasoning": "hm"})]
    if rng.random() < 0.3:
        call = {"index": rng.choice((0, 1, 7)), "id": "a", "type": "function",
                "function": {"name": "f", "arguments": '{"a"'}}  # fmt: skip
        more = {"index": 0, "function": {"arguments": ": 1}"}}
        events += [event({"tool_calls": [call]}), event({"tool_calls": [more]})]
    events.append(event({}, rng.choice(("stop", "stop", "length", "tool_calls", "abort"))))
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    events.append({**head, "choices": [], "usage": usage})
    return events


def whole_answer(events: list[dict[str, Any]], *, chat: bool) -> dict[str, Any]:
    """The same as one answer."""
    said = "".join(
        str(c.get("text") or (c.get("delta") or {}).get("content") or "")
        for e in events
        for c in e["choices"]
    )
    inner = {"message": {"role": "assistant", "content": said}} if chat else {"text": said}
    return {
        "id": "c-1", "object": "chat.completion", "created": 1, "model": "fake",
        "choices": [{"index": 0, **inner, "finish_reason": "stop"}],
        "usage": events[-1].get("usage"),
    }  # fmt: skip


def mutated(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """A JSON value with one thing in it changed."""
    if depth > 6 or rng.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return rng.choice(ODD)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        return [mutated(rng, v, depth + 1) if i == at else v for i, v in enumerate(value)]
    changed = dict(value)
    name = rng.choice(list(changed))
    match rng.randrange(5):
        case 0:
            del changed[name]
        case 1:
            changed[rng.choice(NAMES)] = rng.choice(ODD)
        case _:
            changed[name] = mutated(rng, changed[name], depth + 1)
    return changed


def written(rng: random.Random, value: Any) -> bytes:
    """JSON, sometimes not quite."""
    ascii_only = rng.random() < 0.5
    data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if rng.random() < 0.06:
        odd = (b"NaN", b"\xff\xfe", b"\x00", b"[" * 3000, b"]" * 9, b'"', b"\\u00", b" " * 70_000)
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(odd) + data[at:]
    return data


def stream_of(rng: random.Random, *, chat: bool) -> bytes:
    """The bytes of an event stream."""
    events: list[Any] = list(base_events(rng, chat=chat))
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(events)) if events else 0
        match rng.randrange(6):
            case 0 if events:
                del events[at]
            case 1 if events:
                events.insert(at, events[at])
            case 2:
                events.insert(at, rng.choice(ODD))
            case 3:
                events.insert(at, {"error": rng.choice((*ODD, {"message": "full", "code": 503}))})
            case 4:
                rng.shuffle(events)
            case _ if events:
                events[at] = mutated(rng, events[at])
    end = rng.choice((b"\n", b"\n", b"\r\n", b"\r"))
    pieces = [b"\xef\xbb\xbf"] if rng.random() < 0.03 else []
    for event in events:
        data = written(rng, event)
        if rng.random() < 0.05:
            pieces.append(rng.choice((b": hi", b"event: x", b"id: 1", b"retry: x", b"x", b"data")))
            pieces.append(end)
        if rng.random() < 0.05 and b", " in data:
            data = data.replace(b", ", b", " + end + b"data: ", 1)
        pieces += [b"data:" + (b"" if rng.random() < 0.1 else b" "), data, end, end]
    if rng.random() < 0.85:
        pieces += [b"data: [DONE]", end, end]
    if rng.random() < 0.05:
        pieces += [b"data: ", written(rng, rng.choice(ODD)), end, end]
    return b"".join(pieces)


def framed(rng: random.Random, body: bytes, kind: str, status: int) -> tuple[list[bytes], bool]:
    """A whole HTTP answer in the pieces in which it is sent, and whether the connection stays."""
    head = b"HTTP/1.1 %d X\r\ncontent-type: %s\r\n" % (status, kind.encode())
    if rng.random() < 0.03:
        head = b"HTTP/1.1 100 Continue\r\n\r\n" + head
    if rng.random() < 0.05:
        head += rng.choice(
            (b"retry-after: x\r\n", b"x-request-id: \xff\r\n", b"connection: close\r\n")
        )
    stays = False
    match rng.randrange(10):
        case 0:
            data = head + b"\r\n" + body  # until the connection closes
        case 1:
            off = rng.choice((0, 0, 5, -5))
            data = head + b"content-length: %d\r\n\r\n" % max(0, len(body) + off) + body
        case _:
            parts, at = [], 0
            while at < len(body):
                size = rng.choice((1, 10, 100, 4000, 10**6)) if len(body) < 3000 else 10**5
                part = body[at : at + size]
                more = b";x=y" if rng.random() < 0.02 else b""
                parts.append(b"%x%s\r\n%s\r\n" % (len(part), more, part))
                at += size
            last = b"0\r\nx: y\r\n\r\n" if rng.random() < 0.05 else b"0\r\n\r\n"
            data = head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(parts) + last
            stays = True
    if rng.random() < 0.1:  # cut anywhere
        data, stays = data[: rng.randrange(len(data))], False
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 5))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)], stays


class Engine:
    """Answers as the seed in the prompt says; without one as an honest engine."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    piece = client.recv(65536)
                    if not piece:
                        return
                    buffer += piece
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n")
                               if line.lower().startswith(b"content-length:")), 0)  # fmt: skip
                while len(buffer) < length:
                    buffer += client.recv(65536)
                body, buffer = buffer[:length], buffer[length:]
                pieces, stays, reset = self._answer(head, body)
                for piece in pieces:
                    client.sendall(piece)
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if not stays:
                    return

    def _answer(self, head: bytes, body: bytes) -> tuple[list[bytes], bool, bool]:
        path = head.split(b" ", 2)[1]
        if path.endswith(b"/models"):
            return plain(200, MODELS), True, False
        if not path.endswith(b"/completions"):
            return plain(404, b'{"error":{"message":"no such path"}}'), True, False
        asked = json.loads(body)
        chat = path.endswith(b"/chat/completions")
        seed = seed_in(body)
        stream = asked.get("stream") is True
        rng = random.Random(seed)
        if seed is None:
            events = base_events(rng, chat=chat)
            if not stream:
                return plain(200, json.dumps(whole_answer(events, chat=chat)).encode()), True, False
            lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]
            return plain(200, "".join(lines).encode(), "text/event-stream"), True, False
        status = (
            200 if rng.random() < 0.93 else rng.choice((204, 304, 400, 404, 429, 500, 503, 999))
        )
        odd = rng.choice(KINDS) if rng.random() < 0.1 else None
        if stream:
            data, kind = stream_of(rng, chat=chat), KINDS[0]
        else:
            value: Any = whole_answer(base_events(rng, chat=chat), chat=chat)
            for _ in range(rng.choice((0, 1, 1, 2, 4))):
                value = mutated(rng, value)
            data, kind = written(rng, value), "application/json"
        pieces, stays = framed(rng, data, kind if odd is None else odd, status)
        return pieces, stays, not stays and rng.random() < 0.3


def plain(status: int, body: bytes, kind: str = "application/json") -> list[bytes]:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return [head.encode() + body]


def seed_in(body: bytes) -> int | None:
    """The seed that a prompt names, wherever the prompt stands in a request's body."""
    _, mark, rest = body.partition(b"seed-")
    return int(rest.split(b"-", 1)[0]) if mark else None


def request(seed: int) -> tuple[str, str, bool, bytes]:
    """Path, model, whether a stream is asked for, and the body of a seed's request."""
    rng = random.Random(-seed - 1)
    path, model = rng.choice(ASKS)
    stream = rng.random() < 0.6
    said = f"seed-{seed}- what is 2+2?"
    body: dict[str, Any] = {"model": model, "max_tokens": 50}
    if stream:
        body["stream"] = True
    if path == "/v1/completions":
        body["prompt"] = said
    elif path == "/v1/responses":
        body |= {"input": said}
        del body["max_tokens"]
    else:
        body["messages"] = [{"role": "user", "content": said}]
    if model != "fake":
        policy = model.removeprefix("suffice/")
        body["suffice"] = {"answer_format": "number"}
        if policy == "adaptive_consistency":
            body["suffice"]["policy"] = {"name": policy, "max_samples": 3}
    return path, model, stream, json.dumps(body).encode()


class Wrong(Exception):
    """What the gateway did must not be."""


def answer_to(address: tuple[str, int], seed: int) -> bytes:
    """All that the gateway answers to a seed's request, until it closes."""
    path, _, _, body = request(seed)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    said = b""
    with socket.create_connection(address, timeout=LIMIT_S) as client:
        client.sendall(head.encode() + body)
        try:
            while piece := client.recv(2**20):
                said += piece
        except TimeoutError:
            raise Wrong(f"nothing more came for {LIMIT_S:g} s after {said[-200:]!r}") from None
        except ConnectionResetError:
            raise Wrong(f"the connection was reset after {said[-200:]!r}") from None
    return said


def body_of(said: bytes) -> tuple[int, str, bytes, bool]:
    """Status, content type and body of an answer, and whether that came whole."""
    head, mark, rest = said.partition(b"\r\n\r\n")
    if not mark or not head.startswith(b"HTTP/1.1 "):
        raise Wrong(f"no HTTP: {said[:100]!r}")
    lines = head.split(b"\r\n")
    pairs = [line.split(b":", 1) for line in lines[1:]]
    headers = {name.lower().decode("latin-1"): value.strip() for name, value in pairs}
    status, kind = int(lines[0].split(b" ")[1]), headers.get("content-type", b"").decode("latin-1")
    if "content-length" in headers:
        return status, kind, rest, len(rest) == int(headers["content-length"])
    body = b""
    while rest:
        size, mark, rest = rest.partition(b"\r\n")
        if not mark:
            return status, kind, body, False
        count = int(size, 16)
        if count == 0:
            return status, kind, body, rest == b"\r\n"
        body += rest[:count]
        if rest[count : count + 2] != b"\r\n":
            return status, kind, body, False
        rest = rest[count + 2 :]
    return status, kind, body, False


def check_error(status: int, data: bytes) -> None:
    if not 400 <= status <= 599:
        raise Wrong(f"status {status}: {data[:200]!r}")
    value = json.loads(data)
    error = value.get("error") if isinstance(value, dict) else None
    if error is None:
        raise Wrong(f"status {status} without an error: {data[:200]!r}")
    if isinstance(error, dict) and error.get("code") == "internal_error":
        raise Wrong(f"an internal error: {data[:300]!r}")


def check_events(path: str, data: bytes, *, policy: bool) -> None:
    """A stream's events are JSON objects, and it ends once: well, or with an error."""
    if not data.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
        raise Wrong(f"the last event is not ended: {data[-200:]!r}")
    text = data.decode("utf-8") if policy else data.decode("utf-8", "replace")
    text = text.removeprefix("\ufeff")  # a mark that readers of events skip
    values: list[Any] = []
    for event in text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in event.split("\n") if line[:5] == "data:"]
        if lines:
            said = "\n".join(lines)
            values.append(said if said == "[DONE]" else json.loads(said))
    bad = [v for v in values if v != "[DONE]" and not isinstance(v, dict)]
    if policy and bad:
        raise Wrong(f"an event that is no object: {bad[0]!r}")
    if not values:
        raise Wrong(f"no event at all: {data[:200]!r}")
    last = values[-1]
    failed = [v for v in values if isinstance(v, dict) and v.get("error")]
    inner = [v["error"] for v in failed if isinstance(v["error"], dict)]
    if any(error.get("code") == "internal_error" for error in inner):
        raise Wrong(f"an internal error: {data[-400:]!r}")
    if path in ("/v1/responses", "/v1/messages"):
        kinds = [v.get("type") for v in values if isinstance(v, dict)]
        ends = ("response.completed", "response.failed", "response.incomplete", "message_stop",
                "error")  # fmt: skip
        if kinds[-1] not in ends or sum(kind in ends for kind in kinds) != 1:
            raise Wrong(f"it does not end once: {kinds[-4:]}")
        return
    if policy and failed and (values.count("[DONE]") or failed[-1] is not last):
        raise Wrong(f"an error and an end: {data[-400:]!r}")
    finished = not policy and b'"finish_reason"' in data  # an engine may leave [DONE] out
    if last != "[DONE]" and not (failed or finished):
        raise Wrong(f"neither [DONE] nor an error: {data[-300:]!r}")
    if values.count("[DONE]") > 1:
        raise Wrong("more than one [DONE]")


def check(address: tuple[str, int], seed: int) -> str | None:
    """What is wrong with what a client got, None if nothing is."""
    path, model, stream, _ = request(seed)
    policy = model != "fake" or path in ("/v1/responses", "/v1/messages")
    said = b""
    try:
        said = answer_to(address, seed)
        status, kind, data, complete = body_of(said)
        if not complete:
            raise Wrong(f"not whole: {said[:300]!r} … {said[-100:]!r}")
        if status == 200 and kind.lower().startswith("text/event-stream"):
            if not stream:
                raise Wrong("a stream that was not asked for")
            check_events(path, data, policy=policy)
        elif status == 200:
            if stream:
                raise Wrong(f"no stream: {data[:200]!r}")
            value = json.loads(data)
            if not isinstance(value, dict):
                raise Wrong(f"no object: {data[:200]!r}")
            if policy and path.endswith("completions") and not value.get("choices"):
                raise Wrong(f"no choices: {data[:200]!r}")
        elif status not in (204, 304):
            check_error(status, data)
    except Wrong as wrong:
        return f"seed {seed} ({path}, {model}, stream {stream}): {wrong}"
    except ValueError as error:
        return f"seed {seed} ({path}, {model}, stream {stream}): {error!r} in {said[-300:]!r}"
    return None


def wrong_rows(path: str) -> list[Any]:
    """Rows of a ledger that cannot be."""
    with sqlite3.connect(path) as ledger:
        return ledger.execute(
            "SELECT id, endpoint, arm, ending, error_code, prompt_tokens, completion_tokens FROM "
            "requests WHERE error_code = 'internal_error' OR prompt_tokens < 0 OR "
            "completion_tokens < 0 OR completion_tokens > 100000000 OR "
            "(ending = 'answered' AND error_code IS NOT NULL) LIMIT 5"
        ).fetchall()


def main() -> None:
    import tempfile  # noqa: PLC0415 - of the command alone
    from pathlib import Path  # noqa: PLC0415

    import hostile  # noqa: PLC0415 - it is beside this file

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found: dict[str, Any] = {"seeds": 0, "wrong": []}
    engine = Engine()
    hostile.SETTINGS = "".join(
        part for part in hostile.SETTINGS.split("[[upstream]]\n")[:2]
    ).replace("[traffic]", f'[[upstream]]\nurl = "{engine.url}"\n[traffic]').replace(
        'url = "http://127.0.0.1:{engine}/v1"\n', "[keys]\nrequired = {keys}\n"
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        gateway = hostile.Gateway(Path(folder), good="fake")
        address = ("127.0.0.1", hostile.PORT)
        until = time.monotonic() + given.minutes * 60
        before_mb = hostile.rss_mb(gateway.process.pid)
        seed, read = given.seed, 0
        while time.monotonic() < until and gateway.process.poll() is None:
            wrong = check(address, seed)
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
        found["rows_wrong"] = wrong_rows(str(Path(folder) / "ledger.db"))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
