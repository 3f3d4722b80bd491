"""Fits of vote tables: backward induction over what recorded votes came to.

After n samples a vote is known by the votes of the leader and of the runner-up. For a price of a
lost question, each such state answers, is handed to the strong arm, or draws on, whichever is
cheapest in the mean over the recorded votes that passed through it. High prices give safe tables,
low prices cheap ones: a path. The fit is only a choice; the certifying questions test it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from suffice.core.arrays import BoolArray, FloatArray, IntArray
from suffice.policies.vote_table import DIGITS, NEVER, VoteTable
from suffice.policies.votes import beta_agreement
from suffice.recipes.calibrate.stopping_times import Votes

# Questions below which a state is not judged by what was seen there but by the Beta criterion.
FEW = 2.0
CUSTOMARY = 0.95
# Of a question: put on the loss of answering in any state, so that rare states look risky.
PSEUDO_LOSS = 0.2
ANSWER, ESCALATE, GO_ON = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Strong:
    """The arm that unsettled votes are handed to, on the same questions."""

    right: BoolArray
    answered: BoolArray
    answer: IntArray  # codes in the recording
    cost: FloatArray

    def at(self, index: IntArray) -> Strong:
        """The questions of `index`."""
        return Strong(
            right=self.right[index],
            answered=self.answered[index],
            answer=self.answer[index],
            cost=self.cost[index],
        )


def fit_table(
    orders: tuple[Votes, ...], costs: tuple[FloatArray, ...], reference: FloatArray, price: float,
    strong: Strong | None = None,
) -> VoteTable:  # fmt: skip
    """The table that minimises cost + price x lost questions on recorded votes.

    `orders` are the same questions with their samples in several orders, `costs` what each vote
    has cost after each sample; `reference` is the rate at which the baseline is right on each;
    `price` is in the unit of the costs.
    """
    cap, count = orders[0].cap, len(orders)
    lead = np.concatenate([votes.lead for votes in orders])
    second = np.concatenate([votes.second for votes in orders])
    right = np.concatenate([votes.right for votes in orders])
    cost = np.concatenate(costs)
    base = np.tile(reference, count)
    handed = None
    if strong is not None:
        loss = np.tile(reference - strong.right, count)
        handed = np.tile(strong.cost, count) + price * loss
    width = cap + 1
    answer, escalate = [""] * cap, [""] * cap
    ahead: FloatArray = np.zeros(len(base))  # cost to come after the next sample, per row
    for n in range(cap, 0, -1):
        at = n - 1
        code = lead[:, at] * width + second[:, at]
        seen = np.bincount(code, minlength=width * width).astype(np.float64)
        safe = np.maximum(seen, 1.0)
        lost = np.bincount(code, base - right[:, at], width * width)
        options = np.full((3, width * width), np.inf)
        options[ANSWER] = price * lost / safe
        if handed is not None:
            options[ESCALATE] = np.bincount(code, handed, width * width) / safe
        if n < cap:
            more = cost[:, n] - cost[:, at] + ahead
            options[GO_ON] = np.bincount(code, more, width * width) / safe
        # Caution decides and is not booked: in sums to come it would make drawing on look bad.
        caution = price * PSEUDO_LOSS * count * (n < cap) / safe
        chosen = np.argmin(options + np.array([[1.0], [0.0], [0.0]]) * caution, axis=0)
        few = seen < FEW * count
        chosen[few] = np.where(_customary(width)[few], ANSWER, GO_ON if n < cap else ANSWER)
        rest = GO_ON if n < cap else ANSWER
        chosen = _monotone(chosen.reshape(width, width), seen.reshape(width, width), n, rest)
        answer[at], escalate[at] = _rows(chosen, n)
        value = np.take_along_axis(options, chosen.reshape(1, -1), axis=0)[0]
        ahead = value[code]
    whole = VoteTable(answer=tuple(answer), escalate=tuple(escalate))
    # Entries that no recorded vote came to hold nothing that was seen.
    cap = max(int(stops_of(whole, votes)[0].max()) for votes in orders)
    given = escalate[:cap]
    while given and given[-1] == NEVER:
        given.pop()
    return VoteTable(answer=tuple(answer[:cap]), escalate=tuple(given))


def _customary(width: int) -> BoolArray:
    """States, by their code, in which Adaptive-Consistency's customary threshold is reached."""
    found = np.zeros((width, width), dtype=bool)
    for lead in range(1, width):
        for second in range(min(lead, width - lead - 1) + 1):
            found[lead, second] = beta_agreement(lead, second) >= CUSTOMARY
    return found.ravel()


def _monotone(chosen: IntArray, seen: FloatArray, n: int, rest: int) -> IntArray:
    """The choices made a table: above some lead answered, below some other handed on.

    Each column (votes of the runner-up) keeps the answers at its top and the handed at its bottom;
    `rest` is what happens between.
    """
    found = np.full_like(chosen, rest)
    for second in range(n // 2 + 1):
        leads = [v for v in range(second, n - second + 1) if seen[v, second] > 0]
        least, most = n - second + 1, -1
        for v in reversed(leads):
            if chosen[v, second] != ANSWER:
                break
            least = v
        for v in leads:
            if chosen[v, second] != ESCALATE:
                break
            most = v
        found[least:, second] = ANSWER
        found[: most + 1, second] = ESCALATE
    return found


def _rows(chosen: IntArray, n: int) -> tuple[str, str]:
    """The table's entries after n samples."""
    answer = escalate = ""
    for second in range(n // 2 + 1):
        column = chosen[: n + 1, second]
        answered, handed = np.flatnonzero(column == ANSWER), np.flatnonzero(column == ESCALATE)
        answer += _digit(int(answered[0])) if answered.size else NEVER
        escalate += _digit(int(handed[-1])) if handed.size else NEVER
    return answer.rstrip(NEVER) or NEVER, escalate.rstrip(NEVER) or NEVER


def _digit(value: int) -> str:
    return DIGITS[value] if value < len(DIGITS) else NEVER


def stops_of(table: VoteTable, votes: Votes) -> tuple[IntArray, BoolArray]:
    """(samples drawn, whether it is handed on) of a table on recorded votes."""
    width = votes.cap + 1
    ends = np.zeros((len(votes.lead), votes.cap), dtype=bool)
    given = np.zeros_like(ends)
    for n in range(1, min(votes.cap, table.max_samples) + 1):
        lead, second = votes.lead[:, n - 1], votes.second[:, n - 1]
        least, most = _limits(table, n, width)
        answered = (lead >= least[second]) & (n <= table.max_samples)
        given[:, n - 1] = ~answered & (lead <= most[second])
        ends[:, n - 1] = answered | given[:, n - 1]
    ends[:, min(votes.cap, table.max_samples) - 1] = True
    stop = np.argmax(ends, axis=1)
    return stop.astype(np.int64) + 1, given[np.arange(len(stop)), stop]


def _limits(table: VoteTable, n: int, width: int) -> tuple[IntArray, IntArray]:
    """Least lead that answers and most that is handed on, by votes of the runner-up."""
    least, most = np.full(width, width + 1), np.full(width, -1)
    for second, digit in enumerate(table.answer[n - 1]):
        if digit != NEVER:
            least[second] = DIGITS.index(digit)
    for second, digit in enumerate(table.escalate[n - 1] if n <= len(table.escalate) else ""):
        if digit != NEVER:
            most[second] = DIGITS.index(digit)
    return least, most
