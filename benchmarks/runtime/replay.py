"""How fast recorded samples play on one core: requests/s for votes, tokens/s for token rules.

    $ python benchmarks/runtime/replay.py                     made-up samples, same for the same seed
    $ python benchmarks/runtime/replay.py --traces FILE       a recorded set, vote policies

CPU time of one thread, the best of several rounds, reading of files not included. Requests are
played whole: session, budget books, policy steps, outcome with its records.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from suffice.core.requests import Message, Request
from suffice.executors.recorded_stream import RecordedSample
from suffice.executors.replay import play
from suffice.policies.registry import parse_policy
from suffice.recipes.replay.run import ReplayConfig, replay_traces

VOTES = (
    "single",
    "self_consistency:samples=8",
    "self_consistency:samples=16",
    "adaptive_consistency:max_samples=16",
    "adaptive_consistency:max_samples=40",
    "esc:max_samples=40",
    "short_m_at_k:k=8,m=4",
    "single:accept=.9 > adaptive_consistency:max_samples=16",
)
TOKENS = (
    "deepconf:max_samples=64",
    "deepconf:max_samples=64,keep=.1,consensus=1",
    "deepconf_offline:samples=64",
    "short_m_at_k:k=64,m=32",
)
REQUEST = Request(messages=(Message(role="user", content="?"),), model="m", answer_format="number")


def made_up(count: int, tokens: int, seed: int, *, confident: bool) -> list[RecordedSample]:
    """Samples of about `tokens` tokens; three of four right, and a little surer when they are."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        length = int(rng.integers(tokens // 2, tokens * 3 // 2))
        answer = str(rng.choice(5, p=[0.75, 0.1, 0.05, 0.05, 0.05]))
        level = 3.2 if answer == "0" else 2.8
        found.append(
            RecordedSample(
                text="x" * 80,
                tokens=length,
                prompt_tokens=100,
                answer=answer,
                confidences=rng.normal(level, 1.0, length) if confident else None,
                logprobs=None if confident else -rng.random(length),
            )
        )
    return found


def best_of(rounds: int, work: Callable[[], tuple[int, int]]) -> tuple[float, float]:
    """(requests/s, tokens/s) of the fastest round, in CPU time."""
    best = (0.0, 0.0)
    for _ in range(rounds):
        gc.collect()
        began = time.thread_time()
        requests, tokens = work()
        spent = time.thread_time() - began
        if requests / spent > best[0]:
            best = (requests / spent, tokens / spent)
    return best


def main() -> None:
    """Print one line per policy."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{'policy':58} {'requests/s':>10} {'M tokens/s':>10}")
    if arguments.traces is not None:
        from suffice.evals.traces.files import read_traces  # noqa: PLC0415

        traces = read_traces(arguments.traces)
        for text in VOTES:
            if "40" in text or ">" in text:  # they may draw more than were recorded
                continue
            policy = parse_policy(text)

            def whole(policy: object = policy) -> tuple[int, int]:
                found = replay_traces(traces, policy, ReplayConfig(draws=1))  # type: ignore[arg-type]
                return len(found.requests), int(found.column("tokens").sum())

            rate, tokens = best_of(arguments.rounds, whole)
            print(f"{text:58} {rate:10.0f} {tokens / 1e6:10.2f}")
        return
    for texts, count, tokens, confident in (
        (VOTES, 300, 300, False),
        (TOKENS, 4, 8000, True),
    ):
        worlds = [
            made_up(64, tokens, arguments.seed + n, confident=confident) for n in range(count)
        ]
        for text in texts:
            policy = parse_policy(text)

            def pass_over(policy: object = policy) -> tuple[int, int]:
                spent = 0
                for world in worlds:  # noqa: B023
                    played = play(policy, REQUEST, lambda launch, w=world: w[launch.sample])  # type: ignore[arg-type, misc]
                    spent += played.outcome.usage.completion_tokens
                return len(worlds), spent  # noqa: B023

            rate, per_s = best_of(arguments.rounds, pass_over)
            print(f"{text:58} {rate:10.0f} {per_s / 1e6:10.2f}")


if __name__ == "__main__":
    main()
