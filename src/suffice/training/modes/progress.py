"""What a line of progress says: how the responses were, how fast, and what is going wrong.

`loss` of GRPO is 0 by construction (centred advantages at a ratio of 1). What tells a run that
learns from one that does not: the gradient's norm, the share of groups whose rewards are all equal
(they teach nothing), the share of responses that were cut, the entropy of the choice, and how many
are right in each mode, which shows forgetting while it happens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from suffice.tasks.puzzles import Problem
from suffice.training.modes.rollout import Rollouts


class Pace:
    """Time, tokens a second and time left of a run, from an injected clock in seconds."""

    def __init__(self, clock: Callable[[], float], begun: int, steps: int) -> None:
        self._clock, self._begun, self._steps = clock, begun, steps
        self._started, self._tokens = clock(), 0

    def generated(self, drawn: Rollouts) -> None:
        """Count the tokens of one step's responses."""
        self._tokens += int(drawn.batch.mask_BT.sum())

    def figures(self, step: int) -> dict[str, float | None]:
        """`elapsed_s` of this stretch, `tokens_per_s` generated, `left_s` at this pace."""
        elapsed_s = self._clock() - self._started
        done = step - self._begun
        return {
            "elapsed_s": elapsed_s,
            "tokens_per_s": self._tokens / elapsed_s if elapsed_s > 0 else None,
            "left_s": elapsed_s / done * (self._steps - step) if done else None,
        }


def progress_line(
    phase: str, step: int, drawn: Rollouts, *, p_think: dict[str, float]
) -> dict[str, Any]:
    """What the responses of this step were like, and p(think) by task and difficulty."""
    reward_PG = drawn.by_problem(drawn.reward_B)
    flat_P = reward_PG.amax(dim=1) == reward_PG.amin(dim=1)
    return {
        "phase": phase,
        "step": step,
        "reward": float(drawn.reward_B.mean()),
        "accuracy": float(drawn.right_B.float().mean()),
        "tokens": float(drawn.batch.lengths_B.float().mean()),
        "think_share": float(drawn.think_B.float().mean()),
        "cut_share": float((~drawn.ended_B).float().mean()),
        "groups_without_spread": float(flat_P.float().mean()),
        "p_think": p_think,
    }


def right_by_mode(problems: Sequence[Problem], drawn: Rollouts) -> dict[str, dict[str, float]]:
    """Share of this step's responses that are right, by mode and "task/difficulty" where drawn."""
    hits: dict[str, dict[str, list[bool]]] = {"short": {}, "think": {}}
    names = [f"{p.task}/{p.difficulty}" for p in problems for _ in range(drawn.group)]
    for name, thinks, right in zip(
        names, drawn.think_B.tolist(), drawn.right_B.tolist(), strict=True
    ):
        hits["think" if thinks else "short"].setdefault(name, []).append(right)
    return {
        mode: {name: round(sum(rights) / len(rights), 4) for name, rights in sorted(cells.items())}
        for mode, cells in hits.items()
    }
