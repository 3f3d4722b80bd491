"""The gateway's policies beside the routers: figures by hand, and on the model that ships."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from suffice.backends.nano.backend import shipped_folder
from suffice.core.errors import InputError
from suffice.recipes.modes.evaluate import resampled_weights
from suffice.recipes.modes.policies import Sampled, asked_and_calibrating, policy_results
from suffice.recipes.modes.train import evaluate_folder
from suffice.tasks.puzzles import Mixture
from suffice.training.modes.rewards import ModePrice

SMALL = Sampled(samples=4, seed=2)


def test_policies_are_measured_on_whole_responses() -> None:
    mixture = Mixture(difficulties=(1, 4))
    asked, others = asked_and_calibrating(mixture, 6, 0)
    assert len(asked) == 12
    assert not {p.prompt for p in asked} & {p.prompt for p in others}
    found = {row.policy: row for row in policy_results(shipped_folder(), asked, others, SMALL)}
    vote, adaptive = found["self-consistency@4"], found["adaptive-consistency@4"]
    cascade = found["cascade, low confidence"]
    assert vote.tokens is not None
    assert adaptive.tokens is not None
    assert cascade.tokens is not None
    assert vote.samples == 4.0
    # One step: 3 tokens at once. Four: a thought of 16, after the 3 of the short try in a cascade.
    assert vote.tokens.mean == pytest.approx(4 * (3 + 16) / 2)
    assert cascade.tokens.mean == pytest.approx((3 + 3 + 16) / 2)
    assert cascade.samples == pytest.approx(1.5)
    assert cascade.accuracy is not None
    assert cascade.accuracy.mean == 1.0
    assert cascade.token_share is not None
    assert cascade.token_share.mean == pytest.approx((3 + 3 + 16) / (7 + 16))
    # 24 problems certify nothing: the row says what is needed.
    refused = found["certified, at most 2 points lost"]
    assert refused.tokens is None
    assert "questions are too few for any certificate" in refused.refused


def test_a_vote_takes_samples() -> None:
    with pytest.raises(InputError, match="3 samples or more"):
        Sampled(samples=2)


def test_every_cell_weighs_the_same_in_every_resample() -> None:
    cell = np.array([0, 0, 0, 1, 1, 0])
    weights = resampled_weights(cell, np.random.default_rng(0))
    assert weights[:, cell == 0].sum(axis=1) == pytest.approx(0.5)
    assert weights[:, cell == 1].sum(axis=1) == pytest.approx(0.5)


def test_they_are_drawn_and_written_with_the_routers() -> None:
    from suffice.recipes.modes.plots import modes_figure
    from suffice.report.style import to_svg

    mixture = Mixture(difficulties=(1, 3))
    routers = evaluate_folder(
        shipped_folder(), mixture, per_cell=6, reward=ModePrice(), max_tokens=48, seed=0
    )
    assert routers.policies == ()
    asked, others = asked_and_calibrating(mixture, 4, 0)
    result = replace(
        routers, policies=policy_results(shipped_folder(), asked, others, SMALL)
    )  # fmt: skip
    assert "cascade, disagreement" in to_svg(modes_figure(result))
    json.dumps(asdict(result), allow_nan=False)
