"""Published sample sets, imported as traces and replayed: known figures come out.

Sources: WildEval/ZeroEval @ 8c1485ed, lm-sys/RouteLLM @ 0b64fdaf (2406.18665), openai/
grade-school-math @ 3101c7d5 (2110.14168), princeton-nlp/tree-of-thought-llm @ ab400345
(2305.10601), microsoft/CodeT @ 35f54d60 (2207.10397).
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from suffice.evals.importers import importer
from suffice.evals.statistics.ranking import mean_pass_at_k
from suffice.evals.traces.files import of_questions, subset, trace_set
from suffice.evals.traces.summary import summarise
from suffice.policies.fixed import BestOfN
from suffice.policies.registry import parse_policy
from suffice.recipes.replay.run import ReplayConfig, replay_traces
from suffice.tools.code_sandbox import Runner, humaneval_program

DATA = Path(os.environ.get("SUFFICE_SHARED_DATA", "../shared/data")) / "runtime"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.exists(), reason="recorded samples are not at hand"),
]


def imported(name):
    return trace_set(importer(name).read(DATA / name), importer(name).information)


@pytest.fixture(scope="module")
def zeroeval(tmp_path_factory):
    """The three models' answers to GSM8K: a thirtieth of the set, so a thirtieth of its reading."""
    wanted = {"Meta-Llama-3.1-8B-Instruct", "gemma-2-9b-it", "gpt-4o-2024-08-06"}
    whole, part = DATA / "zeroeval_matrix", tmp_path_factory.mktemp("zeroeval")
    shutil.copy(whole / "questions.jsonl.gz", part)
    with (
        gzip.open(whole / "greedy_outputs.csv.gz", "rt", newline="") as every,
        gzip.open(part / "greedy_outputs.csv.gz", "wt", newline="", compresslevel=1) as some,
    ):
        rows = csv.DictReader(every)
        written = csv.DictWriter(some, rows.fieldnames)
        written.writeheader()
        written.writerows(r for r in rows if r["task"] == "gsm" and r["model"] in wanted)
    return trace_set(importer("zeroeval_matrix").read(part))


def test_two_cheap_models_that_agree_are_right(zeroeval):
    """GSM8K: Llama-3.1-8B and gemma-2-9b agree on 80.6 %, there 97.2 % right; cascade 95.7 at 19.4.

    The figures are of one greedy answer each, so they come out to the digit they are given with.
    """
    llama, strong = "Meta-Llama-3.1-8B-Instruct", "gpt-4o-2024-08-06"
    cascade = parse_policy(f"agreement:models={llama}+gemma-2-9b-it > single@{strong}")
    found = replay_traces(zeroeval, cascade, ReplayConfig(draws=1, model=llama))
    escalated = found.column("samples") == 3
    correct = found.column("correct")
    assert len(correct) == 1319
    assert 100 * (1 - escalated.mean()) == pytest.approx(80.6, abs=0.05)
    assert 100 * correct[~escalated].mean() == pytest.approx(97.2, abs=0.05)
    assert 100 * correct.mean() == pytest.approx(95.7, abs=0.05)
    assert 100 * escalated.mean() == pytest.approx(19.4, abs=0.05)
    always = zeroeval.correct[zeroeval.arm == zeroeval.arm_index(strong)]
    assert 100 * always.mean() == pytest.approx(96.2, abs=0.05)


@pytest.mark.parametrize(
    ("name", "dataset", "accuracies"),
    [
        # Recorded with the sets; four digits are given.
        (
            "routellm_gsm8k",
            "routellm gsm8k",
            {"mistralai/Mixtral-8x7B-Instruct-v0.1": 0.6384, "gpt-4-1106-preview": 0.8567},
        ),
        (
            "gsm8k_openai",
            "gsm8k",
            {
                "6b_finetuning": 0.217,
                "6b_verification": 0.390,
                "175b_finetuning": 0.347,
                "175b_verification": 0.563,
            },
        ),
        ("reflexion_trials", "mbpp", {"gpt-4": 318 / 397, "gpt-4/reflexion": 306 / 397}),
    ],
)
def test_imported_sets_have_their_published_accuracies(name, dataset, accuracies):
    rows = {row.arm: row for row in summarise(imported(name)) if row.dataset == dataset}
    assert {arm: row.accuracy for arm, row in rows.items()} == pytest.approx(accuracies, abs=6e-4)
    assert all(row.low < row.accuracy < row.high for row in rows.values())


def test_mmlu_has_57_subjects_and_routerarena_its_scores():
    found = imported("routellm_mmlu")
    assert len({q.category for q in found.questions}) == 57
    assert found.count.min() == 1 and len(found.questions) == 14042
    arena = summarise(imported("routerarena_cached"))
    assert [(row.questions, row.samples) for row in arena] == [(809, 809)] * 2


def test_replayed_best_of_n_is_the_unbiased_pass_at_k():
    """Game of 24 with a verifier: 1 - C(n - c, k) / C(n, k); mean .0403, 49 of 100 ever solved."""
    whole = imported("tot_game24")
    cot = subset(whole, whole.arm == whole.arm_index("gpt-4", "think"))
    right = np.bincount(cot.question, cot.correct).astype(int)
    assert right.sum() / 1e4 == pytest.approx(0.0403, abs=5e-5)
    assert (right > 0).sum() == 49
    k, draws = 8, 12
    found = replay_traces(cot, BestOfN(samples=k, wave=1, enough=1.0), ReplayConfig(draws=draws))
    expected = mean_pass_at_k(right, np.full(100, 100), k)
    # 1,200 draws of a rate near .2: two standard errors are .024.
    assert found.column("correct").mean() == pytest.approx(expected, abs=0.024)
    assert found.column("samples").mean() < k


@pytest.mark.slow
def test_humaneval_programs_pass_their_tests_as_often_as_published():
    """CodeGen-16B on six problems: run, then best-of-n with tests equals pass@k.

    CodeT (2207.10397, table 2) gives pass@1 29.7 and pass@100 73.7 over all 164 problems; six
    problems are run here, so the published rates only bound the order of magnitude.
    """
    pytest.importorskip("zstandard")
    folder = DATA / "codet_humaneval_100samples"
    tests = {
        row["task_id"]: row
        for row in map(
            json.loads, (folder / "HumanEval_for_code_generation.jsonl").read_text().splitlines()
        )
    }
    whole = imported("codet_humaneval_100samples")
    some = list(of_questions(whole, np.arange(0, 160, 27)))
    with Runner(limit_s=1.0) as runner:
        for row in tests.values():
            if row["task_id"] in {trace.question.name for trace in some}:
                assert runner.passes(humaneval_program(row, row["canonical_solution"]))
        judged = [
            (trace, runner.passes(humaneval_program(tests[trace.question.name], trace.text)))
            for trace in some
        ]
    checked = trace_set(
        replace(trace, correct=right, score=float(right)) for trace, right in judged
    )
    right = np.bincount(checked.question, checked.correct).astype(int)
    assert 0.15 < right.sum() / 600 < 0.6
    found = replay_traces(checked, BestOfN(samples=10, wave=2, enough=1.0), ReplayConfig(draws=40))
    expected = mean_pass_at_k(right, np.full(6, 100), 10)
    # 40 draws of six problems, most of them always or never solved: two standard errors < .05.
    assert found.column("correct").mean() == pytest.approx(expected, abs=0.05)
