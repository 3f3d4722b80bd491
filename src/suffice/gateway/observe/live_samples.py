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
class LiveSample:
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
class LiveSamples:
    """All samples of one call, in the order they were launched."""

    samples: dict[tuple[int, int], LiveSample] = field(default_factory=dict)

    def see(self, choice: int, event: live.Event) -> None:
        """Take an event in; called for every chunk, so it does next to nothing."""
        if type(event) is live.Streamed:
            sample = self.samples[choice, event.sample]
            usage = event.chunk.usage
            if usage is not None:
                sample.tokens = usage.completion_tokens
                sample.prompt_tokens = usage.prompt_tokens
                sample.cached_tokens = usage.cached_tokens
            else:
                sample.tokens += event.chunk.token_count or 1
            sample.usage_refused = sample.usage_refused or event.chunk.usage_refused
        elif type(event) is live.Launched:
            launch = event.launch
            self.samples[choice, launch.sample] = LiveSample(
                choice,
                launch.sample,
                launch.draw.model,
                launch.purpose,
                most=launch.draw.sampling.max_tokens,
                unstreamed_since_s=time.monotonic() if event.unstreamed else None,
            )
        elif type(event) is live.Finished:
            sample = self.samples[choice, event.sample]
            sample.status, sample.answer = "finished", event.answer
        elif type(event) is live.Stopped:
            sample = self.samples[choice, event.sample]
            if sample.status == "running":
                sample.status = "cancelled"
        elif type(event) is live.Failed:
            sample = self.samples[choice, event.sample]
            sample.status = "failed"
            sample.turned_away = isinstance(event.error, UpstreamRejected) and not sample.tokens

    def spent(
        self, reached: Mapping[int, set[int]], prompt_tokens: int
    ) -> list[tuple[LiveSample, Usage, bool]]:
        """What each sample that reached an engine took so far, and whether the engine told it.

        A prompt that it did not tell is as long as a sibling's on the same model, else as guessed.
        """
        known = {r.model: r.prompt_tokens for r in self.samples.values() if r.prompt_tokens}
        found = []
        for sample in self.samples.values():
            if sample.sample not in reached.get(sample.choice, ()):
                continue
            if sample.turned_away:
                found.append((sample, Usage(), True))
                continue
            usage = Usage(
                prompt_tokens=sample.prompt_tokens or known.get(sample.model, prompt_tokens),
                completion_tokens=sample.drawn,
                cached_tokens=sample.cached_tokens,
            )
            found.append((sample, usage, bool(sample.prompt_tokens)))
        return found

    def shown(self, *, answers: bool) -> list[dict[str, Any]]:
        """The samples as JSON values; what they answered only where that may be kept."""
        return [
            {
                "choice": sample.choice,
                "sample": sample.sample,
                "model": sample.model,
                "purpose": sample.purpose,
                "tokens": sample.drawn,
                "status": sample.status,
                "answer": sample.answer if answers else None,
            }
            for sample in list(self.samples.values())
        ]
