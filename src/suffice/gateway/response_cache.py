"""Whole answers to requests that would be answered the same way again.

Off unless the operator gives it bytes. Only an answer that was complete and without an error is
kept, and only for a request that is deterministic (`temperature` 0) or asks for it
(`"suffice": {"cache": true}`); `false` asks for a fresh one. Keys belong to one principal each, so
that nobody learns from the time of an answer what others have asked.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from suffice.gateway.admission import CacheConfig
from suffice.gateway.calls import Call

# Fields that do not change what is answered.
_IGNORED = ("user", "metadata", "store", "safety_identifier", "prompt_cache_key", "priority")
_OVERHEAD_BYTES = 500  # of an entry beside its body, about


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedAnswer:
    """An answer as it was sent."""

    body: bytes
    content_type: str
    headers: Mapping[str, str]
    until_s: float


class AnswerCache:
    """The least recently used answers go first when the bytes are used up."""

    def __init__(self, config: CacheConfig) -> None:
        self.config = config
        self.size_bytes = 0
        self._entries: OrderedDict[bytes, CachedAnswer] = OrderedDict()

    def key_of(self, call: Call, *, switched_off: bool = False) -> bytes | None:
        """What stands for the request; None if it must not be cached.

        `switched_off`: what was answered while its certificate held is not for it.
        """
        if self.config.max_bytes <= 0:
            return None
        suffice = call.value.get("suffice")
        if isinstance(suffice, dict) and suffice.get("tools"):
            return None  # what tools say may be another thing the next time
        asked = suffice.get("cache") if isinstance(suffice, dict) else None
        if asked is False or (asked is None and call.value.get("temperature") != 0):
            return None
        fields: dict[str, Any] = {k: v for k, v in call.value.items() if k not in _IGNORED}
        text = orjson.dumps(
            [call.path, call.principal, call.arm, call.target, switched_off, fields],
            option=orjson.OPT_SORT_KEYS,
        )
        return hashlib.blake2b(text, digest_size=16).digest()

    def find(self, key: bytes) -> CachedAnswer | None:
        """The kept answer, if it is fresh enough."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until_s < time.monotonic():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def keep(self, key: bytes, body: bytes, content_type: str, headers: Mapping[str, str]) -> None:
        """Keep a complete answer."""
        if len(body) > self.config.max_entry_bytes:
            return
        if key in self._entries:
            self._drop(key)
        until_s = time.monotonic() + self.config.ttl_s
        self._entries[key] = CachedAnswer(
            body=body, content_type=content_type, headers=dict(headers), until_s=until_s
        )
        self.size_bytes += len(body) + _OVERHEAD_BYTES
        while self.size_bytes > self.config.max_bytes and self._entries:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        self.size_bytes -= len(self._entries.pop(key).body) + _OVERHEAD_BYTES
