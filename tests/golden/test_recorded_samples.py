"""Rules replayed on recorded public samples: 100 GPT-4 samples for each of 100 Game-of-24 puzzles.

Source: princeton-nlp/tree-of-thought-llm @ ab400345 (2305.10601), MIT.
"""

from __future__ import annotations

import json
import os
import random
from math import comb
from pathlib import Path

import pytest

from suffice.backends.protocol import Chunk
from suffice.core.completions import Completion, Usage
from suffice.core.requests import Message, Request
from suffice.policies.agreement import AdaptiveConsistency, EarlyStopping
from suffice.policies.auto import PUBLISHED_ARMS
from suffice.policies.fixed import BestOfN, SelfConsistency
from tests.policies.reference_replay import replay

DATA = Path(os.environ.get("SUFFICE_SHARED_DATA", "../shared/data")) / "runtime" / "tot_game24"
FILE = DATA / "gpt-4_0.7_naive_cot_sample_100_start900_end1000.json"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not FILE.exists(), reason="recorded samples are not at hand"),
]
REQUEST = Request(messages=(Message(role="user", content="24"),), model="m", answer_format="x")


@pytest.fixture(scope="module")
def puzzles():
    return [
        [(text, float(info["r"])) for text, info in zip(row["ys"], row["infos"], strict=True)]
        for row in json.loads(FILE.read_text())
    ]


def last_line(completion: Completion) -> str | None:
    return completion.text.strip().rsplit("\n", 1)[-1].replace(" ", "") or None


def play(policy, samples):
    def recording(launch):
        text, _ = samples[launch.sample]
        usage = Usage(prompt_tokens=1, completion_tokens=len(text) // 4)
        return [Chunk(text=text, finish_reason="stop", usage=usage)]

    return replay(
        policy,
        REQUEST,
        recording,
        extract=last_line,
        score=lambda launch: samples[launch.sample][1],
    )


def test_verified_best_of_n_is_the_unbiased_pass_at_k(puzzles):
    counts = [sum(score for _, score in samples) for samples in puzzles]
    mean = sum(counts) / 1e4
    assert mean == pytest.approx(0.0403, abs=5e-5)  # recorded with the data
    assert sum(count > 0 for count in counts) == 49
    k, shuffles = 8, 8
    expected = sum(1 - comb(100 - int(c), k) / comb(100, k) for c in counts) / 100
    solved = spent = 0
    for seed in range(shuffles):
        for samples in puzzles:
            order = random.Random(seed).sample(samples, 100)
            outcome = play(BestOfN(samples=k, wave=1, enough=1.0), order)
            solved += order[outcome.sample][1]
            spent += outcome.samples_run
    # 800 draws of a rate near .2: two standard errors are about .03.
    assert solved / (100 * shuffles) == pytest.approx(expected, abs=0.03)
    assert spent < 100 * shuffles * k  # it stops at the first success


def test_adaptive_consistency_against_esc_on_a_hard_pool(puzzles):
    spent = {"adaptive": 0, "esc": 0, "all": 0}
    right = dict.fromkeys(spent, 0.0)
    policies = {
        "adaptive": AdaptiveConsistency(max_samples=40),
        "esc": EarlyStopping(max_samples=40),
        "all": SelfConsistency(samples=40),
    }
    for seed in range(2):
        for samples in puzzles:
            order = random.Random(seed).sample(samples, 100)
            for name, policy in policies.items():
                outcome = play(policy, order)
                spent[name] += outcome.samples_run
                right[name] += order[outcome.sample][1]
    assert spent["adaptive"] <= spent["esc"] < spent["all"]
    # A vote over spellings of formulas helps little here; stopping early must not hurt.
    assert abs(right["adaptive"] - right["all"]) <= 0.02 * 200


CURVES = DATA.parent / "optscale_curves" / "SC"


@pytest.mark.skipif(not CURVES.exists(), reason="published curves are not at hand")
def test_default_arms_are_the_means_of_the_published_curves():
    """R1-Distill-Qwen-7B on five sets (2506.22376): accuracy, tokens relative to one sample."""
    sets = ("MATH500", "GSM8K", "AMC23", "AIME24", "AIME25")
    quality: dict[int, list[float]] = {1: [], 4: [], 8: [], 40: []}
    cost: dict[int, list[float]] = {1: [], 4: [], 8: [], 40: []}
    for name in sets:
        vote = json.loads((CURVES / f"{name}_maj_vote_results.json").read_text())
        adaptive = json.loads((CURVES / f"{name}_esc_asc_results.json").read_text())
        rows = {row["max_n"]: row for row in adaptive["asc_max_n_sweep"]} | {1: vote[0]}
        for cap, accuracies in quality.items():
            accuracies.append(rows[cap]["accuracy"])
            cost[cap].append(rows[cap]["average_token_count"] / vote[0]["average_token_count"])
    for arm, cap in zip(PUBLISHED_ARMS, quality, strict=True):
        assert arm.quality == pytest.approx(sum(quality[cap]) / 5, abs=6e-4)  # three digits kept
        assert arm.cost == pytest.approx(sum(cost[cap]) / 5, rel=5e-3)
