"""What a policy gets and spends on recorded samples: accuracy, tokens, FLOPs, GPU time, money."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from suffice.backends.protocol import Chunk
from suffice.core.completions import Completion, Cost, CostModel, Usage
from suffice.core.decisions import Answer, AnyPolicy
from suffice.core.errors import InputError, NoAnswer
from suffice.executors.replay import replay
from suffice.executors.running import Launch
from suffice.recipes.calibrate.play import Recorded, is_right, play_one

FloatArray = NDArray[np.float64]

AXES = ("tokens", "flops", "gpu_s", "usd")
CHUNK_TOKENS = 64


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Measured:
    """Means over shuffles, one entry per question; an axis is NaN where its cost is not known."""

    policy: str
    correct: FloatArray
    samples: FloatArray
    tokens: FloatArray  # completion tokens
    flops: FloatArray
    gpu_s: FloatArray
    usd: FloatArray

    def axis(self, name: str) -> FloatArray:
        """Cost per question on an axis."""
        found: FloatArray = getattr(self, name)
        return found

    def known(self, name: str) -> bool:
        """Whether an axis is known for every question."""
        return bool(np.isfinite(self.axis(name)).all())


def measure(
    text: str, policy: AnyPolicy, recorded: Recorded, questions: Iterable[int], *,
    cost_model: CostModel, shuffles: int = 1, seed: int = 0,
) -> Measured:  # fmt: skip
    """A policy on each question, each of `shuffles` times with its samples in another order.

    The first sample of a model pays its prompt; later ones find it in the prefix cache.
    """
    chosen = [int(question) for question in questions]
    cost_of = lru_cache(maxsize=None)(cost_model)
    whole = "logprobs" not in policy.needs
    if not whole and not recorded.traces.confidences.lengths.any():
        raise InputError(
            f"policy {text} reads token confidences, which these traces do not have: record with "
            "--top-logprobs 20"
        )
    sums = np.zeros((len(chosen), 6))
    for shuffle in range(shuffles):
        for i, question in enumerate(chosen):
            one = _whole if whole else _by_token
            right, usages = one(policy, recorded, question, (seed, shuffle))
            cost = Cost()
            for model, usage in usages:
                cost += cost_of(model, usage)
            tokens = sum(usage.completion_tokens for _, usage in usages)
            # Engines that price nothing, or a model without a price, leave an axis unknown.
            complete = [cost_of(model, usage) for model, usage in usages]
            sums[i] += (
                right,
                len(usages),
                tokens,
                _sum([each.flops for each in complete]),
                _sum([each.gpu_s for each in complete]),
                _sum([each.usd for each in complete]),
            )
    means = sums / shuffles
    return Measured(
        policy=text,
        correct=means[:, 0],
        samples=means[:, 1],
        tokens=means[:, 2],
        flops=means[:, 3],
        gpu_s=means[:, 4],
        usd=means[:, 5],
    )


def _sum(values: Sequence[float | None]) -> float:
    """Sum, NaN if anything is unknown."""
    return float("nan") if any(value is None for value in values) else float(
        sum(value or 0.0 for value in values)
    )  # fmt: skip


Spent = list[tuple[str, Usage]]


def _whole(
    policy: AnyPolicy, recorded: Recorded, question: int, seeds: tuple[int, int]
) -> tuple[bool, Spent]:
    run, verdict = play_one(policy, recorded, question, seeds[0] * 1000 + seeds[1])
    number = verdict.sample if isinstance(verdict, Answer) else verdict.best
    right = number is not None and is_right(recorded.traces, run.row_of[number])
    return right, _cached([(model, usage_of(recorded, row)) for model, row in run.drawn])


def _cached(spent: Spent) -> Spent:
    """The same with prompts found in the cache from a model's second sample on."""
    seen: set[str] = set()
    found: Spent = []
    for model, usage in spent:
        cached = usage.prompt_tokens if model in seen else 0
        seen.add(model)
        found.append(
            (
                model,
                Usage(
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    cached_tokens=cached,
                ),
            )
        )
    return found


def usage_of(recorded: Recorded, row: int) -> Usage:
    """Tokens of a recorded row; raises InputError where the recording does not count them."""
    traces = recorded.traces
    tokens, prompt = traces.completion_tokens[row], traces.prompt_tokens[row]
    if np.isnan(tokens):
        raise InputError("these traces count no completion tokens: a frontier needs them")
    return Usage(
        prompt_tokens=0 if np.isnan(prompt) else int(prompt), completion_tokens=int(tokens)
    )


def _by_token(
    policy: AnyPolicy, recorded: Recorded, question: int, seeds: tuple[int, int]
) -> tuple[bool, Spent]:
    """Through the executor, chunk by chunk, so that traces can be stopped on the way."""
    generator = np.random.default_rng((*seeds, question))
    orders: dict[str, deque[int]] = {}
    rows: dict[int, int] = {}
    traces = recorded.traces

    def recording(launch: Launch) -> Sequence[Chunk]:
        order = orders.get(launch.model)
        if order is None:
            listed = recorded.rows(question, launch.model)
            shuffled = generator.permutation(np.arange(listed.start, listed.stop))
            order = orders[launch.model] = deque(shuffled.tolist())
        if not order:
            raise InputError(
                f"{policy.name} draws more samples of {launch.model} than were recorded: lower "
                "its max_samples"
            )
        row = rows[launch.sample] = order.popleft()
        return chunks_of(recorded, row)

    def extract(completion: Completion) -> str | None:
        return completion.text or None

    try:
        outcome = replay(policy, recorded.request(question), recording, extract=extract)
    except NoAnswer:
        return False, []
    fixed = []
    for record in outcome.records:
        # A sample that was cancelled before its end has no usage: its prompt is the recorded one.
        prompt = usage_of(recorded, rows[record.sample]).prompt_tokens
        drawn = record.usage.completion_tokens
        fixed.append((record.model, Usage(prompt_tokens=prompt, completion_tokens=drawn)))
    return is_right(traces, rows[outcome.sample]), _cached(fixed)


def chunks_of(recorded: Recorded, row: int) -> list[Chunk]:
    """A recorded sample as a stream of its confidences; the answer comes with the last chunk."""
    traces = recorded.traces
    usage = usage_of(recorded, row)
    levels = np.asarray(traces.confidences.row(row), dtype=np.float64)
    levels = levels[np.isfinite(levels)]
    found = []
    for start in range(0, usage.completion_tokens, CHUNK_TOKENS):
        count = min(CHUNK_TOKENS, usage.completion_tokens - start)
        piece = tuple(levels[start : start + count].tolist())
        found.append(Chunk(token_count=count, confidences=piece))
    answer = traces.answer_of(row) or ""
    return [*found, Chunk(text=answer, token_count=0, finish_reason="stop", usage=usage)]
