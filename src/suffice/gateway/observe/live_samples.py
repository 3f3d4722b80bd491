"""The samples of one call as they run: for the live view and for who left early."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from suffice.core.completions import Usage
from suffice.core.errors import UpstreamRejected
from suffice.executors import live
from suffice.executors.pace import PACE


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
    cached_tokens: int | None = None
    most: int | None = None  # tokens that it may draw
    unstreamed_since_s: float | None = None  # nothing of it is seen before its end
    turned_away: bool = False  # the engine refused its request before it did anything
    usage_refused: bool = False

    @property
    def drawn(self) -> int:
        """Tokens so far; of one that shows nothing before its end, by its model's pace."""
        if self.unstreamed_since_s is None or self.status == "finished" or self.tokens:
            return self.tokens
        elapsed_s = time.monotonic() - self.unstreamed_since_s
        return PACE.drawn(self.model, elapsed_s, self.most)


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
                racer.cached_tokens = usage.cached_tokens
            else:
                racer.tokens += event.chunk.token_count or 1
            racer.usage_refused = racer.usage_refused or event.chunk.usage_refused
        elif type(event) is live.Launched:
            launch = event.launch
            self.racers[choice, launch.sample] = Racer(
                choice,
                launch.sample,
                launch.model,
                launch.purpose,
                most=launch.sampling.max_tokens,
                unstreamed_since_s=time.monotonic() if event.unstreamed else None,
            )
        elif type(event) is live.Finished:
            racer = self.racers[choice, event.sample]
            racer.status, racer.answer = "finished", event.answer
        elif type(event) is live.Stopped:
            racer = self.racers[choice, event.sample]
            if racer.status == "running":
                racer.status = "cancelled"
        elif type(event) is live.Failed:
            racer = self.racers[choice, event.sample]
            racer.status = "failed"
            racer.turned_away = isinstance(event.error, UpstreamRejected) and not racer.tokens

    def spent(
        self, reached: Mapping[int, set[int]], prompt_tokens: int
    ) -> list[tuple[Racer, Usage, bool]]:
        """What each sample that reached an engine took so far, and whether the engine told it.

        A prompt that it did not tell is as long as a sibling's on the same model, else as guessed.
        """
        known = {r.model: r.prompt_tokens for r in self.racers.values() if r.prompt_tokens}
        found = []
        for racer in self.racers.values():
            if racer.sample not in reached.get(racer.choice, ()):
                continue
            if racer.turned_away:
                found.append((racer, Usage(), True))
                continue
            usage = Usage(
                prompt_tokens=racer.prompt_tokens or known.get(racer.model, prompt_tokens),
                completion_tokens=racer.drawn,
                cached_tokens=racer.cached_tokens,
            )
            found.append((racer, usage, bool(racer.prompt_tokens)))
        return found

    def shown(self, *, answers: bool) -> list[dict[str, Any]]:
        """The samples as JSON values; what they answered only where that may be kept."""
        return [
            {
                "choice": racer.choice,
                "sample": racer.sample,
                "model": racer.model,
                "purpose": racer.purpose,
                "tokens": racer.drawn,
                "status": racer.status,
                "answer": racer.answer if answers else None,
            }
            for racer in list(self.racers.values())
        ]
