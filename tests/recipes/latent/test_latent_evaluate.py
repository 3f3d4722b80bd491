"""Evaluation of latent networks: figures against definitions written out, policies, the verbs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from suffice.backends.latent.backend import Depth, LatentBackend  # noqa: E402
from suffice.backends.latent.folder import load_latent  # noqa: E402
from suffice.backends.latent.trajectories import Exploration  # noqa: E402
from suffice.cli.main import app  # noqa: E402
from suffice.core.errors import InputError  # noqa: E402
from suffice.evals.datasets import Item  # noqa: E402
from suffice.evals.grading import check_of  # noqa: E402
from suffice.recipes.latent.adaptive import adaptive_results  # noqa: E402
from suffice.recipes.latent.diagnose import guide_alignment, token_entropy  # noqa: E402
from suffice.recipes.latent.evaluate import (  # noqa: E402
    contest,
    difference_interval,
    mean_interval,
    point,
    selected,
)
from suffice.recipes.latent.explore import Explored, covered, explore, voted  # noqa: E402
from suffice.recipes.latent.run import LatentEvaluation, evaluate_latent  # noqa: E402
from suffice.recipes.latent.traces import traces_of  # noqa: E402
from suffice.recipes.latent.train import train_latent  # noqa: E402
from suffice.recipes.record.config import RecordConfig  # noqa: E402
from suffice.recipes.record.run import collect  # noqa: E402
from suffice.tasks.grids.puzzles import Puzzles  # noqa: E402
from suffice.tasks.grids.queens import Queens  # noqa: E402
from suffice.training.latent.settings import LatentTraining  # noqa: E402

pytestmark = pytest.mark.torch
TASK = Queens(5)


def made_up(width: int = 6, steps: int = 2, seed: int = 0) -> Explored:
    """Answers that are solutions, other solutions, or nonsense, at random."""
    source = np.random.default_rng(seed)
    puzzles = TASK.splits(0).test
    answers = source.integers(0, 5, (steps, len(puzzles), width, 5))
    for p in range(len(puzzles)):
        listed = puzzles.solutions_of(p)
        for s in range(steps):
            for k in range(width):
                if source.random() < 0.5:
                    answers[s, p, k] = listed[source.integers(len(listed))]
    _, code = np.unique(answers.reshape(-1, 5), axis=0, return_inverse=True)
    shape = steps, len(puzzles), width
    return Explored(
        puzzles, answers, source.normal(size=shape).astype(np.float32),
        source.normal(size=shape).astype(np.float32),
        TASK.right(puzzles.inputs[None, :, None], answers), code.reshape(shape),
    )  # fmt: skip


def test_votes_coverage_and_any_are_their_definitions() -> None:
    found = made_up()
    chosen = selected(found, width=3, depth=2)
    for p in range(len(found.puzzles)):
        votes, anyone = [], []
        for first in (0, 3):
            texts = [tuple(found.answers[1, p, k]) for k in range(first, first + 3)]
            best = max(Counter(texts).values())
            winner = next(text for text in texts if Counter(texts)[text] == best)
            votes.append(bool(TASK.right(found.puzzles.inputs[p], np.array(winner))))
            listed = {tuple(s) for s in found.puzzles.solutions_of(p)}
            anyone.append(bool(listed & set(texts)))
        assert chosen["vote"][p] == np.mean(votes)
        assert chosen["verifier"][p] == np.mean(anyone)
        texts = {tuple(found.answers[0, p, k]) for k in range(6)}
        listed = {tuple(s) for s in found.puzzles.solutions_of(p)}
        assert covered(found, 0, range(6))[p] == len(texts & listed) / len(listed)


def test_a_point_costs_width_times_depth() -> None:
    found = point(made_up(), width=3, depth=2, flops_of_step=7.0)
    assert (found.flops, found.serial_steps) == (42.0, 2)
    assert found.accuracy["first"].low <= found.accuracy["first"].estimate
    assert found.accuracy["verifier"].estimate >= found.accuracy["vote"].estimate


def test_the_majority_goes_to_what_came_first() -> None:
    assert voted(np.array([[3, 5, 5, 3], [1, 2, 2, 2]])).tolist() == [0, 1]


def test_contests_are_paired() -> None:
    wide, deep = made_up(seed=1), made_up(width=1, steps=6, seed=2)
    found = contest(wide, deep, width=3, depth=2, against=6, selection="vote", budget="equal FLOPs")
    expected = selected(wide, width=3, depth=2)["vote"] - deep.right[5, :, 0]
    assert found.gain.estimate == pytest.approx(expected.mean())
    assert found.flops_ratio == 1.0
    assert found.gain.low <= found.gain.estimate <= found.gain.high


def test_equal_values_do_not_claim_certainty() -> None:
    assert mean_interval(np.ones(50)).low < 0.95
    nothing = difference_interval(np.zeros(50))
    assert nothing.low < 0 < nothing.high


def test_widths_and_depths_that_were_not_drawn_are_said() -> None:
    with pytest.raises(InputError, match="width must be 1 to 6"):
        selected(made_up(), width=7, depth=1)
    with pytest.raises(InputError, match="depth must be 1 to 2"):
        selected(made_up(), width=1, depth=3)
    with pytest.raises(InputError, match="one of the depths"):
        LatentEvaluation(depth=3)


def test_token_entropy_is_that_of_the_answers() -> None:
    answers = np.array([[[0, 1], [0, 2], [0, 1], [0, 2]]])
    assert token_entropy(answers)[0] == pytest.approx([0.0, np.log(2)])


def test_a_guide_that_follows_the_crowd_is_aligned() -> None:
    code = np.array([[1, 1, 1, 2, 3], [4, 4, 4, 4, 4]])
    halting = np.array([[3.0, 2.9, 3.1, 0.1, 0.2], [1, 2, 3, 4, 5]])
    along, against = guide_alignment(halting, code), guide_alignment(-halting, code)
    assert along is not None
    assert along > 0.8
    assert against == pytest.approx(-along)
    assert guide_alignment(halting[1:], code[1:]) is None


def test_policies_play_on_trajectories() -> None:
    found = {row.policy: row for row in adaptive_results(made_up(8), TASK, width=4, depth=2)}
    fixed = found["fixed width, vote"]
    assert fixed.samples == 4.0
    verified, lone = found["one after another, verifier"], found["one trajectory"]
    assert verified.accuracy is not None
    assert lone.accuracy is not None
    assert verified.accuracy.estimate > lone.accuracy.estimate
    assert lone.flops_share is not None
    assert lone.flops_share.estimate == pytest.approx(0.25)
    (certified,) = (row for name, row in found.items() if name.startswith("certified"))
    assert "too few" in certified.refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("latent") / "gram"
    result = CliRunner().invoke(
        app,
        ["train", "latent", "--task", "queens-5", "--method", "gram", "--steps", "8",
         "--threads", "1", "--out", str(out)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "8 steps" in result.output
    return out


def test_a_recording_of_the_backend_is_the_exploration(folder: Path) -> None:
    """The same trajectories, drawn through the backend contract and straight from the network."""
    import asyncio

    from suffice.core.requests import Sampling

    network, task = load_latent(folder)
    test: Puzzles = task.splits(0).test.take([0, 3, 5])
    exploration = Exploration(source="prior")
    found = explore(network, task, test, width=3, steps=4, exploration=exploration, seed=11)
    straight = traces_of(found, task, depth=4)
    backend = LatentBackend(network, task, exploration=exploration, depth=Depth(steps=4))
    items = [Item(question=q, check=check_of(None, q.reference)) for q in straight.questions]
    config = RecordConfig(
        samples=3, model="latent", sampling=Sampling(seed=11, top_logprobs=1), trial=False
    )
    drawn = asyncio.run(collect(items, backend, config))
    by_key = {(t.question.name, t.sample): t for t in drawn}
    for trace in straight:
        other = by_key[trace.question.name, trace.sample]
        assert trace.text == other.text
        assert trace.completion_tokens == other.completion_tokens
        np.testing.assert_allclose(
            trace.logprobs.astype(float), other.logprobs.astype(float), atol=2e-3
        )


def test_the_verb_writes_what_it_prints(folder: Path, tmp_path: Path) -> None:
    asked = ["eval", "latent", "--network", str(folder), "--widths", "1,2", "--depths", "1,2",
             "--depth", "2", "--puzzles", "12", "--out", str(tmp_path)]  # fmt: skip
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "latent.json").read_text())
    assert found["task"] == "queens-5"
    assert found["puzzles"] == 12
    assert {(p["width"], p["depth"]) for p in found["points"]} == {(1, 1), (2, 1), (1, 2), (2, 2)}
    assert {p["depth"] for p in found["deep"]} == {1, 2, 4}
    budgets = {c["budget"] for c in found["contests"]}
    assert budgets == {"equal FLOPs", "at most the FLOPs", "equal serial steps"}
    assert "<svg" in (tmp_path / "latent.svg").read_text()
    again = evaluate_latent(
        folder, LatentEvaluation(widths=(1, 2), depths=(1, 2), depth=2, puzzles=12, policies=False)
    )
    assert (
        again.points[3].accuracy["vote"].estimate
        == (found["points"][3]["accuracy"]["vote"]["estimate"])
    )


def test_a_finished_folder_is_left_as_it_is_and_another_config_refused(folder: Path) -> None:
    before = (folder / "latent.pt").read_bytes()
    record = json.loads((folder / "latent.json").read_text())
    assert record["steps"] == 8
    from suffice.training.settings import from_values

    config = from_values(LatentTraining, record["config"], source="the record")
    assert train_latent(config, folder).steps == 8
    assert (folder / "latent.pt").read_bytes() == before
    result = CliRunner().invoke(
        app, ["train", "latent", "--task", "queens-5", "--out", str(folder)]
    )
    assert result.exit_code != 0
    assert isinstance(result.exception, InputError)
    assert "another config" in str(result.exception)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "hrm"], "trm or gram"),
        (["--method", "trm", "--noise", "fixed"], "belongs to --method gram"),
        (["--kl-reduction", "median"], "kl_reduction"),
    ],
)
def test_options_that_cannot_be_are_said(options: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "latent", *options, "--out", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)


def test_widths_that_are_no_numbers_are_said(folder: Path) -> None:
    result = CliRunner().invoke(
        app, ["eval", "latent", "--network", str(folder), "--widths", "a,2"]
    )
    assert isinstance(result.exception, InputError)
    assert "--widths wants whole numbers" in str(result.exception)
