"""Headers of answers that no browser can be tricked with, whatever an upstream sends."""

from __future__ import annotations

import re
from functools import lru_cache

from starlette.types import Message, Send

JSON = "application/json"
BYTES = "application/octet-stream"
NOSNIFF = (b"x-content-type-options", b"nosniff")
# What answers of engines are made of: nothing that a browser runs, in one line of plain ASCII.
_DATA = re.compile(
    r"(?:application/(?:[\w.-]+\+)?json|application/(?:x-ndjson|jsonl|octet-stream|zip|pdf)"
    r"|text/(?:event-stream|plain|csv|vtt)|(?:audio|video)/[\w.+-]+|image/(?:png|jpeg|webp|gif))"
    r"(?:\s*;[\x20-\x7e]*)?",
    re.IGNORECASE | re.ASCII,
)
LOWEST, HIGHEST = 200, 599


@lru_cache(maxsize=256)
def is_data(content_type: str) -> bool:
    """Whether a content type is one of data, as it may be passed on."""
    return _DATA.fullmatch(content_type) is not None


def safe_type(content_type: str, body: bytes = b"") -> str:
    """The content type if it is one of data, else what the body looks like."""
    if is_data(content_type):
        return content_type
    return JSON if body[:1] in (b"{", b"[") else BYTES


def safe_status(status: int) -> int:
    """The status if it is one of HTTP's, else 502: the upstream does not know them."""
    return status if LOWEST <= status <= HIGHEST else 502


def without_sniffing(send: Send) -> Send:
    """`send`, with the header that keeps browsers from guessing a type."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.setdefault("headers", [])
            if all(name.lower() != NOSNIFF[0] for name, _ in headers):
                message = {**message, "headers": [*headers, NOSNIFF]}
        await send(message)

    return guarded
