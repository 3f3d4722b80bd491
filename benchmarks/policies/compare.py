"""Policies of 2026 on the same traces: against the budget sweep, fixed tiers and shuffled controls.

    python benchmarks/policies/compare.py --out results/policies/compared.json      # 8 minutes

efforts    one small model at both efforts, in full and in four-bit precision, 696 puzzles
programs   SmolLM2-135M in words and by one-line programs, 75 questions
live       MARS and DeepConf, whose probes no recording can play, on the model of `efforts` itself

Tokens are completion tokens of everything drawn, probes included. *sweep*: accuracy above what
mixing fixed settings at random buys for the same tokens (one sample of every arm, and plain votes
of 3, 5, 8, … of every arm: the budget sweep and the fixed tiers). *control*: above the policy's own
shuffled control. Intervals are of 95 %, whole questions resampled together.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from suffice.backends.nano.backend import NanoBackend
from suffice.core.completions import count_tokens_only
from suffice.core.files import read_json, write_json
from suffice.core.requests import Message, Request, Sampling
from suffice.evals.extract import extractor
from suffice.evals.router_metrics import non_decreasing_hull
from suffice.evals.statistics.bootstrap import percentile_interval, question_weights
from suffice.evals.traces.files import of_questions, read_traces, trace_set
from suffice.evals.traces.trace_set import TraceSet
from suffice.executors.live import run
from suffice.policies.mars import MarginStop
from suffice.policies.registry import parse_policy
from suffice.recipes.frontier.measure import measure
from suffice.recipes.recordings import Source

DRAWS, SHUFFLES, SEED = 2_000, 3, 0
CONFIDENCE = 0.95
VOTES = (3, 5, 8, 16, 24, 40)
SHORT, THINK = "small-short", "small-think"
DART = f"dart:switch=no,draft_model={SHORT},think_model={THINK}"
EFFORTS = {
    "DART, 2 drafts": DART,
    "DART, 3 drafts": f"{DART},drafts=3",
    "the model's own choice": "single@small",
    "effort cascade, p ≥ .8": f"single:accept=.8@{SHORT} > single@{THINK}",
    "effort cascade, p ≥ .95": f"single:accept=.95@{SHORT} > single@{THINK}",
    "two of four-bit agree, else full": (
        "self_consistency:samples=2,accept=1@small-4bit-think > single@small-think"
    ),
    "four-bit and full agree, else vote of 8": (
        f"agreement:models=small-4bit-think+{THINK} > self_consistency:samples=8@{THINK}"
    ),
    "CITE, level .05": f"cite:max_samples=24@{THINK}",
    "Adaptive-Consistency, .95": f"adaptive_consistency:max_samples=24,scatter=none@{THINK}",
    "ESC, window 5": f"esc:max_samples=24@{THINK}",
    "DeepConf online, keep .9": f"deepconf:max_samples=24,warmup=8@{THINK}",
}
WORDS, PROGRAM = "SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct-program"
PROGRAMS = {
    "CoT-PoT, 16 samples at most": f"cot_pot:max_samples=16,program_model={PROGRAM}@{WORDS}",
    "words alone, Adaptive-Consistency": (
        f"adaptive_consistency:max_samples=16,scatter=none@{WORDS}"
    ),
    "programs alone, Adaptive-Consistency": (
        f"adaptive_consistency:max_samples=16,scatter=none@{PROGRAM}"
    ),
}


def mars(**options: Any) -> MarginStop:
    """MARS as this model is probed: its alphabet has no "Final answer:", the block's end asks."""
    return MarginStop(
        chunk=5, probe="</think>", think_open="<think>", think_close="", probe_tokens=1, **options
    )


LIVE = {
    "vote of 64": parse_policy("self_consistency:samples=64"),
    "MARS on the vote": mars(on="votes", consensus=1.0),
    "MARS on the vote, γ = 1": mars(on="votes", consensus=1.0, gamma=1.0),
    "DeepConf online, stop at unanimity": parse_policy("deepconf:consensus=1,parallel=64"),
    "MARS on DeepConf, stop at unanimity": mars(consensus=1.0),
    "DeepConf online": parse_policy("deepconf:parallel=64"),
    "MARS on DeepConf": mars(),
    "Adaptive-Consistency, .95": parse_policy("adaptive_consistency:max_samples=64,scatter=none"),
    "one sample": parse_policy("single"),
    "vote of 3": parse_policy("self_consistency:samples=3"),
    "vote of 8": parse_policy("self_consistency:samples=8"),
    "vote of 16": parse_policy("self_consistency:samples=16"),
}
FIXED = ("one sample", "vote of 3", "vote of 8", "vote of 16", "vote of 64")


@dataclass(frozen=True)
class Played:
    """A policy's right answers and tokens by question, and its shuffled control's right answers."""

    name: str
    right: np.ndarray
    tokens: np.ndarray
    samples: np.ndarray
    control: np.ndarray | None = None


