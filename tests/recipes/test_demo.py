"""The demonstration in small: every figure in it follows from what the gateway answered."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from suffice.backends.nano.backend import NanoBackend
from suffice.cli.demo import _gateway
from suffice.core.errors import InputError
from suffice.policies.policy_file import read_policy_file
from suffice.recipes.demo.config import DemoConfig, halves
from suffice.recipes.demo.measure import Answers, results_of
from suffice.recipes.demo.output import receipt_text, rows_of, write_demo
from suffice.recipes.demo.run import Demo, run_demo
from suffice.training.modes.tasks import TABLE_STEPS, Mixture

SMALL = DemoConfig(problems=208, votes=3, max_drop=0.1, seed=3)


@pytest.fixture(scope="module")
def demo() -> Demo:
    backend = NanoBackend()
    running = run_demo(
        SMALL, backend, lambda file: _gateway(backend, file), tell=lambda text: None
    )  # fmt: skip
    return asyncio.run(running)


def test_halves_are_held_out_even_and_apart() -> None:
    split = halves(SMALL)
    asked = {problem.prompt for problem in split.test}
    assert not asked & {problem.prompt for problem in split.calibrate}
    every = (*split.calibrate, *split.test)
    assert all(Mixture().in_split(problem, "held_out") for problem in every)
    assert all(problem.held_out for problem in every if problem.difficulty > TABLE_STEPS)
    easy = np.mean([problem.difficulty <= 2 for problem in split.test])
    assert easy == pytest.approx(0.5, abs=0.02)
    assert halves(SMALL) == split
    with pytest.raises(InputError, match="24 problems"):
        DemoConfig(problems=5)


def test_the_table_is_what_the_gateway_answered(demo: Demo) -> None:
    names = [result.arm for result in demo.results]
    vote, think, short, learned, calibrated = demo.answers
    assert names[0] == "self-consistency@3"
    assert (vote.samples == 3).all()
    for single in (think, short, learned):
        assert (single.samples == 1).all()
    for answers, result in zip(demo.answers, demo.results, strict=True):
        assert result.accuracy.estimate == answers.right.mean()
        assert result.tokens.estimate == pytest.approx(answers.tokens.mean())
        assert result.saved.estimate == pytest.approx(1 - answers.tokens.sum() / vote.tokens.sum())
        assert result.accuracy.low <= result.accuracy.estimate <= result.accuracy.high
    # A short answer is two tokens; the calibrated policy has one, and perhaps a thought on top.
    assert (short.tokens == 2).all()
    assert set(calibrated.samples.tolist()) == {1.0, 2.0}
    assert (calibrated.tokens[calibrated.samples == 1] == 2).all()
    assert short.right.mean() < calibrated.right.mean()
    assert calibrated.tokens.mean() < think.tokens.mean() < vote.tokens.mean()


def test_the_replay_agrees_with_the_gateway(demo: Demo) -> None:
    assert demo.results[0].replayed is None
    for result in demo.results[1:]:
        assert result.replayed is not None
        accuracy, tokens = result.replayed
        assert accuracy == pytest.approx(result.accuracy.estimate, abs=0.1)
        assert tokens == pytest.approx(result.tokens.estimate, rel=0.05)


def test_the_receipts_show_the_certificate(demo: Demo) -> None:
    for live, samples in ((demo.easy, 1), (demo.hard, 2)):
        assert live.receipt["certificate"]["status"] == "valid"
        assert live.receipt["samples_run"] == samples
        assert demo.calibration.file.certificate.id in receipt_text(live)
    assert demo.hard.reasoning == demo.hard.problem.steps


def test_the_files_are_whole(demo: Demo, tmp_path: Path) -> None:
    paths = write_demo(demo, tmp_path)
    assert paths["picture"].read_bytes().startswith(b"\x89PNG")
    html = paths["page"].read_text()
    assert all(cell in html for row in rows_of(demo) for cell in row[1:3])
    found = json.loads(paths["figures"].read_text())
    assert [arm["arm"] for arm in found["arms"]] == [result.arm for result in demo.results]
    policy = read_policy_file(paths["policy"])
    assert policy.certificate.id == demo.calibration.file.certificate.id


def test_savings_and_losses_are_paired() -> None:
    def answers(arm: str, right: list[int], tokens: list[int]) -> Answers:
        return Answers(
            arm=arm, right=np.array(right, float), tokens=np.array(tokens, float),
            samples=np.ones(4), elapsed_s=2.0,
        )  # fmt: skip

    think = answers("think", [1, 1, 1, 0], [10, 10, 10, 10])
    vote = replace(think, arm="vote", tokens=4 * think.tokens)
    policy = answers("policy", [1, 0, 1, 1], [2, 2, 12, 12])
    found = results_of([vote, think, policy], uniform="vote", thinking="think")[2]
    assert found.saved.estimate == pytest.approx(1 - 28 / 160)
    assert found.saved_of_thinking.estimate == pytest.approx(1 - 28 / 40)
    assert found.lost.estimate == 0.0  # one lost, one gained
    assert found.lost.low < 0 < found.lost.high
    assert found.requests_per_s == 2.0
