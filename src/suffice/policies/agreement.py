"""Stop as soon as the samples agree enough: Adaptive-Consistency, ESC, agreement of two models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from suffice.core.coverage import Exit, Note
from suffice.core.decisions import Actions, Answer, Escalate, Need, Sample
from suffice.core.errors import InputError
from suffice.core.requests import Request
from suffice.policies.sampling_state import (
    PATIENCE,
    SCATTER,
    Pool,
    PoolPolicy,
    at_least,
    is_count,
    is_share,
    one_sample,
    option,
)
from suffice.policies.votes import (
    beta_agreement,
    dirichlet_agreement,
    top_two,
    votes_needed,
)

Criterion = Literal["beta", "dirichlet"]
Counts = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveConsistency(PoolPolicy):
    """Sample until the majority is stable with probability `threshold`, at most `max_samples`.

    As many samples are in flight as the best case still needs, which is never more than drawing
    them one by one would take, so that the paper's sample count comes without its latency.
    `ahead` draws further ones on speculation and cancels them when the rule stops.
    """

    threshold: float = option(0.95, "probability that the majority would not change")
    max_samples: int = option(40, "cap on samples; 8 loses points on hard sets")
    criterion: Criterion = option("beta", "beta (leader against runner-up) or dirichlet (all)")
    ahead: int = option(0, "samples drawn on speculation, for latency")
    escalate_below: float | None = option(
        None, "give up instead of answering if the cap is reached with less agreement than this"
    )
    scatter: int | None = option(
        SCATTER, "answers, no two of them equal, after which it gives in (none: never)"
    )

    name: ClassVar[str] = "adaptive_consistency"
    paper: ClassVar[str] = "2305.11860"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_share("threshold", self.threshold)
        is_count("max_samples", self.max_samples, 1)
        is_count("ahead", self.ahead, 0)
        if self.escalate_below is not None:
            is_share("escalate_below", self.escalate_below)
        if self.scatter is not None:
            at_least("scatter", self.scatter, PATIENCE)
        if self.criterion not in ("beta", "dirichlet"):
            raise InputError(f"criterion must be beta or dirichlet, got {self.criterion!r}")

    def opening(self) -> tuple[Pool, Actions]:
        return self._draw(Pool(), ())

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        counts = state.counts
        agreement = self._agreement(counts)
        if agreement >= self.threshold:
            why = f"agreement {agreement:.3f} reaches {self.threshold:g} after {len(state.seen)}"
            early: Exit = "accepted" if len(state.seen) < self.max_samples else "safe"
            return state, state.majority(why, agreement, early)
        if self._is_lost(state, counts):
            return state, () if state.running else state.scattered(self.max_samples)
        state, actions = self._draw(state, counts)
        if actions or state.running:
            return state, actions
        why = f"cap of {self.max_samples} samples, agreement {agreement:.3f}"
        if self.escalate_below is not None and agreement < self.escalate_below:
            best = state.first_with(counts[0][0]).sample if counts else None
            given_up = Escalate(why=why, best=best, measure=agreement, exit="safe")
            return state, (given_up,)
        return state, state.majority(why, agreement, "safe")

    def agreement(self, state: Pool) -> float:
        """Probability that the current majority is the true one; 0 without a vote."""
        return self._agreement(state.counts)

    def _agreement(self, counts: Counts) -> float:
        if not counts:
            return 0.0
        if self.criterion == "beta":
            return beta_agreement(*top_two(counts))
        return dirichlet_agreement(tuple(votes for _, votes in counts))

    def _is_lost(self, state: Pool, counts: Counts) -> bool:
        """Whether so many samples have come, and no two of them agree."""
        scattered = not counts or counts[0][1] == 1
        return self.scatter is not None and scattered and len(state.seen) >= self.scatter

    def _draw(self, state: Pool, counts: Counts) -> tuple[Pool, Actions]:
        left = 0 if state.closed else self.max_samples - state.launched
        # Nothing is drawn beyond the point at which it would give in.
        if not counts:
            left = min(left, max(0, PATIENCE - state.launched) if state.launched else left)
        elif self.scatter is not None and counts[0][1] == 1:
            left = min(left, max(0, self.scatter - state.launched))
        # Rivals only make the Dirichlet criterion harder to meet: the Beta count is a lower bound.
        needed = max(1, votes_needed(*top_two(counts), self.threshold, self.max_samples))
        return state.launch(
            min(left, needed + self.ahead - len(state.running)), whole=self._all_end
        )

    @property
    def _all_end(self) -> bool:
        """Whether no sample is taken back: none is drawn that the rule could do without."""
        return self.ahead == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping(PoolPolicy):
    """Windows of `window` samples; stop when one window is unanimous, then vote over all (ESC)."""

    window: int = option(5, "samples per window")
    max_samples: int = option(40, "cap on samples")

    name: ClassVar[str] = "esc"
    paper: ClassVar[str] = "2401.10480"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        at_least("window", self.window, 2)
        is_count("max_samples", self.max_samples, self.window)

    def opening(self) -> tuple[Pool, Actions]:
        return Pool().launch(self.window, whole=True)

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        if state.running:
            return state, ()
        opened = (state.launched - 1) // self.window * self.window
        answers = [seen.answer for seen in state.seen if seen.sample >= opened]
        whole = len(answers) == self.window
        if whole and answers[0] is not None and len(set(answers)) == 1:
            why = f"unanimous window of {self.window} after {len(state.seen)} samples"
            early: Exit = "accepted" if len(state.seen) < self.max_samples else "safe"
            return state, state.majority(why, exit=early)
        if state.all_differ and len(state.seen) >= SCATTER:
            return state, state.scattered(self.max_samples)
        left = 0 if state.closed else self.max_samples - state.launched
        if left > 0:
            return state.launch(min(left, self.window), whole=True)
        return state, state.majority(f"cap of {self.max_samples} samples", exit="safe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement(PoolPolicy):
    """One sample from each of several cheap models: answer if all agree, else give up.

    Meant as a rung of a cascade. Its measure is 1 or the share of the leading answer.
    """

    models: tuple[str, ...] = option((), "upstream models, e.g. small-a+small-b")

    name: ClassVar[str] = "agreement"
    paper: ClassVar[str] = "2310.03094"
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __post_init__(self) -> None:
        is_count("number of models", len(self.models), 2)

    def compares(self, request: Request) -> Note | None:
        """Models differ where copies of one sample do not."""
        return "free_form" if request.answer_format is None else None

    def alone(self, note: Note) -> tuple[Pool, Actions]:
        """One sample of the last model."""
        return one_sample(note, model=self.models[-1])

    def opening(self) -> tuple[Pool, Actions]:
        numbers = tuple(range(len(self.models)))
        drawn = tuple(Sample(samples=(n,), model=self.models[n]) for n in numbers)
        return Pool(launched=len(numbers), running=numbers), drawn

    def decide(self, state: Pool) -> tuple[Pool, Actions]:
        counts = state.counts
        unmatched = len(counts) > 1 or state.failed or any(s.answer is None for s in state.seen)
        if unmatched:
            why = "the models do not agree"
            best = self._leader(state)
            agreed = counts[0][1] / len(self.models) if counts else None
            return replace(state, running=()), (Escalate(why=why, best=best, measure=agreed),)
        if state.running:
            return state, ()
        first = self._leader(state)
        assert first is not None  # all of them gave one answer
        return state, (Answer(sample=first, why=f"{len(self.models)} models agree", measure=1.0),)

    def _leader(self, state: Pool) -> int | None:
        """The sample of the most frequent answer, of the model that is named first.

        By the order of the names and not of arrival, so that the same question is answered alike
        whichever engine is quicker.
        """
        votes = dict(state.counts)
        answered = [seen for seen in state.seen if seen.answer is not None]
        found = min(answered, key=lambda s: (-votes[s.answer or ""], s.sample), default=None)
        return None if found is None else found.sample
