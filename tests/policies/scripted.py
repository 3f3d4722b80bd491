"""Scripted evidence: samples by number, played through the replay executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from suffice.backends.protocol import Chunk
from suffice.core.completions import Completion, Outcome, Usage
from suffice.core.requests import Message, Request
from suffice.executors.running_sample import Launch
from tests.policies.reference_replay import replay

REQUEST = Request(
    messages=(Message(role="user", content="2+2?"),), model="m", answer_format="number"
)
FREE_FORM = Request(messages=(Message(role="user", content="Tell me a tale."),), model="m")


@dataclass(frozen=True)
class Said:
    """One sample: its last word is its answer, `-` stands for none."""

    answer: str
    tokens: int = 4
    confidences: tuple[float, ...] = ()
    score: float | None = None
    reasoning: tuple[str, ...] = ()
    words: tuple[str, ...] | None = None
    chunk_tokens: int = 1

    def chunks(self, max_tokens: int | None = None) -> list[Chunk]:
        words = self.words or (*("so ",) * (self.tokens - 1), self.answer)
        pieces = [("", word) for word in self.reasoning] + [(word, "") for word in words]
        shown = pieces if max_tokens is None else pieces[:max_tokens]
        levels = self.confidences or (1.0,) * len(pieces)
        chunks = []
        for at in range(0, len(shown), self.chunk_tokens):
            group = shown[at : at + self.chunk_tokens]
            chunks.append(
                Chunk(
                    text="".join(text for text, _ in group),
                    reasoning_text="".join(thought for _, thought in group),
                    token_count=len(group),
                    confidences=levels[at : at + self.chunk_tokens],
                )
            )
        usage = Usage(prompt_tokens=10, completion_tokens=len(shown))
        reason = "stop" if len(shown) == len(pieces) else "length"
        return [*chunks, Chunk(token_count=0, finish_reason=reason, usage=usage)]


def last_word(completion: Completion) -> str | None:
    words = completion.text.split()
    return words[-1] if words and words[-1] != "-" else None


@dataclass
class Play:
    """An outcome and the launches that led to it."""

    outcome: Outcome
    launches: list[Launch] = field(default_factory=list)

    @property
    def answer(self) -> str | None:
        return last_word(self.outcome.completion)

    @property
    def drawn(self) -> int:
        return len(self.launches)


def play(
    policy,
    script: Sequence[str | Said] | Callable[[Launch], str | Said],
    *,
    request: Request = REQUEST,
    **how,
) -> Play:
    """`script`: what sample i says, or a function of its launch."""
    launches: list[Launch] = []
    said: dict[int, Said] = {}

    def recording(launch: Launch) -> list[Chunk]:
        launches.append(launch)
        item = script(launch) if callable(script) else script[launch.sample]
        item = Said(item) if isinstance(item, str) else item
        said[launch.sample] = item
        return item.chunks(launch.draw.sampling.max_tokens)

    outcome = replay(
        policy,
        request,
        recording,
        extract=last_word,
        score=lambda launch: said[launch.sample].score,
        **how,
    )
    return Play(outcome=outcome, launches=launches)
