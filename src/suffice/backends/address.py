"""Where an upstream's paths begin, from the URL that an operator writes.

    http://localhost:8000                     /v1/chat/completions       /tokenize
    http://localhost:8000/v1/                 /v1/chat/completions       /tokenize
    https://host/llm                          /llm/v1/chat/completions   /llm/tokenize
    https://host/api/paas/v4                  /api/paas/v4/chat/completions
    https://host/v1beta/openai                /v1beta/openai/chat/completions
    https://host/openai/deployments/x?api-version=2024-10-21
                                              /openai/deployments/x/chat/completions?api-version=…

A path that names a version, or comes with query parameters, is taken as it is; to any other /v1 is
added. What is asked at the root of a server (/tokenize, /metrics) is asked above its /v1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from suffice.core.urls import checked_url

_VERSION = re.compile(r"v\d+[a-z0-9]*")
API = "/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An upstream's URL, taken apart. `base` stands for /v1, `root` is what is above it."""

    origin: str  # scheme, host, port
    base: str
    root: str
    query: str = ""

    @classmethod
    def of(cls, url: str, *, base_path: str | None = None) -> Address:
        """From what an operator wrote; `base_path` is taken as it is. Raises InputError."""
        parts = urlsplit(checked_url(url))
        path = parts.path.rstrip("/")
        if base_path is not None:
            base = "/" + base_path.strip("/") if base_path.strip("/") else ""
        elif parts.query or any(_VERSION.fullmatch(part) for part in path.split("/")):
            base = path
        else:
            base = path + API
        return cls(
            origin=f"{parts.scheme}://{parts.netloc}",
            base=base,
            root=base.removesuffix(API),
            query=parts.query,
        )

    @property
    def name(self) -> str:
        """Host, port and what is above /v1: the upstream's name where it was given none."""
        return self.origin.rpartition("@")[2].split("://", 1)[-1] + self.root

    @lru_cache(maxsize=1024)  # noqa: B019 - a handful of addresses, which live as long as we do
    def path(self, path: str, query: str = "") -> str:
        """What is asked for `path`, one of ours: under /v1, or at the root of a server."""
        if path == API or path.startswith(API + "/"):
            found = self.base + path.removeprefix(API)
        else:
            found = self.root + path
        queries = "&".join(part for part in (self.query, query) if part)
        return f"{found}?{queries}" if queries else found
