"""Chains as ids, their log-probabilities, and chains that a model plays with the real tools.

B  sequences   T  tokens
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from suffice.backends.kv_cache import forward
from suffice.backends.nano.vocabulary import END, PAD, Vocabulary
from suffice.training.responses import pad
from suffice.training.tool_calls.questions import NONE, TOOL, TOOLS, Call, Chain, Question

# More than a call's eight words and an end.
TURN_TOKENS = 10
TURNS = 4
_CALL = re.compile(rf"({'|'.join(TOOLS)})\(a=(\d+),b=(\d+)\)")

Fault = Literal[
    "right", "malformed", "not offered", "refused wrongly", "called wrongly", "wrong function",
    "wrong arguments", "wrong answer",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """Ids of a prompt and a chain; `own` marks what the model wrote and learns from."""

    ids: list[int]
    own: list[bool]


def row_of(question: Question, chain: Chain, vocabulary: Vocabulary) -> Row:
    """A question with a chain."""
    prompt = [vocabulary.id(word) for word in question.prompt]
    written = [vocabulary.id(word) for word in chain.words]
    return Row([*prompt, *written], [False] * len(prompt) + list(chain.own))


def own_logprobs(model: nn.Module, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """(log π of each id that follows (B, T - 1), True where the model wrote it)."""
    ids, real = pad([row.ids for row in rows], 0, left=False)
    own, _ = pad([[int(mine) for mine in row.own] for row in rows], 0, left=False)
    device = next(model.parameters()).device
    ids, real, mine = ids.to(device), real.to(device), own.bool().to(device)
    logits = model(input_ids=ids, attention_mask=real.long(), use_cache=False).logits
    picked = torch.log_softmax(logits[:, :-1].float(), dim=-1).gather(2, ids[:, 1:, None])
    return picked.squeeze(2), mine[:, 1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A chain that a model played, and what is wrong with it."""

    question: Question
    chain: Chain
    calls: tuple[Call, ...]
    fault: Fault

    @property
    def right(self) -> bool:
        """The calls and the answer are the right ones."""
        return self.fault == "right"


def play(
    model: nn.Module,
    asked: Sequence[Question],
    vocabulary: Vocabulary,
    *,
    temperature: float,
    generator: torch.Generator,
    batch: int = 128,
) -> list[Played]:
    """Each question played to its end, calls run by the tools; temperature 0 is greedy."""
    model.eval()
    found: list[Played] = []
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        written = [_Writing(question) for question in part]
        for _ in range(TURNS):
            going = [w for w in written if not w.done]
            if not going:
                break
            prompts = [[vocabulary.id(word) for word in w.so_far] for w in going]
            turns = _turns(model, prompts, vocabulary, temperature, generator)
            for writing, turn in zip(going, turns, strict=True):
                writing.add([vocabulary.tokens[n] for n in turn])
        found += [w.played() for w in written]
    return found


class _Writing:
    """A chain while it is being written."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.words: list[str] = []
        self.own: list[bool] = []
        self.calls: list[Call] = []
        self.last: str | None = None  # the final turn, as text
        self.done = False

    @property
    def so_far(self) -> tuple[str, ...]:
        return (*self.question.prompt, *self.words)

    def add(self, turn: list[str]) -> None:
        """One turn of the model's, cut after its end; a call is run."""
        self.words += turn
        self.own += [True] * len(turn)
        text = "".join(turn[:-1]) if turn and turn[-1] == END else ""
        call = _CALL.fullmatch(text)
        if call is None or len(self.calls) == TURNS - 1:
            self.last, self.done = text, True
            return
        made = Call(call[1], int(call[2]), int(call[3]))
        self.calls.append(made)
        said = [TOOL, str(made.run()), END]
        self.words += said
        self.own += [False] * len(said)

    def played(self) -> Played:
        return Played(
            question=self.question,
            chain=Chain(words=tuple(self.words), own=tuple(self.own)),
            calls=tuple(self.calls),
            fault=fault_of(self.question, tuple(self.calls), self.last or ""),
        )


def fault_of(question: Question, calls: tuple[Call, ...], last: str) -> Fault:
    """What is wrong first, from the first call on."""
    fault: Fault
    if not calls and last == NONE:
        fault = "refused wrongly" if question.calls else "right"
    elif any(call.tool not in question.offered for call in calls):
        fault = "not offered"
    elif not last.isdigit() and last != NONE:
        fault = "malformed"
    elif not question.calls:
        fault = "called wrongly" if calls else "malformed"
    else:
        fault = _fault_of_calls(question, calls) or (
            "right" if last == question.answer else "wrong answer"
        )
    return fault


def _fault_of_calls(question: Question, calls: tuple[Call, ...]) -> Fault | None:
    for made, wanted in zip(calls, question.calls, strict=False):
        if made.tool != wanted.tool:
            return "wrong function"
        if made != wanted:
            return "wrong arguments"
    return None if len(calls) == len(question.calls) else "wrong function"


def _turns(
    model: Any,
    prompts: list[list[int]],
    vocabulary: Vocabulary,
    temperature: float,
    generator: torch.Generator,
) -> list[list[int]]:
    """What follows each prompt up to and with its end, or TURN_TOKENS."""
    end = vocabulary.id(END)
    ids, real = pad(prompts, vocabulary.id(PAD), left=True)
    device = next(model.parameters()).device
    mask = real.to(device)
    inputs, positions = ids.to(device), (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache, drawn = None, []
    with torch.no_grad():
        for _ in range(TURN_TOKENS):
            out, cache = forward(
                model, cache, input_ids=inputs, attention_mask=mask, position_ids=positions,
                logits_to_keep=1,
            )  # fmt: skip
            logits = out.logits[:, -1].float().cpu()
            if temperature:
                chances = torch.softmax(logits / temperature, dim=1)
                token = torch.multinomial(chances, 1, generator=generator).squeeze(1)
            else:
                token = logits.argmax(dim=1)
            drawn.append(token)
            inputs, positions = token[:, None].to(device), positions[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    rows = torch.stack(drawn, dim=1).tolist()
    return [row[: row.index(end) + 1] if end in row else row for row in rows]
