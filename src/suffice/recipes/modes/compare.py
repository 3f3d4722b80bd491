"""Both modes of any model on the same questions, and the rules that choose between them.

A question was answered at once and after thinking; a rule picks one of the two answers, or pays for
more than one. Every rule that is fitted (a threshold, a regression, a gate) was fitted on other
questions than those it chooses for. Reward of an answer: 1 if right, less the token price for each
token. Intervals are bootstraps over questions, differences are paired by question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.core.errors import InputError
from suffice.recipes.modes.evaluate import Cell, Estimate, wilson
from suffice.recipes.modes.simple_routers import (
    auroc_at_equal_length,
    length_rule,
    regression,
    threshold_rule,
)

FOLDS = 5
_RESAMPLES = 2000
_AUROC_RESAMPLES = 300
UNSURE = "short, then think if unsure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """Two short answers drawn at random: whether they agree, whether the first is right."""

    agree: bool
    right: float
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question in both modes; rights and tokens are means where a mode was asked more often.

    `short_surprise` is -log P of the short answer under the model, None where it is not known.
    """

    cell: Cell
    prompt: str
    short_right: float
    short_tokens: float
    think_right: float
    think_tokens: float
    short_surprise: float | None = None
    drafts: Drafts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCell:
    """One task at one difficulty."""

    task: str
    difficulty: int
    questions: int
    short_right: Estimate
    think_right: Estimate
    short_tokens: float
    think_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a rule came to; `leads_by` is the leading rule's reward minus its own, paired."""

    rule: str
    right: Estimate
    tokens: Estimate
    token_share: Estimate  # of always-think's tokens
    thinks: float | None  # None: it chooses between no two modes
    reward: Estimate
    leads_by: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that is printed and written; `lead` names the rule that the others are held to."""

    questions: int
    token_price: float
    lead: str | None
    cells: tuple[AskedCell, ...]
    rules: tuple[Rule, ...]
    # By score: AUROC for "the short answer is wrong", over pairs of one task and equal length.
    auroc_at_equal_length: dict[str, Estimate]


def parts(count: int, *, folds: int = FOLDS, seed: int = 0) -> FloatArray:
    """Which of `folds` parts each question is in; as equal as can be, at random."""
    if count < 2 * folds:
        raise InputError(f"{count} questions are too few to fit and test on: give {2 * folds}")
    part = np.random.default_rng(seed).permutation(count) % folds
    return part.astype(float)


def gains(asked: Sequence[Asked], token_price: float) -> FloatArray:
    """Reward of the thought answer minus that of the short one, (questions,)."""
    return np.array([
        (a.think_right - a.short_right) - token_price * (a.think_tokens - a.short_tokens)
        for a in asked
    ])  # fmt: skip


def compare(
    asked: Sequence[Asked],
    *,
    token_price: float,
    scores: Mapping[str, FloatArray] | None = None,
    others: Mapping[str, tuple[FloatArray, FloatArray]] | None = None,
    seed: int = 0,
) -> Comparison:
    """Every rule on the same questions.

    `scores` are log odds of thinking by the name of who gives them, each fitted on other questions
    already; the first of them is the one that leads. `others` are more arms by name: whether each
    question's answer is right, and its tokens.
    """
    part = parts(len(asked), seed=seed)
    picked = _rules(asked, token_price, dict(scores or {}), part)
    for name, (right, tokens) in (others or {}).items():
        picked[name] = (right, tokens, None)
    lead = next(iter(scores or {}), None)
    rng = np.random.default_rng(seed)
    n = len(asked)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES) / n
    return Comparison(
        questions=n, token_price=token_price, lead=lead, cells=_cells(asked),
        rules=tuple(_table(picked, lead, token_price, weights)),
        auroc_at_equal_length=_aurocs(asked, dict(scores or {}), weights[:_AUROC_RESAMPLES]),
    )  # fmt: skip


Picked = tuple[FloatArray, FloatArray, float | None]


def _rules(
    asked: Sequence[Asked], token_price: float, scores: dict[str, FloatArray], part: FloatArray
) -> dict[str, Picked]:
    """(right, tokens, share that thinks) of every rule, by question."""
    n = len(asked)
    right = np.array([[a.short_right, a.think_right] for a in asked])
    tokens = np.array([[a.short_tokens, a.think_tokens] for a in asked])
    prompts, even = [a.prompt for a in asked], np.full(n, 1 / n)
    gain = gains(asked, token_price)

    def pick(thinks: FloatArray) -> Picked:
        rows, column = np.arange(n), (thinks > 0.5).astype(int)
        return right[rows, column], tokens[rows, column], float(thinks.mean())

    found = {"always-short": pick(np.zeros(n)), "always-think": pick(np.ones(n))}
    found |= {name: pick((score > 0).astype(float)) for name, score in scores.items()}
    found["prompt-length rule"] = pick(length_rule(prompts, gain, even, part))
    found["regression on the prompt"] = pick(regression(prompts, gain, even, part))
    surprise = _surprise(asked)
    if surprise is not None:
        # The short answer is paid for before it is known how sure it is.
        dearer = gain - token_price * tokens[:, 0]
        thinks = threshold_rule(surprise, dearer, even, part)
        hits, spent, share = pick(thinks)
        found[UNSURE] = (hits, spent + thinks * tokens[:, 0], share)
    drafts = [a.drafts for a in asked if a.drafts is not None]
    if len(drafts) == n:
        agree = np.array([d.agree for d in drafts])
        spent = np.array([d.tokens for d in drafts]) + np.where(agree, 0.0, tokens[:, 1])
        hits = np.where(agree, [d.right for d in drafts], right[:, 1])
        found["two short drafts agree"] = (hits, spent, float(1 - agree.mean()))
    found["best of both, known afterwards"] = pick((gain > 0).astype(float))
    return found


def _surprise(asked: Sequence[Asked]) -> FloatArray | None:
    known = [a.short_surprise for a in asked if a.short_surprise is not None]
    return np.array(known) if len(known) == len(asked) else None


def _table(
    picked: Mapping[str, Picked], lead: str | None, token_price: float, weights: FloatArray
) -> list[Rule]:
    n = weights.shape[1]
    even = np.full(n, 1 / n)
    always = picked["always-think"][1]

    def worth(name: str) -> FloatArray:
        right, tokens, _ = picked[name]
        return right - token_price * tokens

    def estimate(values: FloatArray, over: FloatArray | None = None) -> Estimate:
        by = np.ones(n) if over is None else over
        low, high = np.percentile((weights @ values) / (weights @ by), [2.5, 97.5])
        mean = float(even @ values) / float(even @ by)
        return Estimate(mean=mean, low=float(low), high=float(high))

    return [
        Rule(
            rule=name, right=estimate(right), tokens=estimate(tokens),
            token_share=estimate(tokens, always), thinks=thinks, reward=estimate(worth(name)),
            leads_by=None if lead in (None, name) else estimate(worth(str(lead)) - worth(name)),
        )
        for name, (right, tokens, thinks) in picked.items()
    ]  # fmt: skip


def _cells(asked: Sequence[Asked]) -> tuple[AskedCell, ...]:
    found = []
    for cell in sorted({a.cell for a in asked}):
        mine = [a for a in asked if a.cell == cell]
        n = len(mine)
        found.append(
            AskedCell(
                task=cell[0],
                difficulty=cell[1],
                questions=n,
                short_right=wilson(sum(a.short_right for a in mine), n),
                think_right=wilson(sum(a.think_right for a in mine), n),
                short_tokens=sum(a.short_tokens for a in mine) / n,
                think_tokens=sum(a.think_tokens for a in mine) / n,
            )
        )
    return tuple(found)


def _aurocs(
    asked: Sequence[Asked], scores: Mapping[str, FloatArray], weights: FloatArray
) -> dict[str, Estimate]:
    surprise = _surprise(asked)
    told = dict(scores) if surprise is None else {**scores, "short answer's surprise": surprise}
    texts, tasks = [a.prompt for a in asked], [a.cell[0] for a in asked]
    wrong = np.array([1.0 - (a.short_right > 0.5) for a in asked])
    even = np.full((1, len(asked)), 1 / len(asked))
    found = {}
    for name, score in told.items():
        mean = auroc_at_equal_length(texts, tasks, score, wrong, even)
        drawn = auroc_at_equal_length(texts, tasks, score, wrong, weights)
        if mean is not None and drawn is not None:
            low, high = np.percentile(drawn, [2.5, 97.5])
            found[name] = Estimate(mean=float(mean[0]), low=float(low), high=float(high))
    return found
