"""`suffice tradeoff`: at equal total FLOPs, is a small model with more samples better than a large?

N parameters, D training tokens, T completion tokens per sample, S small, L large
R  inference tokens that the large model will draw in its life, over its training tokens

Training costs 6 N D FLOPs, inference 2 N per token (2408.03314, section 7). Equal totals leave the
small model k samples per question:

    k = (6 (N_L D_L - N_S D_S) + 2 N_L R D_L) / (2 N_S (T_S / T_L) R D_L)

With D_S = D_L, T_S = T_L and M = N_L / N_S it is the paper's k = M + 3 (M - 1) / R.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suffice.core.arrays import FloatArray, IntArray
from suffice.core.errors import InputError
from suffice.evals.statistics.binomial import Interval
from suffice.evals.statistics.bootstrap import ratio_interval
from suffice.evals.statistics.ranking import pass_at_k
from suffice.evals.traces.trace_set import TraceSet
from suffice.recipes.calibrate.prepare import complete
from suffice.recipes.recordings import WholeSource

SHUFFLES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A model with what its training took."""

    model: str
    parameters: float
    training_tokens: float

    def __post_init__(self) -> None:
        if not (self.parameters > 0 and self.training_tokens > 0):
            raise InputError(
                f"parameters and training tokens of {self.model} must be positive, got "
                f"{self.parameters:g} and {self.training_tokens:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One difficulty bin at one R. Differences are small minus large, intervals by question."""

    ratio: float
    bin: int  # 1: easiest
    n: int
    samples: int  # k, as far as samples were recorded
    affordable: float  # k by the formula
    large: float
    vote: float  # small model, majority of k
    covered: float  # small model, at least one of k right: a perfect verifier's accuracy
    vote_gain: Interval
    verifier_gain: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Tradeoff:
    """All bins at all ratios."""

    small: TrainedModel
    large: TrainedModel
    cells: tuple[Cell, ...]
    recorded: int  # samples of the small model left to evaluate with
    held_out: bool  # difficulty was told by other samples than those that are evaluated
    tokens: tuple[float, float]  # completion tokens per sample, small and large


def affordable_samples(
    small: TrainedModel, large: TrainedModel, ratio: float, tokens_ratio: float = 1.0
) -> float:
    """Samples per question that equal total FLOPs leave the small model; `tokens_ratio` = T_S/T_L.

    Below 1 its training alone costs more than everything that the large model will ever do.
    """
    if not ratio > 0.0:
        raise InputError(f"the ratio of inference to training tokens must be positive, got {ratio}")
    drawn = ratio * large.training_tokens
    training = 6.0 * (
        large.parameters * large.training_tokens - small.parameters * small.training_tokens
    )
    return (training + 2.0 * large.parameters * drawn) / (
        2.0 * small.parameters * tokens_ratio * drawn
    )


def tradeoff(
    traces: TraceSet, small: TrainedModel, large: TrainedModel, ratios: Sequence[float], *,
    bins: int = 5, seed: int = 0,
) -> Tradeoff:  # fmt: skip
    """Where extra inference of the small model beats the large one.

    Half of the small model's samples (of 8 or more) tell a question's difficulty, the others are
    evaluated: telling it from the same samples would favour the small model on easy bins.
    """
    recorded = WholeSource(traces)
    for each in (small, large):
        if each.model not in traces.models:
            raise InputError(
                f"model {each.model!r} is not in the traces; they hold {', '.join(traces.models)}"
            )
    arms = recorded.arm(small.model), recorded.arm(large.model)
    questions = complete(traces, (small.model, large.model))
    if len(questions) < bins:
        raise InputError(f"{len(questions)} questions cannot fill {bins} bins of difficulty")
    count = int(traces.count[questions, arms[0]].min())
    held_out = count >= 8
    told = count // 2 if held_out else count
    rows = [_rows(traces, int(q), arms[0], seed)[:count] for q in questions]
    easy = np.array([traces.correct[r[:told]].mean() for r in rows])
    used = [r[told:] if held_out else r for r in rows]
    large_right = np.array(
        [traces.correct[_rows(traces, int(q), arms[1], seed)].mean() for q in questions]
    )
    if np.isnan(easy).any() or np.isnan(large_right).any():
        raise InputError("some samples have no verdict (column correct): judge them first")
    bin_of = _bins(easy, bins, seed)
    lengths = tuple(_mean_tokens(traces, arm) for arm in arms)
    ratio_of_tokens = lengths[0] / lengths[1] if all(map(np.isfinite, lengths)) else 1.0
    most = len(used[0])
    cells = []
    for ratio in ratios:
        k = affordable_samples(small, large, ratio, ratio_of_tokens)
        taken = int(max(0, min(most, np.floor(k + 1e-9))))
        votes, covered = _accuracies(traces, used, taken, seed)
        for number in range(bins):
            inside = bin_of == number
            cells.append(
                _cell(number + 1, inside, (large_right, votes, covered), ratio, (taken, k), seed)
            )
    return Tradeoff(
        small=small,
        large=large,
        cells=tuple(cells),
        recorded=most,
        held_out=held_out,
        tokens=(lengths[0], lengths[1]),
    )


def _rows(traces: TraceSet, question: int, arm: int, seed: int) -> IntArray:
    """Rows of a question under an arm in an order of their own."""
    rows = traces.rows(question, arm)
    generator = np.random.default_rng((seed, question, arm))
    return generator.permutation(np.arange(rows.start, rows.stop)).astype(np.int64)


def _bins(easy: FloatArray, bins: int, seed: int) -> IntArray:
    """Bins of equal size from easy (0) to hard; ties are broken at random."""
    noise = np.random.default_rng(seed).random(len(easy))
    order = np.lexsort((noise, -easy))
    found = np.empty(len(easy), dtype=np.int64)
    found[order] = np.arange(len(easy)) * bins // len(easy)
    return found


def _mean_tokens(traces: TraceSet, arm: int) -> float:
    inside = traces.completion_tokens[traces.arm == arm]
    return float(inside.mean())


def _accuracies(
    traces: TraceSet, rows: Sequence[IntArray], k: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """(accuracy of a vote of k, chance that one of k is right) per question."""
    votes, covered = np.zeros(len(rows)), np.zeros(len(rows))
    if k == 0:
        return votes, covered
    for i, listed in enumerate(rows):
        right = traces.correct[listed]
        covered[i] = pass_at_k(int(right.sum()), len(listed), k)
        generator = np.random.default_rng((seed, i))
        for _ in range(SHUFFLES):
            chosen = generator.permutation(listed)[:k]
            codes = traces.answer[chosen]
            codes = codes[codes >= 0]
            if codes.size:
                names, first, counts = np.unique(codes, return_index=True, return_counts=True)
                best = names[np.lexsort((first, -counts))[0]]
                votes[i] += traces.correct[chosen[traces.answer[chosen] == best][0]]
    return votes / SHUFFLES, covered


def _cell(  # noqa: PLR0917 - one caller
    number: int, inside: NDArray[np.bool_], values: tuple[FloatArray, FloatArray, FloatArray],
    ratio: float, counts: tuple[int, float], seed: int,
) -> Cell:  # fmt: skip
    large, votes, covered = (each[inside] for each in values)
    ones = np.ones(len(large))
    return Cell(
        ratio=ratio,
        bin=number,
        n=int(inside.sum()),
        samples=counts[0],
        affordable=counts[1],
        large=float(large.mean()),
        vote=float(votes.mean()),
        covered=float(covered.mean()),
        vote_gain=ratio_interval(votes - large, ones, seed=seed),
        verifier_gain=ratio_interval(covered - large, ones, seed=seed),
    )