def plays(traces: TraceSet, policies: dict[str, str], questions: np.ndarray) -> list[Played]:
    """Every policy, replayed over all questions in three orders of their samples."""
    source, found = Source(traces), []
    for name, text in policies.items():
        got = measure(
            text, parse_policy(text), source, questions.tolist(),
            cost_model=count_tokens_only, shuffles=SHUFFLES, seed=SEED,
        )  # fmt: skip
        found.append(Played(name, got.correct, got.tokens, got.samples, got.control))
    return found


def fixed_tiers(traces: TraceSet, questions: np.ndarray) -> dict[str, str]:
    """One sample of every arm, and plain votes of as many as were recorded."""
    found = {}
    for number, arm in enumerate(traces.arms):
        most = int(traces.count[questions, number].min())
        found[f"one sample of {arm.model}"] = f"single@{arm.model}"
        found |= {
            f"vote of {k} of {arm.model}": f"self_consistency:samples={k}@{arm.model}"
            for k in VOTES
            if k <= most
        }
    return found


def rows(policies: Sequence[Played], fixed: Sequence[Played]) -> list[dict[str, Any]]:
    """Figures of each policy against the fixed settings, questions resampled together."""
    n = len(policies[0].right)
    weights = question_weights(n, DRAWS, SEED)
    costs = np.stack([weights @ each.tokens / n for each in fixed], axis=1)
    rights = np.stack([weights @ each.right / n for each in fixed], axis=1)
    here = [(float(each.tokens.mean()), float(each.right.mean())) for each in fixed]
    found = []
    for each in policies:
        cost, right = weights @ each.tokens / n, weights @ each.right / n
        row: dict[str, Any] = {
            "policy": each.name,
            "n": n,
            "accuracy": interval(float(each.right.mean()), right),
            "tokens": interval(float(each.tokens.mean()), cost),
            "samples": float(each.samples.mean()),
            "sweep": interval(
                float(each.right.mean()) - mixed(here, float(each.tokens.mean())),
                np.array([
                    right[k] - mixed(list(zip(costs[k], rights[k], strict=True)), cost[k])
                    for k in range(0, DRAWS, 4)
                ]),
            ),
            "control": None,
        }  # fmt: skip
        if each.control is not None:
            above = each.right - each.control
            row["control"] = interval(float(above.mean()), weights @ above / n)
        found.append(row)
    return found


def interval(estimate: float, resampled: np.ndarray) -> list[float]:
    found = percentile_interval(estimate, resampled, CONFIDENCE)
    return [round(value, 4) for value in (found.estimate, found.low, found.high)]


def mixed(points: Sequence[tuple[float, float]], tokens: float) -> float:
    """Accuracy that a coin between two fixed settings buys for so many tokens."""
    costs, rights = non_decreasing_hull(
        [float(cost) for cost, _ in points], [float(right) for _, right in points]
    )
    return float(np.interp(tokens, costs, rights))


def replayed(name: str, traces: TraceSet, policies: dict[str, str]) -> dict[str, Any]:
    questions = traces.complete_questions(range(len(traces.arms)))
    fixed = plays(traces, fixed_tiers(traces, questions), questions)
    return {
        "set": name,
        "policies": rows(plays(traces, policies, questions), fixed),
        "fixed": rows(fixed, fixed),
    }


def agreements(traces: TraceSet) -> list[dict[str, Any]]:
    """How often two samples agree, and are right then: of one kind, and of two."""
    questions = traces.complete_questions(range(len(traces.arms)))
    arms = {arm.model: number for number, arm in enumerate(traces.arms)}
    n, found = len(questions), []
    weights = question_weights(n, DRAWS, SEED)
    for first, second in ((WORDS, WORDS), (PROGRAM, PROGRAM), (WORDS, PROGRAM)):
        agree, right = np.zeros(n), np.zeros(n)
        for i, question in enumerate(questions):
            a, b = (traces.rows(question, arms[each]) for each in (first, second))
            one, two = np.arange(a.start, a.stop), np.arange(b.start, b.stop)
            same = traces.answer[one][:, None] == traces.answer[two][None, :]
            same &= traces.answer[one][:, None] >= 0
            if first == second:
                same &= ~np.eye(len(one), dtype=bool)
            pairs = len(one) * (len(two) - (first == second))
            agree[i] = same.sum() / pairs
            right[i] = (same & (traces.correct[one][:, None] == 1.0)).sum() / pairs
        share = (weights @ right) / (weights @ agree)
        found.append({
            "kinds": [first, second],
            "agree": interval(float(agree.mean()), weights @ agree / n),
            "right_where_they_agree": interval(float(right.sum() / agree.sum()), share),
        })  # fmt: skip
    return found


def hesitations(folder: Path) -> dict[str, int]:
    """Recorded samples whose thinking holds one of the words that `hesitation` counts."""
    words = set(parse_policy("hesitation").words)  # type: ignore[attr-defined]
    found = {}
    for file in ("nano", "stepwise", "two-arms", "efforts"):
        traces = read_traces(folder / f"{file}.parquet")
        texts = [
            f"{thought or ''} {text or ''}".lower().split()
            for thought, text in zip(
                traces.column("reasoning_text").to_pylist(),
                traces.column("text").to_pylist(),
                strict=True,
            )
        ]
        found[file] = sum(bool(words & set(text)) for text in texts)
    return found


