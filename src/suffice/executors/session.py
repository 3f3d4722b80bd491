"""One request under its policy: samples, budget, decisions. No I/O and no clock of its own.

A driver tells the session what happened (`chunk`, `finish`, `fail`, `tick`, each with the time) and
carries out the commands it gets back. The live loop and replay drive the same session, so a policy
cannot overspend in either: whatever it asks, a sample starts only with tokens that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from suffice.backends.protocol import Chunk
from suffice.core.completions import (
    Budget,
    Completion,
    CostModel,
    Outcome,
    count_tokens_only,
)
from suffice.core.decisions import (
    Action,
    Actions,
    Answer,
    AnyPolicy,
    CallTool,
    Cancel,
    CancelTool,
    ChunkSeen,
    Escalate,
    Evidence,
    Sample,
    SampleFailed,
    SampleFinished,
    Tick,
    ToolFailed,
    Trigger,
)
from suffice.core.errors import (
    BackendError,
    BudgetTooSmall,
    PolicyMisbehaved,
)
from suffice.core.requests import Request
from suffice.executors.budget_account import BudgetAccount, Refused
from suffice.executors.launches import launcher
from suffice.executors.pace import PACE, Pace
from suffice.executors.running_sample import Launch
from suffice.executors.sample_book import SampleBook
from suffice.executors.settlement import (
    accepted,
    best_of,
    confidence_of,
    failure_of,
    joint_error,
    usage_of,
)
from suffice.executors.tool_book import CallEnded, StartCall, StopCall, ToolBook

# A policy that asks again after every refusal would never end; this many refused actions end it.
MAX_REFUSALS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Command: close this sample's stream; its record says why."""

    sample: int


Command = Launch | Stop | StartCall | StopCall


