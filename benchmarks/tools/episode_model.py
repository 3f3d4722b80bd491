"""A scripted model for recorded episodes: it says what the episode says, in each policy's form.

It counts prompts as they are sent, and knows which part of each an engine would have cached.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from suffice.core.requests import Request, ToolCall
from suffice.executors.recorded_stream import RecordedSample
from suffice.executors.running_sample import Launch

CHARS_PER_TOKEN = 4


@dataclass(frozen=True)
class Turn:
    thought: str
    action: str
    observation: str


@dataclass(frozen=True)
class Episode:
    question: str
    turns: tuple[Turn, ...]

    @property
    def steps(self) -> int:
        return len(self.turns)


def tokens(text: str) -> float:
    return len(text) / CHARS_PER_TOKEN


@dataclass(frozen=True)
class Count:
    """Tokens of an episode: `unique` once, `repeated` again and again; both include the prompt."""

    unique: float
    repeated: float

    @property
    def total(self) -> float:
        return self.unique + self.repeated

    def cost(self, rho: float) -> float:
        return self.unique + rho * self.repeated


@dataclass
class Engine:
    """Says what the episode says, counts prompts, and knows which part of each it has seen."""

    episode: Episode
    chain: bool
    policy: str
    sent: list[str] = field(default_factory=list)
    prompt_chars: int = 0
    written_chars: int = 0
    cached_chars: int = 0

    def __call__(self, launch: Launch) -> RecordedSample:
        request = launch.draw.request
        prompt = shown(request)
        reply, calls = self._reply(launch)
        said = reply + "".join(call.name + call.arguments for call in calls)
        self.prompt_chars += len(prompt)
        self.written_chars += len(said)
        self.cached_chars += max((common(prompt, each) for each in self.sent), default=0)
        self.sent.append(prompt + said)
        return RecordedSample(
            text=reply, tokens=max(1, round(tokens(said))), tool_calls=calls,
            prompt_tokens=round(tokens(prompt)),
            finish_reason="tool_calls" if calls else "stop",
        )  # fmt: skip

    def _reply(self, launch: Launch) -> tuple[str, tuple[ToolCall, ...]]:
        turns = self.episode.turns
        if self.policy == "futures" and launch.draw.request.tools:
            return self._named(launch)
        if launch.purpose == "plan":
            lines = [self._line(n) for n in range(1, len(turns))]
            return "\n".join([*lines, *self._end()]), ()
        if not launch.draw.request.tools:
            return turns[-1].thought + argument(turns[-1]), ()
        at = sum(m.role == "assistant" for m in launch.draw.request.messages)
        turn = turns[min(at, len(turns) - 1)]
        if at >= len(turns) - 1:
            return turn.thought + argument(turn), ()
        query = json.dumps({"query": argument(turn)})
        return turn.thought, (ToolCall(id=f"c{at}", name="search", arguments=query),)

    def _named(self, launch: Launch) -> tuple[str, tuple[ToolCall, ...]]:
        """A call a turn where each needs the one before, else all at once; then `ready`."""
        turns = self.episode.turns[:-1]
        at = sum(m.role == "assistant" for m in launch.draw.request.messages)
        numbers = range(at, min(at + 1, len(turns))) if self.chain else range(len(turns))
        if not numbers or (at and not self.chain):
            return "ready", ()
        calls = [
            ToolCall(
                id=f"c{n}", name="search",
                arguments=json.dumps({"query": self._said(n + 1, f"$r{n}")}),
            )
            for n in numbers
        ]  # fmt: skip
        return " ".join(turns[n].thought for n in numbers), tuple(calls)

    def _said(self, number: int, before: str) -> str:
        """What is searched for, and the result before where each call needs it."""
        said = re.sub(r'[\[\]"\\\n$#{}()=]', " ", argument(self.episode.turns[number - 1]))
        return f"{said} {before}" if self.chain and number > 1 else said

    def _line(self, number: int) -> str:
        thought = " ".join(self.episode.turns[number - 1].thought.split())
        if self.policy == "dag":
            return f'Thought: {thought}\n{number}. search("{self._said(number, f"${number - 1}")}")'
        if self.policy == "abstraction":
            said = self._said(number, f"y{number - 1}")
            return f"{thought.replace('[', '(')} [search({said}) = y{number}]"
        if self.policy == "program":
            said = self._said(number, f"{{r{number - 1}}}")
            return f'# {thought}\nr{number} = search(f"{said}")'
        return f"Plan: {thought}\n#E{number} = search[{self._said(number, f'#E{number - 1}')}]"

    def _end(self) -> list[str]:
        last = self.episode.turns[-1]
        if self.policy == "abstraction":
            return [f"{last.thought}\nAnswer: {argument(last)}"]
        if self.policy == "program":
            names = [f"r{n}" for n in range(1, len(self.episode.turns))]
            return [f'print({", ".join(names)}, sep="\\n")'] if names else ["pass"]
        return []

    @property
    def count(self) -> Count:
        every = (self.prompt_chars + self.written_chars) / CHARS_PER_TOKEN
        cached = self.cached_chars / CHARS_PER_TOKEN
        return Count(every - cached, cached)


def argument(turn: Turn) -> str:
    return turn.action.partition("[")[2].rstrip("] \n") or turn.action


def shown(request: Request) -> str:
    """A prompt as a template would write it: tools first, then the turns."""
    parts = [f"{t.name}{t.description}{t.parameters_json}" for t in request.tools]
    for turn in request.messages:
        parts.append(turn.text)
        parts += [call.name + call.arguments for call in turn.tool_calls]
    return "".join(parts)


def common(a: str, b: str) -> int:
    """Characters that two texts begin with alike."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