async def live(model: Path, traces: TraceSet, limit: int) -> dict[str, Any]:
    """Policies whose probes have to be drawn, on the model itself: every `stride`-th question."""
    backend = NanoBackend(model, name="small")
    stride = max(1, len(traces.questions) // limit)
    asked = traces.questions[::stride][:limit]
    found = []
    for name, policy in LIVE.items():
        right, tokens, samples = [], [], []
        for question in asked:
            request = Request(
                messages=(Message(role="user", content=question.prompt),),
                model=THINK,
                sampling=Sampling(temperature=1.0, max_tokens=40, seed=SEED),
                answer_format=question.answer_format,
            )
            outcome = await run(policy, request, backend, extract=extractor(question.answer_format))
            said = extractor(question.answer_format)(outcome.completion)  # type: ignore[misc]
            right.append(said == question.reference)
            tokens.append(outcome.usage.completion_tokens)
            samples.append(outcome.samples_run)
        found.append(Played(name, np.array(right, float), np.array(tokens, float),
                            np.array(samples, float)))  # fmt: skip
        print(f"  {name}: {np.mean(right):.1%}, {np.mean(tokens):.0f} tokens", flush=True)
    fixed = [each for each in found if each.name in FIXED]
    return {"set": "live", "policies": rows([e for e in found if e.name not in FIXED], fixed),
            "fixed": rows(fixed, fixed), "saved": savings(found)}  # fmt: skip


PAIRS = (
    ("MARS on the vote", "vote of 64"),
    ("MARS on the vote, γ = 1", "vote of 64"),
    ("MARS on DeepConf, stop at unanimity", "DeepConf online, stop at unanimity"),
    ("MARS on DeepConf", "DeepConf online"),
    ("DeepConf online", "vote of 64"),
    ("Adaptive-Consistency, .95", "vote of 64"),
)


def savings(found: Sequence[Played]) -> list[dict[str, Any]]:
    """Tokens saved on top of a base, and accuracy against it, paired by question."""
    by_name = {each.name: each for each in found}
    weights = question_weights(len(found[0].right), DRAWS, SEED)
    n, out = len(found[0].right), []
    for name, base in PAIRS:
        mine, theirs = by_name[name], by_name[base]
        saved = 1.0 - (weights @ mine.tokens) / (weights @ theirs.tokens)
        gain = mine.right - theirs.right
        out.append({
            "policy": name, "base": base,
            "saved": interval(1.0 - float(mine.tokens.sum() / theirs.tokens.sum()), saved),
            "gain": interval(float(gain.mean()), weights @ gain / n),
        })  # fmt: skip
    return out


def with_programs(folder: Path) -> TraceSet:
    """Answers in words and by programs to the same questions, as two models."""
    words, programs = (read_traces(folder / f"{each}.parquet") for each in ("stepwise", "programs"))
    keys = {question.key for question in programs.questions}
    both = [n for n, question in enumerate(words.questions) if question.key in keys]
    return trace_set([*of_questions(words, both), *programs])


def show(part: dict[str, Any]) -> None:
    print(f"\n{part['set']}")
    for row in [*part["fixed"], *part["policies"]]:
        control = "" if row["control"] is None else f", control {points(row['control'])}"
        print(
            f"  {row['policy']:40} {points(row['accuracy'])} right, "
            f"{row['tokens'][0]:7.1f} tokens, {row['samples']:5.2f} samples, "
            f"sweep {points(row['sweep'])}{control}", flush=True,
        )  # fmt: skip


def points(triple: Sequence[float]) -> str:
    value, low, high = (f"{100 * each:.1f}" for each in triple)
    return f"{value} [{low}, {high}]"


PARTS = ("efforts", "programs", "live")


def played(part: str, folder: Path, model: Path, limit: int) -> dict[str, Any]:
    """The figures of one set."""
    if part == "programs":
        programs = with_programs(folder)
        return replayed(part, programs, PROGRAMS) | {"agreements": agreements(programs)}
    traces = read_traces(folder / "efforts.parquet")
    if part == "live":
        return asyncio.run(live(model, traces, limit))
    return replayed(part, traces, EFFORTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--traces", type=Path, default=Path("data/traces"))
    parser.add_argument("--model", type=Path, default=Path("data/models/efforts"))
    parser.add_argument("--live", type=int, default=87, help="questions that are asked live")
    parser.add_argument("--sets", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--out", type=Path, help="sets that are not asked for stay as they are there"
    )
    options = parser.parse_args()
    known: dict[str, Any] = {}
    if options.out and options.out.exists():
        known = {part["set"]: part for part in read_json(options.out, what="results")["sets"]}
    for name in options.sets:
        known[name] = played(name, options.traces, options.model, options.live)
        show(known[name])
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            found = {"command": "benchmarks/policies/compare.py", "seed": SEED,
                     "shuffles": SHUFFLES, "draws": DRAWS,
                     "hesitations": hesitations(options.traces),
                     "sets": [known[each] for each in PARTS if each in known]}  # fmt: skip
            write_json(options.out, found)


if __name__ == "__main__":
    main()
