"""The models of pruning: one that knows the traces, a pruner that endures gaps, and students.

A model of full traces alone judges every gap as strange: it keeps all kinds of tokens alike. A
pruner is therefore trained on traces with gaps, each with a share of tokens dropped that is drawn
from U(0, `drop`), and only on the answer; every other trace stays whole and is learned in full.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from suffice.backends.nano.vocabulary import ASSISTANT, END, PAD, THINK, USER, Vocabulary
from suffice.core.thinking import THINK_END
from suffice.training.pruning.problems import Traced, problems
from suffice.training.pruning.scoring import Example
from suffice.training.responses import draw, pad
from suffice.training.run_state import seeded


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence to learn: not its first `skipped` ids, and its last `tail`, the answer, apart."""

    ids: list[int]
    skipped: int
    tail: int


Rows = list[Row]


def example_of(problem: Traced, vocabulary: Vocabulary) -> Example:
    """A problem as ids: question up to the open think block, trace, close, answer."""
    prompt = [USER, *problem.prompt, ASSISTANT, THINK]
    return Example(
        question=tuple(vocabulary.id(word) for word in prompt),
        trace=tuple(vocabulary.id(word) for word in problem.trace),
        close=(vocabulary.id(THINK_END),),
        answer=(vocabulary.id(problem.answer),),
    )


def whole_row(
    example: Example, kept: Sequence[int], vocabulary: Vocabulary, *, answer_only: bool
) -> Row:
    """An example with only the `kept` places of its trace, learned whole or at the answer."""
    trace = [example.trace[place] for place in kept]
    before = [*example.question, *trace, *example.close]
    row = [*before, *example.answer, vocabulary.id(END)]
    skipped = len(before) if answer_only else len(example.question)
    return Row(row, skipped, len(row) - len(before))


def row_loss(model: nn.Module, rows: Rows) -> torch.Tensor:
    """Cross-entropy in nats: mean over the traces' tokens, plus mean over the answers'.

    One mean over all would give the answer the weight of one word of thirty.
    """
    ids, mask = pad([row.ids for row in rows], 0, left=False)
    column = torch.arange(ids.shape[1])[None]
    skipped, ends, tails = (
        torch.tensor(values)[:, None]
        for values in zip(*((r.skipped, len(r.ids), r.tail) for r in rows), strict=True)
    )
    in_answer = mask & (column >= ends - tails)
    in_trace = mask & (column >= skipped) & ~in_answer
    logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
    logprob = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    picked = logprob.gather(2, ids[:, 1:, None]).squeeze(2)

    def mean(wanted: torch.Tensor) -> torch.Tensor:
        here = wanted[:, 1:]
        return -(picked * here).sum() / here.sum().clamp(min=1)

    return mean(in_trace) + mean(in_answer)


def full_traces(
    vocabulary: Vocabulary, *, batch: int, seed: int, steps: int = 1
) -> Callable[[int], Rows]:
    """Rows of new problems with whole traces, learned from the first token of the trace."""

    def rows(step: int) -> Rows:
        drawn = problems(batch, seed=seed, part=f"train/{step}", steps=steps)
        examples = [example_of(problem, vocabulary) for problem in drawn]
        return [whole_row(e, range(len(e.trace)), vocabulary, answer_only=False) for e in examples]

    return rows


def dropped_traces(
    vocabulary: Vocabulary,
    *,
    batch: int,
    seed: int,
    drop: float,
    whole: float = 0.25,
    steps: int = 1,
) -> Callable[[int], Rows]:
    """Rows whose traces lost a share of U(0, `drop`), learned at the answer; some stay whole."""

    def rows(step: int) -> Rows:
        rng = random.Random(f"{seed}/drop/{step}")
        found = []
        for problem in problems(batch, seed=seed, part=f"gaps/{step}", steps=steps):
            example = example_of(problem, vocabulary)
            places = list(range(len(example.trace)))
            stays = rng.random() < whole
            gone = 0.0 if stays else rng.random() * drop
            kept = [place for place in places if stays or rng.random() >= gone]
            found.append(whole_row(example, kept, vocabulary, answer_only=not stays))
        return found

    return rows


def fixed_rows(rows: Sequence[Row], *, batch: int, seed: int) -> Any:
    """Rows of a fixed set in passes, each in an order of its own."""

    def of_step(step: int) -> Rows:
        found: Rows = []
        for n in range(step * batch, (step + 1) * batch):
            epoch, at = divmod(n, len(rows))
            order = list(range(len(rows)))
            random.Random(f"{seed}/order/{epoch}").shuffle(order)
            found.append(rows[order[at]])
        return found

    return of_step


def answered(
    model: nn.Module, asked: Sequence[Traced], vocabulary: Vocabulary, *, max_tokens: int, seed: int
) -> tuple[list[bool], list[int]]:
    """Greedy: whether each problem's own thought ends in the right answer, and its tokens."""
    question = [
        [vocabulary.id(word) for word in (USER, *problem.prompt, ASSISTANT)] for problem in asked
    ]
    ids, mask = pad(question, vocabulary.id(PAD), left=True)
    think = torch.full((len(asked),), vocabulary.id(THINK))
    model.eval()
    response, real = draw(
        model, ids, mask, vocabulary, max_tokens=max_tokens, temperature=0.0,
        generator=seeded(seed, "answered"), control_B=think,
    )  # fmt: skip
    right, tokens = [], []
    for problem, row, kept in zip(asked, response.tolist(), real.tolist(), strict=True):
        said = [token for token, is_real in zip(row, kept, strict=True) if is_real]
        wanted = [vocabulary.id(word) for word in (THINK_END, problem.answer, END)]
        right.append(said[-3:] == wanted and said.count(vocabulary.id(THINK_END)) == 1)
        tokens.append(len(said))
    return right, tokens
