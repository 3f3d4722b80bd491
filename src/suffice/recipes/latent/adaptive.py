"""Width decided per request: the gateway's policies on recorded trajectories."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from suffice.core.completions import count_tokens_only
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, NothingFeasible
from suffice.evals.statistics.binomial import Interval
from suffice.evals.statistics.bootstrap import ratio_interval
from suffice.policies.policy_of_file import certified_policy
from suffice.policies.registry import parse_policy
from suffice.recipes.calibrate.config import COMPLETIONS_ALONE, CalibrateConfig
from suffice.recipes.calibrate.run import calibrate
from suffice.recipes.frontier.measure import Measured, measure
from suffice.recipes.latent.evaluate import difference_interval, mean_interval
from suffice.recipes.latent.explore import Explored
from suffice.recipes.latent.traces import Score, traces_of
from suffice.recipes.recordings import Source
from suffice.tasks.grids.puzzles import GridTask

# (name, policy with WIDTH in place of the cap, what its scores are)
POLICIES: tuple[tuple[str, str, Score], ...] = (
    ("fixed width, vote", "self_consistency:samples=WIDTH", "verifier"),
    ("fixed width, halting logit", "best_of_n:samples=WIDTH", "halting"),
    ("fixed width, reward model", "best_of_n:samples=WIDTH", "value"),
    ("fixed width, summed halting", "best_of_n:samples=WIDTH,weighted=yes", "halting"),
    ("one trajectory", "single", "verifier"),
    ("adaptive vote", "adaptive_consistency:max_samples=WIDTH", "verifier"),
    ("adaptive vote, two exits", "two_sided:max_samples=WIDTH", "verifier"),
    ("one after another, halting 0.5", "best_of_n:samples=WIDTH,enough=0.5,wave=1", "halting"),
    ("one after another, verifier", "best_of_n:samples=WIDTH,enough=1,wave=1", "verifier"),
)  # fmt: skip
SHUFFLES = 4
MAX_DROP = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedPolicy:
    """One policy on the second half of the puzzles. `flops_share`: of the fixed width's."""

    policy: str
    accuracy: Interval | None = None
    difference: Interval | None = None  # to the fixed width's vote, paired
    flops_share: Interval | None = None
    samples: float | None = None
    refused: str = ""


def adaptive_results(
    explored: Explored, task: GridTask, *, width: int, depth: int, max_drop: float = MAX_DROP,
    seed: int = 0,
) -> tuple[PlayedPolicy, ...]:  # fmt: skip
    """Every policy on one half of the puzzles; the certified one is calibrated on the other."""
    order = np.random.default_rng(seed).permutation(len(explored.puzzles))
    half = len(order) // 2
    sets = {
        score: Source(traces_of(_part(explored, order[half:]), task, depth=depth, score=score))
        for score in ("verifier", "halting", "value")
    }
    fixed = _measured(parse_policy(_at(POLICIES[0][1], width)), sets["verifier"])
    found = [
        _row(name, _measured(parse_policy(_at(text, width)), sets[score]), fixed)
        for name, text, score in POLICIES
    ]
    name = f"certified: at most {100 * max_drop:g} points below the fixed width's vote"
    try:
        calibrated = calibrate(
            traces_of(_part(explored, order[:half]), task, depth=depth),
            CalibrateConfig(
                max_drop=max_drop, baseline=_at(POLICIES[0][1], width), seed=seed,
                prices=COMPLETIONS_ALONE,
            ),
        )  # fmt: skip
        policy = certified_policy(calibrated.file, parse_policy)
    except (InputError, NothingFeasible) as error:
        return (*found, PlayedPolicy(policy=name, refused=str(error)))
    return (*found, _row(name, _measured(policy, sets["verifier"]), fixed))


def _at(text: str, width: int) -> str:
    return text.replace("WIDTH", str(width))


def _measured(policy: AnyPolicy, source: Source) -> Measured:
    return measure(
        "", policy, source, range(len(source.traces.questions)),
        cost_model=count_tokens_only, shuffles=SHUFFLES,
    )  # fmt: skip


def _row(name: str, found: Measured, fixed: Measured) -> PlayedPolicy:
    return PlayedPolicy(
        policy=name,
        accuracy=mean_interval(found.correct),
        difference=difference_interval(found.correct - fixed.correct),
        flops_share=ratio_interval(found.tokens, fixed.tokens),
        samples=float(found.samples.mean()),
    )


def _part(explored: Explored, chosen: np.ndarray) -> Explored:
    return replace(
        explored,
        puzzles=explored.puzzles.take(chosen),
        answers=explored.answers[:, chosen],
        halting=explored.halting[:, chosen],
        value=explored.value[:, chosen],
        right=explored.right[:, chosen],
        code=explored.code[:, chosen],
    )
