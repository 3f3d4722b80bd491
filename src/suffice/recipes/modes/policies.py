"""The gateway's policies on the same kind of problems, beside the routers that pick a mode.

Every problem is sampled several times from the model as it is, once in each forced mode, and once
more for what is calibrated; the policies are replayed over these samples by the executor that also
answers live. Tokens count the whole response, control token included, as in the routers' table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from suffice.backends.nano.backend import NAME, NanoBackend
from suffice.core.arrays import FloatArray
from suffice.core.completions import count_tokens_only
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, NothingFeasible
from suffice.core.requests import Sampling
from suffice.evals.datasets import Item
from suffice.evals.traces.memory import set_of
from suffice.evals.traces.trace_set import Trace, TraceSet
from suffice.policies.policy_of_file import certified_policy
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.config import COMPLETIONS_ALONE, CalibrateConfig
from suffice.recipes.calibrate.run import calibrate
from suffice.recipes.frontier.measure import measure
from suffice.recipes.modes.evaluate import Estimate, PolicyResult, resampled_weights
from suffice.recipes.modes.items import answer_format_of, item_of
from suffice.recipes.record.config import RecordConfig
from suffice.recipes.record.run import collect
from suffice.recipes.recordings import Source
from suffice.tasks.puzzles import Mixture, Problem

SHORT_MODEL, THINK_MODEL = f"{NAME}-short", f"{NAME}-think"
DATASET = "modes"
MAX_DROP = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """How policies are compared: `samples` of the free mode a problem, at this temperature."""

    samples: int = 8
    temperature: float = 1.0
    max_tokens: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 3:
            raise InputError(f"a vote takes 3 samples or more, got {self.samples}")

    @property
    def policies(self) -> dict[str, str]:
        """Policies by the name that the table gives them."""
        k = self.samples
        return {
            f"self-consistency@{k}": f"self_consistency:samples={k}@{NAME}",
            f"adaptive-consistency@{k}": f"adaptive_consistency:max_samples={k}@{NAME}",
            # DART's first stage (arXiv:2606.23181): two drafts, a thought where they differ.
            "two short drafts agree": (
                f"self_consistency:samples=2,accept=1@{SHORT_MODEL} > single@{THINK_MODEL}"
            ),
            "cascade, low confidence": f"single:accept=.9@{SHORT_MODEL} > single@{THINK_MODEL}",
            "cascade, disagreement": (
                f"adaptive_consistency:max_samples=3,threshold=.9,accept=.9@{SHORT_MODEL}"
                f" > single@{THINK_MODEL}"
            ),
        }


def policy_results(
    folder: Path, problems: Sequence[Problem], others: Sequence[Problem], sampled: Sampled
) -> tuple[PolicyResult, ...]:
    """Every policy on `problems`; the certified one is calibrated on `others`.

    Where nothing can be certified, its row says why instead of figures.
    """
    traces = asyncio.run(_recorded(folder, problems, sampled))
    cells = sorted({(problem.task, problem.difficulty) for problem in problems})
    # A set's questions come in the order in which their samples ended.
    places = {
        item_of(p, DATASET).question.name: cells.index((p.task, p.difficulty)) for p in problems
    }
    cell = np.array([places[question.name] for question in traces.questions])
    weight = 1.0 / np.bincount(cell)[cell] / len(cells)
    weights = resampled_weights(cell, np.random.default_rng(sampled.seed))
    think = _played("", parse_policy(f"single@{THINK_MODEL}"), traces)
    found = [
        _result(name, _played(name, parse_policy(text), traces), think, weight, weights)
        for name, text in sampled.policies.items()
    ]
    name = f"certified, at most {100 * MAX_DROP:g} points lost"
    try:
        policy = _certified(folder, others, sampled)
    except (InputError, NothingFeasible) as error:
        return (*found, PolicyResult(policy=name, refused=str(error)))
    return (*found, _result(name, _played(name, policy, traces), think, weight, weights))


def _items(problems: Sequence[Problem]) -> list[Item]:
    answer_format = answer_format_of(problems)
    return [item_of(problem, DATASET, answer_format) for problem in problems]


async def _recorded(folder: Path, problems: Sequence[Problem], sampled: Sampled) -> TraceSet:
    """Free samples, short ones and a thought one of every problem."""
    backend = NanoBackend(folder, name=NAME)
    items = _items(problems)
    counts = {NAME: sampled.samples, SHORT_MODEL: 3, THINK_MODEL: 1}
    return set_of(
        [t for model, n in counts.items() for t in await _arm(backend, items, model, n, sampled)]
    )


async def _arm(
    backend: NanoBackend, items: Sequence[Item], model: str, samples: int, sampled: Sampled
) -> list[Trace]:
    sampling = Sampling(
        temperature=sampled.temperature, max_tokens=sampled.max_tokens, top_logprobs=0,
        seed=sampled.seed,
    )  # fmt: skip
    traces = await collect(
        items, backend, RecordConfig(samples=samples, model=model, sampling=sampling)
    )
    if model == NAME:
        return traces
    # A forced mode's token is in the prompt: it is counted where the others have it.
    return [replace(t, completion_tokens=(t.completion_tokens or 0) + 1) for t in traces]


@dataclass(frozen=True, slots=True)
class _Played:
    right: FloatArray
    tokens: FloatArray
    samples: FloatArray


def _played(name: str, policy: AnyPolicy, traces: TraceSet) -> _Played:
    found = measure(
        name, policy, Source(traces), range(len(traces.questions)), cost_model=count_tokens_only
    )
    return _Played(found.correct, found.tokens, found.samples)


def _result(
    name: str, played: _Played, think: _Played, weight: FloatArray, weights: FloatArray
) -> PolicyResult:
    def estimate(mean: float, resampled: FloatArray) -> Estimate:
        low, high = np.percentile(resampled, [2.5, 97.5])
        return Estimate(mean=mean, low=float(low), high=float(high))

    share = (weights @ played.tokens) / (weights @ think.tokens)
    return PolicyResult(
        policy=name,
        accuracy=estimate(float(weight @ played.right), weights @ played.right),
        tokens=estimate(float(weight @ played.tokens), weights @ played.tokens),
        token_share=estimate(float((weight @ played.tokens) / (weight @ think.tokens)), share),
        samples=float(weight @ played.samples),
    )


def _certified(folder: Path, problems: Sequence[Problem], sampled: Sampled) -> AnyPolicy:
    traces = asyncio.run(_forced(folder, problems, sampled))
    found = calibrate(
        traces,
        CalibrateConfig(
            max_drop=MAX_DROP,
            baseline=f"single@{THINK_MODEL}",
            options=(f"single@{SHORT_MODEL}",),
            seed=sampled.seed,
            prices=COMPLETIONS_ALONE,
        ),
    )
    return certified_policy(found.file, parse_policy)


async def _forced(folder: Path, problems: Sequence[Problem], sampled: Sampled) -> TraceSet:
    backend = NanoBackend(folder, name=NAME)
    items = _items(problems)
    models = (SHORT_MODEL, THINK_MODEL)
    return set_of([t for model in models for t in await _arm(backend, items, model, 1, sampled)])


def asked_and_calibrating(
    mixture: Mixture, count: int, seed: int
) -> tuple[list[Problem], list[Problem]]:
    """`count` problems of every cell that are asked, and twice as many that calibrate.

    A cell with fewer in the world is shared out in the same proportion.
    """
    cells = mixture.distinct(3 * count, seed=seed, split="held_out").values()
    asked = [problem for cell in cells for problem in cell[::3]]
    others = [problem for cell in cells for n, problem in enumerate(cell) if n % 3]
    return asked, others
