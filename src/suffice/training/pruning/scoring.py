"""What a pruner thinks of a trace that lost some tokens, many candidates at once.

    F_answer = log P(a | q, r_S)
    F_joint  = log P(r_S, a | q)
    F_mean   = log P(a | q, r_S) + log P(r_S | q) / |S|

q question, a answer, r_S the kept tokens S of the trace (arXiv:2601.03066, §3). Summed F_joint
drops surprising tokens because each costs its own log-probability; F_mean divides by the length,
which is ours.

B  candidates   T  tokens of a row   V  vocabulary
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from suffice.backends.kv_cache import forward
from suffice.core.errors import InputError

Objective = Literal["answer", "joint", "mean"]
OBJECTIVES: tuple[Objective, ...] = ("answer", "joint", "mean")
# Candidates of one forward pass.
ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A question, its trace and its answer as ids.

    `question` ends where the trace begins (with the token that opens the think block), `close`
    stands between trace and answer.
    """

    question: tuple[int, ...]
    trace: tuple[int, ...]
    close: tuple[int, ...]
    answer: tuple[int, ...]

    def __post_init__(self) -> None:
        if not (self.question and self.trace and self.answer):
            raise InputError("pruning needs a question, a trace and an answer, each of some tokens")


@dataclass(frozen=True, slots=True)
class Scores:
    """Of some candidates, in nats, (B,): the answer's and the kept trace's log-probability."""

    answer_B: torch.Tensor
    trace_B: torch.Tensor
    kept_B: torch.Tensor

    def of(self, objective: Objective) -> torch.Tensor:
        """The objective's value, (B,)."""
        if objective == "answer":
            return self.answer_B
        if objective == "joint":
            return self.answer_B + self.trace_B
        return self.answer_B + self.trace_B / self.kept_B.clamp(min=1)


@dataclass(slots=True)
class Pruner:
    """A causal model of transformers with a count of the tokens that it computed."""

    model: nn.Module
    computed_tokens: int = field(default=0)

    def scores(self, example: Example, kept: Sequence[Sequence[int]]) -> Scores:
        """Of candidates that keep these places of the trace, each row computed from its start."""
        parts = [self._whole(example, kept[i : i + ROWS]) for i in range(0, len(kept), ROWS)]
        return _together(parts)

    def without_each(
        self, example: Example, kept: Sequence[int], tried: Sequence[int] | None = None
    ) -> Scores:
        """Of `kept` without its i-th place, for each i of `tried` (default: all).

        What stands before the missing place is the same as in `kept`: it is computed once, and each
        candidate computes what follows. The result is that of `scores`.
        """
        tried = range(len(kept)) if tried is None else tried
        row = [example.trace[place] for place in kept]
        with torch.no_grad():
            ids = torch.tensor([[*example.question, *row]])
            out, cache = forward(self.model, input_ids=ids)
        self.computed_tokens += ids.numel()
        logprob_TV = torch.log_softmax(out.logits[0].float(), dim=-1)
        start = len(example.question)
        own = logprob_TV[start - 1 : -1].gather(1, ids[0, start:, None])[:, 0]
        before = torch.cat([torch.zeros(1), own.cumsum(0)])  # log P of the first i kept tokens
        order = sorted(range(len(tried)), key=lambda at: tried[at])
        size = max(1, min(ROWS, -(-len(order) // 3)))  # of like length, so that little is padding
        found: list[tuple[int, Scores]] = []
        for chunk in (order[i : i + size] for i in range(0, len(order), size)):
            places = [tried[at] for at in chunk]
            part = self._suffixes(
                example, row, places, cache=cache, logprob_TV=logprob_TV[start - 1 :], before=before
            )
            found += [(at, _row(part, n)) for n, at in enumerate(chunk)]
        return _together([scores for _, scores in sorted(found, key=lambda pair: pair[0])])

    def _whole(self, example: Example, kept: Sequence[Sequence[int]]) -> Scores:
        rows = [[example.trace[place] for place in places] for places in kept]
        tail = [*example.close, *example.answer]
        whole = [[*example.question, *row, *tail] for row in rows]
        ids, mask = _padded(whole)
        with torch.no_grad():
            logits = _logits(self.model, ids, mask)
        self.computed_tokens += ids.numel()
        picked = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        picked = picked.gather(2, ids[:, 1:, None]).squeeze(2)
        start = len(example.question) - 1
        column = torch.arange(picked.shape[1])[None]
        lengths = torch.tensor([len(row) for row in rows])
        of_trace = (column >= start) & (column < start + lengths[:, None])
        end = torch.tensor([len(row) for row in whole])[:, None] - 1
        of_answer = (column >= end - len(example.answer)) & (column < end)
        return Scores((picked * of_answer).sum(1), (picked * of_trace).sum(1), lengths)

    def _suffixes(
        self,
        example: Example,
        row: Sequence[int],
        places: Sequence[int],
        *,
        cache: Any,
        logprob_TV: torch.Tensor,
        before: torch.Tensor,
    ) -> Scores:
        tail = [*example.close, *example.answer]
        suffixes = [[*row[place + 1 :], *tail] for place in places]
        ids, real = _padded(suffixes)
        held = len(example.question) + len(row)
        first = torch.tensor([len(example.question) + place for place in places])[:, None]
        mask = torch.cat([torch.arange(held)[None] < first, real], dim=1)
        again = copy.deepcopy(cache)
        again.batch_repeat_interleave(len(places))
        with torch.no_grad():
            out, _ = forward(
                self.model, again, input_ids=ids, attention_mask=mask.long(),
                position_ids=first + torch.arange(ids.shape[1])[None],
            )  # fmt: skip
        self.computed_tokens += ids.numel()
        after = torch.log_softmax(out.logits.float(), dim=-1)
        # The first suffix token is predicted by the last one before the gap.
        gap = torch.stack([logprob_TV[place] for place in places])[:, None]
        picked = torch.cat([gap, after[:, :-1]], dim=1).gather(2, ids[..., None]).squeeze(2)
        column = torch.arange(ids.shape[1])[None]
        lengths = torch.tensor([len(suffix) for suffix in suffixes])[:, None]
        of_trace = column < lengths - len(tail)
        of_answer = (column >= lengths - len(example.answer)) & (column < lengths)
        trace = (picked * of_trace).sum(1) + torch.stack([before[place] for place in places])
        return Scores(
            (picked * of_answer).sum(1), trace, torch.full((len(places),), len(row) - 1)
        )  # fmt: skip


def _logits(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
    return out


def _padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask) of rows padded on the right."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *([0] * (width - len(row)))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(width)[None] < lengths[:, None]


def _together(parts: Sequence[Scores]) -> Scores:
    return Scores(
        torch.cat([part.answer_B for part in parts]),
        torch.cat([part.trace_B for part in parts]),
        torch.cat([part.kept_B for part in parts]),
    )


def _row(scores: Scores, at: int) -> Scores:
    one = slice(at, at + 1)
    return Scores(scores.answer_B[one], scores.trace_B[one], scores.kept_B[one])
