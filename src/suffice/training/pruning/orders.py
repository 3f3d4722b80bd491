"""Orders of deletion that the greedy pruner is held against, at the same number of tokens.

random        a seeded shuffle
uniform       every so many-th token goes, evenly over the trace
truncation    the end goes first
surprisal     the least surprising token goes first, by -log P(token | all before it)
entropy       the token at the least uncertain place goes first
importance    the token whose loss costs the answer least goes first, judged once on the whole
              trace by the answer's gradient: |dF_answer/de · e| of its embedding e. In the
              place of TokenSkip's importance (arXiv:2502.12067), which is a trained classifier.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from suffice.training.pruning.scoring import Example

Order = Callable[[nn.Module, Example, int], list[int]]


def shuffled(_: nn.Module, example: Example, seed: int) -> list[int]:
    """All places in random order; the same for the same example and seed."""
    places = list(range(len(example.trace)))
    random.Random(f"{seed}/{example.question}/{example.trace}").shuffle(places)
    return places


def evenly(_: nn.Module, example: Example, __: int) -> list[int]:
    """Places so that whatever number is deleted is spread evenly: by the van der Corput sequence.

    The base-2 radical inverse of 0, 1, 2, ... visits a half, then quarters, then eighths.
    """
    n = len(example.trace)
    places: dict[int, None] = {}
    step = 1
    while len(places) < n:
        places[min(n - 1, int(_radical_inverse(step) * n))] = None
        step += 1
    return list(places)


def from_the_end(_: nn.Module, example: Example, __: int) -> list[int]:
    """The last place first."""
    return list(range(len(example.trace)))[::-1]


def by_surprisal(model: nn.Module, example: Example, __: int) -> list[int]:
    """The least surprising place first."""
    return _ascending(surprisal_and_entropy(model, example)[0])


def by_entropy(model: nn.Module, example: Example, __: int) -> list[int]:
    """The place where the model was least uncertain first."""
    return _ascending(surprisal_and_entropy(model, example)[1])


def by_importance(model: nn.Module, example: Example, __: int) -> list[int]:
    """The place whose embedding matters least to the answer's log-probability first."""
    net: Any = model
    row = [*example.question, *example.trace, *example.close, *example.answer]
    ids = torch.tensor([row])
    embedded = net.get_input_embeddings()(ids).detach().requires_grad_(True)
    logits = net(inputs_embeds=embedded, use_cache=False).logits[0, :-1].float()
    picked = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    (gradient,) = torch.autograd.grad(picked[-len(example.answer) :].sum(), embedded)
    start = len(example.question)
    effect = (gradient * embedded)[0, start : start + len(example.trace)].sum(dim=1).abs()
    return _ascending(effect.detach())


def surprisal_and_entropy(model: nn.Module, example: Example) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each place of the trace, in nats: -log P(token), and the entropy of what was expected."""
    ids = torch.tensor([[*example.question, *example.trace]])
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0]
    start = len(example.question)
    logprob = torch.log_softmax(logits[start - 1 : -1].float(), dim=-1)
    surprisal = -logprob.gather(1, ids[0, start:, None])[:, 0]
    return surprisal, -(logprob.exp() * logprob).sum(dim=1)


ORDERS: Mapping[str, Order] = {
    "random": shuffled,
    "uniform": evenly,
    "truncation": from_the_end,
    "surprisal": by_surprisal,
    "entropy": by_entropy,
    "importance": by_importance,
}


def _ascending(values: torch.Tensor) -> list[int]:
    return [int(place) for place in torch.argsort(values, stable=True)]


def _radical_inverse(n: int) -> float:
    value, place = 0.0, 0.5
    while n:
        value += place * (n & 1)
        n >>= 1
        place /= 2
    return value
