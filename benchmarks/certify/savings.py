"""Savings at equal accuracy, all rules on the same votes in one run, a large model behind some.

    python benchmarks/certify/savings.py pools --out results/certify/savings.json
    python benchmarks/certify/savings.py own --out results/certify/savings-own.json

pools  greedy answers of 40 models as 40 samples of one (ZeroEval, Apache-2.0); the large model is
       kept out of the pool, and one sample of it costs --price pool samples. Random halves
       calibrate, the others test (halves.py); plain rules stand beside, untuned and uncertified.
       1.3 s of CPU a split: 15 minutes for 200. A pool is written when it is done, and pools that
       OUT holds already are kept
own    data/traces/stepwise.parquet, the set with token confidences: DeepConf's rules beside the
       others. One model was recorded there, so nothing stands behind a vote.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from halves import HalvesOf, Setup, _summary
from recorded import _trace, zeroeval

from suffice.core.files import write_json
from suffice.evals.statistics.bootstrap import ratio_interval
from suffice.evals.traces.files import read_traces, trace_set
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.registry import parse_policy
from suffice.recipes.replay.run import ReplayConfig, replay_traces

CAP = 40
LARGE = {
    "gsm": "claude-3-5-sonnet-20241022",
    "crux": "o1-mini-2024-09-12",
    "math-l5": "o1-mini-2024-09-12",
}
LIMITS = (0.001, 0.01, 0.02)


def pool_of(folder: Path, task: str, large: str) -> TraceSet:
    """The pool's answers and the large model's, on questions with enough of them.

    Without token counts: every sample costs its price, whatever its length.
    """
    questions, rows = zeroeval(folder, [task])
    traces = []
    for key, found in rows.items():
        names = [name for name in sorted(found) if name != large]
        if large in found and len(names) >= CAP:
            traces += [_trace(questions[key], found[n], "pool", i) for i, n in enumerate(names)]
            traces.append(_trace(questions[key], found[large], "large", 0))
    return trace_set(replace(trace, completion_tokens=None) for trace in traces)


def pools(folder: Path, splits: int, price: float, known: list[dict]) -> Iterator[list[dict]]:
    """All rules on three pools, a large model behind the vote: the rows of one pool after another.

    `known`: rows of an earlier run, whose pools are left out.
    """
    for task, large in LARGE.items():
        name = f"{task}, {large} behind"
        if any(row["name"] == name for row in known):
            continue
        setup = Setup(
            name=name, read=lambda f: f, dear="large", fitted=True,
            baseline=f"self_consistency:samples={CAP}@pool", limits=LIMITS, price=price,
        )  # fmt: skip
        bench = HalvesOf(setup, pool_of(folder, task, large))
        runs: dict[float, list[dict]] = {limit: [] for limit in LIMITS}
        for seed in range(splits):
            calibrated = bench.calibrated(seed)
            for limit in LIMITS:
                runs[limit].append(calibrated.at(limit))
            if seed % 20 == 19:
                print(f"{name}: {seed + 1} of {splits}", file=sys.stderr, flush=True)
        coin, rows = _coin(bench, price), []
        for limit, each in runs.items():
            rows.append(bench.facts() | {"large": large, "coin": coin})
            rows[-1] |= _summary(setup, each, limit)
            left_out = ("naive", "shown", "loses_nothing")
            print({k: v for k, v in rows[-1].items() if k not in left_out}, flush=True)
        yield rows


def _coin(bench: HalvesOf, price: float) -> dict | None:
    """A coin between one pool sample and the large model, as accurate as the whole vote."""
    right = {
        name: float(bench.ground.played(text).correct.mean())
        for name, text in (("one", "single@pool"), ("large", "single@large"),
                           ("vote", bench.ground.baseline.text))
    }  # fmt: skip
    if right["large"] <= right["vote"]:
        return None
    share = (right["vote"] - right["one"]) / (right["large"] - right["one"])
    return {"saving": 1.0 - ((1 - share) + share * price) / CAP, **right}


def _points(triple: list[float], digits: int = 1) -> str:
    value, low, high = (f"{100 * each:.{digits}f}" for each in triple)
    return f"{value} [{low}, {high}]"


def own(path: Path, draws: int) -> list[dict]:
    """Rules on the set with token confidences: tokens, accuracy, paired with Adaptive-Consistency.

    `draws` orders of the 16 samples of every question.
    """
    traces = read_traces(path)
    config = ReplayConfig(draws=draws)
    played = {
        text: replay_traces(traces, parse_policy(text), config)
        for text in (
            "self_consistency:samples=16", "adaptive_consistency:max_samples=16",
            "esc:max_samples=16", "two_sided:max_samples=16,hopeless=.25,patience=8",
            "deepconf:max_samples=16,warmup=8,parallel=4,keep=.9",
            "deepconf:max_samples=16,warmup=8,parallel=4,keep=.1",
            "deepconf_offline:samples=16,keep=.9",
        )
    }  # fmt: skip
    n = len(traces.questions)
    vote, ac = (list(played.values())[i] for i in (0, 1))

    def by_question(found, name: str) -> np.ndarray:
        questions = found.column("question").astype(int)
        return np.bincount(questions, found.column(name), n) / draws

    rows = []
    for text, found in played.items():
        tokens, right = by_question(found, "tokens"), by_question(found, "correct")
        full, base = by_question(vote, "tokens"), by_question(ac, "tokens")
        saving = ratio_interval(full - tokens, full)
        drop = ratio_interval(by_question(vote, "correct") - right, np.ones(n))
        cheaper = ratio_interval(base - tokens, base)
        rows.append({
            "rule": text, "tokens": float(tokens.mean()), "accuracy": float(right.mean()),
            "saving": [saving.estimate, saving.low, saving.high],
            "drop": [drop.estimate, drop.low, drop.high],
            "cheaper_than_ac": [cheaper.estimate, cheaper.low, cheaper.high],
        })  # fmt: skip
        print(f"{text:58} {rows[-1]['tokens']:6.0f} tokens, {100 * right.mean():.1f} % right, "
              f"saves {_points(rows[-1]['saving'])}, drop {_points(rows[-1]['drop'])}",
              flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("part", choices=("pools", "own"))
    parser.add_argument("--data", type=Path, default=Path("data/recorded"))
    parser.add_argument("--traces", type=Path, default=Path("data/traces/stepwise.parquet"))
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--price", type=float, default=25.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    began = time.process_time()
    command = f"benchmarks/certify/savings.py {options.part} --splits {options.splits}"
    rows: list[dict] = []
    if options.part == "pools":
        folder = options.data / "zeroeval_matrix"
        if options.out is not None and options.out.exists():
            found = json.loads(options.out.read_text())
            rows = found["rows"] if found["command"] == command else []
        for new in pools(folder, options.splits, options.price, rows[:]):
            rows += new
            if options.out is not None:
                write_json(options.out, {"command": command, "rows": rows})
    else:
        rows = own(options.traces, options.draws)
        if options.out is not None:
            write_json(options.out, {"command": command, "rows": rows})
    print(f"{time.process_time() - began:.0f} CPU s")


if __name__ == "__main__":
    main()
