"""The trainer: resumed bit for bit, what learns, and what the reduction of the KL decides."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from suffice.backends.latent.network import HALTING_START  # noqa: E402
from suffice.backends.latent.shape import LatentShape  # noqa: E402
from suffice.core.errors import ConfigError, InputError  # noqa: E402
from suffice.tasks.grids.puzzles import Puzzles  # noqa: E402
from suffice.tasks.grids.queens import Queens  # noqa: E402
from suffice.training.latent.settings import LatentTraining, published  # noqa: E402
from suffice.training.latent.trainer import Trainer  # noqa: E402
from suffice.training.run_state import seeded  # noqa: E402

pytestmark = pytest.mark.torch
TASK = Queens(4)
SMALL = LatentTraining(
    task="queens-4",
    shape=LatentShape(width=16, heads=2, mlp_width=16, noise="learned"),
    steps=12, batch=8, supervision_steps=2, checkpoint_every=4, probe_every=4,
)  # fmt: skip


def puzzles() -> Puzzles:
    return TASK.splits(0).train


def weights(trainer: Trainer) -> dict[str, Any]:
    both = {"now": trainer.network, "mean": trainer.averaged}
    return {
        f"{which}/{name}": value.clone()
        for which, network in both.items()
        for name, value in network.state_dict().items()
    }


@pytest.mark.parametrize("noise", ["none", "learned"])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path, noise: str) -> None:
    config = replace(SMALL, shape=replace(SMALL.shape, noise=noise))
    whole = Trainer(config, TASK, puzzles(), folder=tmp_path / "whole")
    whole.train(clock=lambda: 0.0)
    first = Trainer(config, TASK, puzzles(), folder=tmp_path / "parts")
    first.train(until=4, clock=lambda: 0.0)
    second = Trainer(config, TASK, puzzles(), folder=tmp_path / "parts")
    second.train(clock=lambda: 0.0)
    assert second.state.step == 12
    assert first.state.step == 4
    expected = weights(whole)
    for name, value in weights(second).items():
        assert torch.equal(value, expected[name]), name
    assert second.state.lines == whole.state.lines


def test_a_checkpoint_of_another_config_is_refused(tmp_path: Path) -> None:
    Trainer(SMALL, TASK, puzzles(), folder=tmp_path).train(until=4)
    other = Trainer(replace(SMALL, beta=3.0), TASK, puzzles(), folder=tmp_path)
    with pytest.raises(InputError, match=r"beta: None -> 3\.0"):
        other.train()


def test_seeds_decide_everything(tmp_path: Path) -> None:
    found = []
    for seed in (0, 0, 1):
        trainer = Trainer(replace(SMALL, seed=seed, steps=4), TASK, puzzles())
        trainer.train()
        found.append(weights(trainer)["now/decode.weight"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("noise", ["learned", "fixed", "zero_mean"])
@pytest.mark.parametrize("guidance", [True, False])
def test_every_arm_takes_a_step(noise: str, guidance: bool) -> None:
    config = replace(SMALL, shape=replace(SMALL.shape, noise=noise), guidance=guidance, steps=4)
    trainer = Trainer(config, TASK, puzzles())
    before = weights(trainer)
    trainer.train()
    assert not torch.equal(weights(trainer)["now/decode.weight"], before["now/decode.weight"])
    (line,) = trainer.state.lines or []
    assert (line["kl"] > 0) is guidance


def test_halting_starts_near_no() -> None:
    trainer = Trainer(SMALL, TASK, puzzles())
    logit = trainer.network.halting(torch.randn(5, 16))
    assert torch.equal(logit, torch.full((5,), HALTING_START))


def test_heads_do_not_move_the_state() -> None:
    """Without cross-entropy and KL nothing but the heads has a gradient."""
    trainer = Trainer(SMALL, TASK, puzzles())
    generator = seeded(0, "batch", 0)
    drawn = trainer.draw(generator)
    found = trainer.loss(drawn, trainer.network.start(8), generator)
    (found.total - found.cross_entropy - trainer.beta * found.kl).backward()
    moved = {
        name for name, weight in trainer.network.named_parameters()
        if weight.grad is not None and weight.grad.abs().max() > 1e-9
    }  # fmt: skip
    assert moved <= {"halt.weight", "halt.bias"}


def test_batches_are_pairs_of_input_and_solution() -> None:
    trainer = Trainer(replace(SMALL, batch=64), TASK, puzzles())
    drawn = trainer.draw(seeded(0, "batch", 0))
    assert TASK.right(drawn.inputs.numpy(), drawn.answers.numpy()).all()


def test_beta_is_four_and_a_half_over_the_tokens() -> None:
    assert Trainer(SMALL, TASK, puzzles()).beta == pytest.approx(4.5 / 4)
    assert Trainer(replace(SMALL, beta=0.07), TASK, puzzles()).beta == 0.07


def two_solutions() -> Puzzles:
    """The empty board of four, whose two completions are each other's mirror image."""
    pairs = list(TASK.splits(0).train.solutions)
    first = pairs[0]
    both = [first, 3 - first]
    return Puzzles.of([(np.zeros((4, 1), dtype=np.int64), both)])


def posterior_cross_entropy(reduction: str) -> float:
    """Of the mean over the last batches, where one input has two equally likely solutions."""
    config = replace(
        SMALL, steps=120, batch=32, kl_reduction=reduction, ema=0.0, learning_rate=5e-3,
        warm_up_steps=10, probe_every=2, gradient_clip=10.0,
        shape=LatentShape(width=16, heads=2, mlp_width=16, noise="learned"),
    )  # fmt: skip
    trainer = Trainer(config, TASK, two_solutions())
    trainer.train()
    lines = trainer.state.lines or []
    return float(np.mean([line["cross_entropy"] for line in lines[-20:]]))


def test_a_mean_kl_lets_the_posterior_leak_the_answer_and_a_sum_does_not() -> None:
    """The diagnosis of failed reproductions.

    The input does not say which of two answers is meant, so that what does not see the answer has
    ln 2 nats a token or more. With the mean over 4 tokens and 16 channels a nat of KL costs 1 / 64
    of one: the answer is passed on through ε and the cross-entropy falls towards 0. With the sum it
    does not pay.
    """
    honest = math.log(2)
    leaking, kept = posterior_cross_entropy("mean"), posterior_cross_entropy("sum")
    assert leaking < 0.1 * honest
    assert kept > 0.8 * honest


def test_the_published_size_is_about_ten_million_parameters() -> None:
    config = published("queens-8")
    trainer = Trainer(config, Queens(8), Queens(8).splits(0).train)
    assert 7e6 < trainer.network.parameter_count() < 12e6
    assert trainer.beta == pytest.approx(0.07 * 8 / 8, abs=0.6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kl_reduction": "median"}, "sum, channels, mean"),
        ({"ema": 1.0}, "below 1"),
        ({"batch": 0}, "batch must be positive"),
        ({"balance": 1.2}, "between 0 and 1"),
        ({"halt_target": "maybe"}, "exact or valid"),
        ({"beta": -1.0}, "beta must be 0 or more"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
    ],
)
def test_a_setting_that_cannot_be_is_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(SMALL, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"width": 9, "heads": 2}, "must divide"), ({"noise": "pink"}, "one of none"),
     ({"blocks": 0}, "blocks must be positive"), ({"fixed_sigma": 0.0}, "fixed_sigma")],
)  # fmt: skip
def test_a_shape_that_cannot_be_is_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LatentShape(**changes)
