"""What labels say of a shadowed request: which answers were right, and what is lost by that.

    harm   1 where only the safe answer is right, else 0
    net    that, and -1 where only the candidate's is right

Labels may tell of one answer alone. Equal answers are right or wrong together, and where two
differ, at most one of them is right: so one label often tells the loss of all candidates. Where two
that differ are both called right, nothing is lost.

Evidence takes an unlabelled difference for a loss of 1 until the label comes, which is never less
than the truth. Let W be the wealth if every loss were known at once. What is known at any moment
gives no more than W over the same requests, so reaching 1/δ with it is reaching 1/δ with W, and the
promise holds whichever requests are labelled, by whom and when. The other way is to leave out what
nobody labels (`left_out`). Then evidence is of the labelled requests, and says something of the
others only if whether a request is labelled has nothing to do with its loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Loss = Literal["differ", "harm", "net"]
Unlabelled = Literal["lost", "left_out"]


def losses_of(
    differs: Sequence[bool | None], right: Sequence[bool | None], kind: Loss
) -> tuple[float | None, ...]:
    """Loss of every candidate; None: not run, or not known.

    `differs`: of each candidate from the safe answer. `right`: the safe answer, then each
    candidate's; None: not told.
    """
    safe, told = right[0], right[1:]
    for apart, correct in zip(differs, told, strict=True):
        if safe is None and correct is not None and apart is not None and (not apart or correct):
            safe = correct and not apart
    return tuple(
        None if apart is None else 0.0 if not apart else _lost(safe, correct, kind)
        for apart, correct in zip(differs, told, strict=True)
    )


def _lost(safe: bool | None, correct: bool | None, kind: Loss) -> float | None:
    """Where the two differ."""
    if safe is None:  # the candidate's is wrong, or nothing is told: the safe one may be right
        return None
    if safe:
        return float(not correct)
    return -1.0 if kind == "net" and correct else 0.0
