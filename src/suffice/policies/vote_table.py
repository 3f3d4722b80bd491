"""A vote that ends by a table: how many votes settle it, and from when on it is handed up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

from suffice.core.decisions import Actions, Escalate, Need
from suffice.core.errors import InputError
from suffice.policies.sampling_state import Pool, PoolPolicy, is_count, option
from suffice.policies.votes import top_two

TableDecision = Literal["answer", "escalate", "go on"]
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
NEVER = "-"


class State(NamedTuple):
    """Finished samples, votes of the leading answer and of the runner-up."""

    samples: int
    lead: int
    second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteTable(PoolPolicy):
    """Stop as soon as a fitted table says that the vote is settled, or not worth more samples.

    Entry n of `answer` holds a digit (0-9, a-z) for every number of votes of the runner-up: the
    least votes of the leader, after n samples, at which it answers; `-` and what is beyond the
    entry's end: never. `escalate` alike: the most votes of the leader at which it gives up, for
    the next rung of a cascade. `suffice calibrate` fits such tables.
    """

    answer: tuple[str, ...] = option(("-", "2", "00"), "by samples: least votes that settle it")
    escalate: tuple[str, ...] = option((), "by samples: most votes at which it gives up")

    name: ClassVar[str] = "vote_table"
    paper: ClassVar[str] = "2305.11860"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_count("entries of answer", len(self.answer), 1)
        if len(self.escalate) > len(self.answer):
            raise InputError(
                f"escalate has {len(self.escalate)} entries, answer {len(self.answer)}: the last "
                "entry of answer is the cap"
            )
        for name in ("answer", "escalate"):
            for row in getattr(self, name):
                if not set(row) <= set(DIGITS + NEVER):
                    raise InputError(f"{name} {row!r} must be of 0-9, a-z and -")

    @property
    def max_samples(self) -> int:
        """Samples at most: the table's entries."""
        return len(self.answer)

    @property
    def text(self) -> str:
        """The policy as `--policy` takes it, without a model."""
        rows = f"vote_table:answer={'+'.join(self.answer)}"
        return f"{rows},escalate={'+'.join(self.escalate)}" if self.escalate else rows

    @property
    def patience(self) -> None:
        """The table itself says when to give up."""
        return None

    def verdict(self, state: State) -> TableDecision:
        """What the table says; at the cap a vote that is not handed on is answered."""
        n = state.samples
        if state.lead >= _entry(self.answer, n, state.second, default=DIGITS_END):
            return "answer"
        if state.lead <= _entry(self.escalate, n, state.second, default=-1):
            return "escalate"
        return "answer" if n >= self.max_samples else "go on"

    def opening(self) -> tuple[Pool, Actions]:
        return self._draw(Pool(), State(0, 0, 0))

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        counts = state.counts
        votes = State(len(state.seen), *top_two(counts))
        verdict = self.verdict(votes) if state.seen else "go on"
        early = verdict == "answer" and votes.samples < self.max_samples
        if verdict == "go on":
            state, actions = self._draw(state, votes)
            if actions or state.running:
                return state, actions
            verdict = "answer"  # the budget is spent, or nothing but failures came back
        said = f"{votes.lead} to {votes.second} after {votes.samples} samples"
        share = votes.lead / votes.samples if votes.samples else None
        if verdict == "escalate":
            best = state.first_with(counts[0][0]).sample if counts else None
            return state, (Escalate(why=f"not settled: {said}", best=best, measure=share),)
        why = f"agreement {said}" if early else f"cap, {said}"
        return state, state.majority(why, share, "accepted" if early else "safe")

    def _draw(self, pool: Pool, votes: State) -> tuple[Pool, Actions]:
        left = 0 if pool.closed else self.max_samples - pool.launched
        needed = least_further(self, votes)
        return pool.launch(min(left, max(1, needed) - len(pool.running)), whole=True)


DIGITS_END = len(DIGITS)  # more votes than a digit can tell


def _entry(rows: tuple[str, ...], samples: int, second: int, default: int) -> int:
    if not 0 < samples <= len(rows) or second >= len(rows[samples - 1]):
        return default
    digit = rows[samples - 1][second]
    return default if digit == NEVER else DIGITS.index(digit)


@lru_cache(maxsize=65536)
def least_further(table: VoteTable, state: State) -> int:
    """Least further samples after which the table can end the vote, whatever they answer.

    That many may be drawn at once: one by one it would take no fewer.
    """
    here, steps = {state}, 0
    while not any(each.samples and table.verdict(each) != "go on" for each in here):
        here = {after for each in here for after in _next(each)}
        steps += 1
    return steps


def _next(state: State) -> tuple[State, ...]:
    """Votes after one more sample: for the leader, the runner-up, or anyone else."""
    n, lead, second = state.samples + 1, state.lead, state.second
    rival = State(n, lead, second + 1) if second < lead else State(n, lead + 1, second)
    return State(n, lead + 1, second), rival, State(n, lead, second)