class Session:
    """The state of one request being answered; every method returns what the driver must do."""

    def __init__(
        self,
        policy: AnyPolicy,
        request: Request,
        *,
        budget: Budget | None = None,
        cost_model: CostModel = count_tokens_only,
        logprobs: bool = True,
        reached: set[int] | None = None,
        pace: Pace = PACE,
    ) -> None:
        """`logprobs=False`: the backend has none, so wishes for them are dropped.

        `reached` holds the samples whose request is with an engine: a driver says so by `reach`.
        None: all are, as in a replay.
        """
        self.policy = policy
        self.request = request
        self.decision: Answer | Escalate | None = None
        self._logprobs = logprobs
        self._account = BudgetAccount(budget or Budget(), cost_model)
        self._book = SampleBook(self._account, reached, pace)
        self._tools = ToolBook(self._account.budget, request.tools)
        self._state: object = None
        self._refusals = 0
        self._began_s = 0.0
        self._deadline_s: float | None = None
        self._commands: list[Command] = []

    @property
    def decided(self) -> bool:
        """Whether the policy (or the budget) has settled the request."""
        return self.decision is not None

    @property
    def deadline_s(self) -> float | None:
        """Time at which the budget ends, on the driver's clock."""
        return self._deadline_s

    @property
    def catch_up(self) -> Callable[[int], None] | None:
        """For drivers that do not book every token as it comes (SampleBook.catch_up)."""
        return self._book.catch_up

    @catch_up.setter
    def catch_up(self, catch_up: Callable[[int], None] | None) -> None:
        self._book.catch_up = catch_up

    def completion_of(self, sample: int) -> Completion:
        """What a sample has given so far."""
        return self._book.of(sample).completion()

    def start(self, now_s: float) -> list[Command]:
        """Ask the policy for its first actions."""
        self._began_s = now_s
        self._tools.start(now_s)
        limit_s = self._account.budget.elapsed_s
        self._deadline_s = None if limit_s is None else now_s + limit_s
        self._state, actions = self.policy.start(self.request)
        self._carry_out(actions, now_s)
        self._settle_if_stalled()
        return self._take_commands()

    def chunk(self, sample: int, chunk: Chunk, now_s: float) -> list[Command]:
        """Tokens of a running sample arrived. A finish reason in it still needs `finish`."""
        running = self._book.running.get(sample)
        if running is None or self.decided:
            return []
        seen = running.add(chunk, now_s)
        if running.overran and chunk.finish_reason is None:
            # The engine ignores max_tokens: the grant is all it gets. Complete without a finish
            # reason of its own, its stream is the driver's to close.
            running.finish_reason = "length"
        return self._feed(now_s, seen)

    def reach(self, sample: int, reached: bool = True) -> None:
        """A sample's request is with its engine, or is not after all."""
        self._book.reach(sample, reached)

    def book(self, sample: int, chunk: Chunk, now_s: float) -> None:
        """Count a running sample's tokens without telling the policy."""
        self._book.running[sample].book(chunk, now_s)

    def see(self, seen: ChunkSeen, now_s: float) -> list[Command]:
        """Tell the policy of tokens that are booked already."""
        return [] if self.decided else self._feed(now_s, seen)

    def acts_on(self, sample: int) -> Trigger:
        """What the policy acts on in a running sample now."""
        return self.policy.acts_on(self._state, sample)

    @property
    def needs_tokens(self) -> bool:
        """Whether the budget wants to know what running samples have drawn so far."""
        return self._account.budget.elapsed_s is not None or self._account.is_limited

    def unstreamed(self, sample: int) -> None:
        """A sample is asked for without a stream: nothing of it is seen before its end."""
        self._book.running[sample].unstreamed = True

    def is_unstreamed(self, sample: int) -> bool:
        """Whether a running sample is asked for without a stream."""
        return self._book.running[sample].unstreamed

    def is_running(self, sample: int) -> bool:
        """Whether chunks of the sample are still wanted."""
        running = self._book.running.get(sample)
        return running is not None and running.finish_reason is None and not self.decided

    def is_complete(self, sample: int) -> bool:
        """Whether the sample has ended by itself and waits for `finish`."""
        running = self._book.running.get(sample)
        return running is not None and running.finish_reason is not None

    def finish(
        self, sample: int, now_s: float, *, answer: str | None, score: float | None = None
    ) -> list[Command]:
        """A sample ended by itself; `answer` is its comparable key."""
        running = self._book.end(sample, "finished", now_s)
        if running is None:
            return []
        running.answer, running.score = answer, score
        evidence = SampleFinished(
            sample=sample,
            completion=running.completion(),
            answer=answer,
            score=score,
            confidences=running.confidences,
        )
        return self._feed(now_s, evidence)

    def fail(self, sample: int, error: BackendError, now_s: float) -> list[Command]:
        """A sample's stream broke."""
        if sample in self._book.running:
            self._book.errors[sample] = error
        running = self._book.end(sample, "failed", now_s)
        if running is None:
            return []
        running.reason = str(error)
        evidence = SampleFailed(sample=sample, reason=failure_of(error), message=str(error))
        return self._feed(now_s, evidence)

    def attempt_call(self, call: int) -> None:
        """A tool call goes to its tool, for the first time or once more."""
        self._tools.attempt(call)

    def end_call(self, ended: CallEnded, now_s: float) -> list[Command]:
        """A tool call ended, with a result or without."""
        evidence = self._tools.end(ended, now_s)
        return [] if evidence is None else self._feed(now_s, evidence)

    def tick(self, now_s: float) -> list[Command]:
        """Time passed; past the deadline the request is settled with what there is."""
        return self._feed(now_s, self._tick(now_s))

    def outcome(self, now_s: float, *, overhead_s: float = 0.0) -> Outcome:
        """The result, once decided; what still runs is booked as cancelled. Raises NoAnswer."""
        decision = self.decision
        if decision is None:
            raise PolicyMisbehaved(f"policy {self.policy.name} was asked for its result too early")
        chosen = decision.sample if isinstance(decision, Answer) else decision.best
        for sample in tuple(self._book.running):
            self._book.end(sample, "cancelled", now_s, "another sample was accepted")
        for call in tuple(self._tools.running):
            self._tools.cancel(call, now_s, "the request was answered")
        if chosen is not None and chosen in self._book.numbers and chosen not in self._book.ended:
            raise self._too_small()
        if chosen is not None and chosen not in self._book.ended:
            raise PolicyMisbehaved(
                f"policy {self.policy.name} answered with sample {chosen}, which it never drew"
            )
        if chosen is None or self._book.ended[chosen].status == "failed":
            raise self._no_answer(decision.why)
        completion = accepted(decision, self._book.ended[chosen].completion())
        records = self._book.records()
        return Outcome(
            completion=completion,
            sample=chosen,
            arm=self.policy.name,
            why=decision.why,
            confidence=confidence_of(decision, records, chosen),
            measure=decision.measure,
            usage=usage_of(records),
            cost=self._account.cost_of(records),
            records=records,
            elapsed_s=now_s - self._began_s,
            overhead_s=overhead_s,
            escalated=isinstance(decision, Escalate),
            exit=decision.exit,
            certificate=decision.certificate,
            note=decision.note,
            tool_records=self._tools.records(),
        )

    def _feed(self, now_s: float, evidence: Evidence) -> list[Command]:
        if self.decision is None:
            self._state, actions = self.policy.step(self._state, evidence)
            if actions:
                self._carry_out(actions, now_s)
        last_s = self._deadline_s
        if last_s is not None and now_s >= last_s and self.decision is None:
            self._settle_with_best("time budget reached")
        self._settle_if_stalled()
        return self._take_commands()

    def _carry_out(self, actions: Actions, now_s: float) -> None:
        queue: list[Action] = list(actions)
        while queue and self.decision is None:
            action = queue.pop(0)
            siblings = 1 + sum(isinstance(each, CallTool) for each in queue)
            refusals = self._act(action, now_s, siblings)
            self._refusals += bool(refusals)
            if self._refusals > MAX_REFUSALS:
                self._settle_with_best("budget spent, the policy kept asking")
                return
            for refused in refusals:
                self._state, more = self.policy.step(self._state, refused)
                queue.extend(more)

    def _act(
        self, action: Action, now_s: float, siblings: int
    ) -> Sequence[SampleFailed | ToolFailed]:  # fmt: skip
        match action:
            case Sample():
                return self._launch(action, now_s)
            case CallTool():
                begun = self._tools.begin(action, now_s, siblings=siblings)
                if isinstance(begun, ToolFailed):
                    return [begun]
                self._commands.append(begun)
            case CancelTool():
                if self._tools.cancel(action.call, now_s, action.why or "policy"):
                    self._commands.append(StopCall(call=action.call))
            case Cancel():
                why = action.why or "policy"
                if self._book.end(action.sample, "cancelled", now_s, why) is not None:
                    self._commands.append(Stop(sample=action.sample))
            case Answer() | Escalate():
                self.decision = action
            case _:
                assert_never(action)
        return []

    def _launch(self, action: Sample, now_s: float) -> list[SampleFailed]:
        refused = []
        base = launcher(action, self.request, logprobs=self._logprobs)
        for position, number in enumerate(action.samples):
            if number in self._book.numbers:
                raise PolicyMisbehaved(
                    f"policy {self.policy.name} drew sample {number} twice; each number names one"
                )
            begun = self._book.begin(number, base, now_s, siblings=len(action.samples) - position)
            if isinstance(begun, Refused):
                why = self._account.refusal
                refused.append(SampleFailed(sample=number, reason="budget", message=why))
            else:
                self._commands.append(begun)
        return refused

    def _settle_if_stalled(self) -> None:
        if self._book.running or self._tools.running:
            return
        if not self._book.ended and (self._account.refusal or not self.decided):
            raise self._too_small()
        if not self.decided:
            self._settle_with_best("the policy stopped without an answer")

    def _settle_with_best(self, why: str) -> None:
        ended, running = tuple(self._book.ended.values()), tuple(self._book.running.values())
        self.decision = best_of(ended, running, why)

    def _no_answer(self, why: str) -> BackendError | BudgetTooSmall:
        if not self._book.ended and self._account.refusal:
            return self._too_small()
        return joint_error(self._book.errors, why)

    def _too_small(self) -> BudgetTooSmall:
        why = self._account.refusal or "it asked for none"
        return BudgetTooSmall(
            f"the budget leaves no room for the sample that policy {self.policy.name} needs: "
            f"{why}; raise the budget"
        )

    def _tick(self, now_s: float) -> Tick:
        return Tick(elapsed_s=now_s - self._began_s, cost=self._book.cost_so_far())

    def _take_commands(self) -> list[Command]:
        commands = self._commands
        if commands:
            self._commands = []
            return commands
        return []
