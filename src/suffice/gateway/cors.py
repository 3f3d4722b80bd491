"""Web pages of other origins: off, unless the operator names them (CORS, Fetch standard)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from annotated_types import Ge
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from suffice.core.errors import InputError
from suffice.core.settings import STRICT, About

_EXPOSED = (
    "x-request-id", "retry-after", "x-suffice-arm", "x-suffice-why", "x-suffice-model",
    "x-suffice-confidence", "x-suffice-samples", "x-suffice-samples-cancelled",
    "x-suffice-completion-tokens", "x-suffice-saved", "x-suffice-overhead-ms",
    "x-suffice-upstream", "x-suffice-fallback", "x-suffice-id",
    "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsConfig:
    """Which pages in browsers may ask this gateway."""

    __pydantic_config__ = STRICT
    origins: Annotated[
        tuple[str, ...],
        About("pages that may ask it from a browser, as https://app.example; none by default"),
    ] = ()
    max_age_s: Annotated[int, Ge(0), About("a browser remembers so long that it may")] = 600

    def __post_init__(self) -> None:
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in (
                "", "/",
            ):  # fmt: skip
                raise InputError(
                    f"cors: {origin!r} is not an origin: write https://app.example, without a path"
                )


def with_cors(app: ASGIApp, config: CorsConfig) -> ASGIApp:
    """`app`, which pages of the named origins may use. Keys are sent as headers, never cookies."""
    if not config.origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=[origin.rstrip("/") for origin in config.origins],
        allow_methods=["GET", "POST", "OPTIONS"],
        allow_headers=["*"],
        expose_headers=_EXPOSED,
        max_age=config.max_age_s,
    )
