"""The samples of one call as they race: what the live view shows, and what an early leaver drew."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from suffice.executors import live


@dataclass(slots=True)
class Racer:
    """One sample so far."""

    choice: int
    sample: int
    model: str
    purpose: str
    tokens: int = 0
    status: str = "running"
    answer: str | None = None
    prompt_tokens: int = 0


@dataclass(slots=True)
class Race:
    """All samples of one call, in the order they were launched."""

    racers: dict[tuple[int, int], Racer] = field(default_factory=dict)

    def see(self, choice: int, event: live.Event) -> None:
        """Take an event in; called for every chunk, so it does next to nothing."""
        if type(event) is live.Streamed:
            racer = self.racers[choice, event.sample]
            usage = event.chunk.usage
            if usage is not None:
                racer.tokens = usage.completion_tokens
                racer.prompt_tokens = usage.prompt_tokens
            else:
                racer.tokens += event.chunk.token_count or 1
        elif type(event) is live.Launched:
            launch = event.launch
            self.racers[choice, launch.sample] = Racer(
                choice, launch.sample, launch.model, launch.purpose
            )
        elif type(event) is live.Finished:
            racer = self.racers[choice, event.sample]
            racer.status, racer.answer = "finished", event.answer
        elif type(event) is live.Stopped:
            racer = self.racers[choice, event.sample]
            if racer.status == "running":
                racer.status = "cancelled"
        elif type(event) is live.Failed:
            self.racers[choice, event.sample].status = "failed"

    @property
    def tokens(self) -> int:
        """Completion tokens that were drawn so far."""
        return sum(racer.tokens for racer in self.racers.values())

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens that engines reported so far."""
        return sum(racer.prompt_tokens for racer in self.racers.values())

    def shown(self, *, answers: bool) -> list[dict[str, Any]]:
        """The samples as JSON values; what they answered only where that may be kept."""
        return [
            {
                "choice": racer.choice,
                "sample": racer.sample,
                "model": racer.model,
                "purpose": racer.purpose,
                "tokens": racer.tokens,
                "status": racer.status,
                "answer": racer.answer if answers else None,
            }
            for racer in list(self.racers.values())
        ]


def now_ms() -> int:
    """Unix time in milliseconds, as the live view wants it."""
    return int(time.time() * 1000)
