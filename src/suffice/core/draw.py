"""One sample to be drawn, as backends are asked for it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from suffice.core.requests import Request, Sampling
from suffice.core.thinking import Thinking


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample of `request`; `sampling`, `model` and `thinking` override the request's own."""

    request: Request
    sampling: Sampling
    _: KW_ONLY
    model: str
    thinking: Thinking | None = None  # None: the engine's default
    prefill: str = ""  # text that the assistant's turn begins with; chunks do not repeat it
