"""One request under its policy: samples, budget, decisions. No I/O and no clock of its own.

A driver tells the session what happened (`chunk`, `finish`, `fail`, `tick`, each with the time) and
carries out the commands it gets back. The live loop and replay drive the same session, so a policy
cannot overspend in either: whatever it asks, a sample starts only with tokens that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from suffice.backends.protocol import Chunk
from suffice.core.completions import (
    Budget,
    Completion,
    CostModel,
    Outcome,
    SampleRecord,
    Usage,
    count_tokens_only,
)
from suffice.core.decisions import (
    Action,
    Actions,
    Answer,
    AnyPolicy,
    Cancel,
    ChunkSeen,
    Escalate,
    Evidence,
    Failure,
    Sample,
    SampleFailed,
    SampleFinished,
    Tick,
    Trigger,
)
from suffice.core.errors import (
    BackendError,
    BudgetTooSmall,
    MalformedStream,
    NoAnswer,
    PolicyMisbehaved,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
)
from suffice.core.requests import Request
from suffice.executors.budget_account import BudgetAccount, Refused, estimate_prompt_tokens
from suffice.executors.pace import PACE, Pace
from suffice.executors.running_sample import Launch, RunningSample, Status

# A policy that asks again after every refusal would never end; this many refused actions end it.
MAX_REFUSALS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Command: close this sample's stream; its record says why."""

    sample: int


Command = Launch | Stop


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
        self._books = BudgetAccount(budget or Budget(), cost_model)
        self._state: object = None
        self._running: dict[int, RunningSample] = {}
        self._ended: dict[int, RunningSample] = {}
        self._errors: dict[int, BackendError] = {}
        self._numbers: set[int] = set()
        self._refusals = 0
        self._reached = reached
        self._pace = pace
        self._began_s = 0.0
        self._deadline_s: float | None = None
        self._commands: list[Command] = []
        # For drivers that do not book every token as it comes: called with a sample whose count is
        # about to matter, so that they can `book` what it has drawn by now.
        self.catch_up: Callable[[int], None] | None = None

    @property
    def decided(self) -> bool:
        """Whether the policy (or the budget) has settled the request."""
        return self.decision is not None

    @property
    def deadline_s(self) -> float | None:
        """Time at which the budget ends, on the driver's clock."""
        return self._deadline_s

    def completion_of(self, sample: int) -> Completion:
        """What a sample has given so far."""
        return (self._running.get(sample) or self._ended[sample]).completion()

    def start(self, now_s: float) -> list[Command]:
        """Ask the policy for its first actions."""
        self._began_s = now_s
        limit_s = self._books.budget.elapsed_s
        self._deadline_s = None if limit_s is None else now_s + limit_s
        self._state, actions = self.policy.start(self.request)
        self._carry_out(actions, now_s)
        self._settle_if_stalled()
        return self._take_commands()

    def chunk(self, sample: int, chunk: Chunk, now_s: float) -> list[Command]:
        """Tokens of a running sample arrived. A finish reason in it still needs `finish`."""
        running = self._running.get(sample)
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
        if self._reached is not None:
            (self._reached.add if reached else self._reached.discard)(sample)

    def book(self, sample: int, chunk: Chunk, now_s: float) -> None:
        """Count a running sample's tokens without telling the policy."""
        self._running[sample].book(chunk, now_s)

    def see(self, seen: ChunkSeen, now_s: float) -> list[Command]:
        """Tell the policy of tokens that are booked already."""
        return [] if self.decided else self._feed(now_s, seen)

    def acts_on(self, sample: int) -> Trigger:
        """What the policy acts on in a running sample now."""
        return self.policy.acts_on(self._state, sample)

    @property
    def needs_tokens(self) -> bool:
        """Whether the budget wants to know what running samples have drawn so far."""
        return self._books.budget.elapsed_s is not None or self._books.is_limited

    def unstreamed(self, sample: int) -> None:
        """A sample is asked for without a stream: nothing of it is seen before its end."""
        self._running[sample].unstreamed = True

    def is_unstreamed(self, sample: int) -> bool:
        """Whether a running sample is asked for without a stream."""
        return self._running[sample].unstreamed

    def is_running(self, sample: int) -> bool:
        """Whether chunks of the sample are still wanted."""
        running = self._running.get(sample)
        return running is not None and running.finish_reason is None and not self.decided

    def is_complete(self, sample: int) -> bool:
        """Whether the sample has ended by itself and waits for `finish`."""
        running = self._running.get(sample)
        return running is not None and running.finish_reason is not None

    def finish(
        self, sample: int, now_s: float, *, answer: str | None, score: float | None = None
    ) -> list[Command]:
        """A sample ended by itself; `answer` is its comparable key."""
        running = self._end(sample, "finished", now_s)
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
        if sample in self._running:
            self._errors[sample] = error
        running = self._end(sample, "failed", now_s)
        if running is None:
            return []
        running.reason = str(error)
        evidence = SampleFailed(sample=sample, reason=failure_of(error), message=str(error))
        return self._feed(now_s, evidence)

    def tick(self, now_s: float) -> list[Command]:
        """Time passed; past the deadline the request is settled with what there is."""
        return self._feed(now_s, self._tick(now_s))

    def outcome(self, now_s: float, *, overhead_s: float = 0.0) -> Outcome:
        """The result, once decided; what still runs is booked as cancelled. Raises NoAnswer."""
        decision = self.decision
        if decision is None:
            raise PolicyMisbehaved(f"policy {self.policy.name} was asked for its result too early")
        chosen = decision.sample if isinstance(decision, Answer) else decision.best
        for sample in tuple(self._running):
            self._end(sample, "cancelled", now_s, "another sample was accepted")
        if chosen is not None and chosen in self._numbers and chosen not in self._ended:
            raise self._too_small()
        if chosen is not None and chosen not in self._ended:
            raise PolicyMisbehaved(
                f"policy {self.policy.name} answered with sample {chosen}, which it never drew"
            )
        if chosen is None or self._ended[chosen].status == "failed":
            raise self._no_answer(decision.why)
        completion = self._ended[chosen].completion()
        if decision.text is not None:
            # What the server said besides was about its own text.
            completion = replace(completion, text=decision.text, finish_reason="stop", extras=None)
        elif completion.finish_reason == "cancelled":
            completion = replace(completion, finish_reason="length")
        records = tuple(self._record(running) for _, running in sorted(self._ended.items()))
        return Outcome(
            completion=completion,
            sample=chosen,
            arm=self.policy.name,
            why=decision.why,
            confidence=_confidence(decision, records, chosen),
            measure=decision.measure,
            usage=_total(records),
            cost=self._books.cost_of(records),
            records=records,
            elapsed_s=now_s - self._began_s,
            overhead_s=overhead_s,
            escalated=isinstance(decision, Escalate),
            exit=decision.exit,
            certificate=decision.certificate,
            note=decision.note,
        )

    def _record(self, running: RunningSample) -> SampleRecord:
        record = running.record()
        if not self._has_reached(running):
            return replace(record, reached=False, usage=Usage(), told=True)
        if record.usage.prompt_tokens or self._was_turned_away(running):
            return record
        # A stream that was cut before its last chunk never told its prompt tokens; a sibling with
        # the same prompt did, or they are guessed by its size.
        known = self._books.known_prompt_tokens(running.launch.prompt_key)
        prompt = estimate_prompt_tokens(running.launch) if known is None else known
        told = record.told and known is not None
        return replace(record, usage=replace(record.usage, prompt_tokens=prompt), told=told)

    def _has_reached(self, running: RunningSample) -> bool:
        return self._reached is None or running.launch.sample in self._reached or running.spoke

    def _was_turned_away(self, running: RunningSample) -> bool:
        """Whether the engine refused the request before it did anything for it."""
        error = self._errors.get(running.launch.sample)
        return isinstance(error, UpstreamRejected) and not running.tokens

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
            refusals = self._act(queue.pop(0), now_s)
            self._refusals += bool(refusals)
            if self._refusals > MAX_REFUSALS:
                self._settle_with_best("budget spent, the policy kept asking")
                return
            for refused in refusals:
                self._state, more = self.policy.step(self._state, refused)
                queue.extend(more)

    def _act(self, action: Action, now_s: float) -> list[SampleFailed]:
        match action:
            case Sample():
                return self._launch(action, now_s)
            case Cancel():
                if self._end(action.sample, "cancelled", now_s, action.why or "policy") is not None:
                    self._commands.append(Stop(sample=action.sample))
            case Answer() | Escalate():
                self.decision = action
            case _:
                assert_never(action)
        return []

    def _launch(self, action: Sample, now_s: float) -> list[SampleFailed]:
        refused = []
        base = self._prepare(action)
        for position, number in enumerate(action.samples):
            if number in self._numbers:
                raise PolicyMisbehaved(
                    f"policy {self.policy.name} drew sample {number} twice; each number names one"
                )
            self._numbers.add(number)
            launch = base(number, None)
            self._catch_up_all()
            granted = self._books.grant(
                launch,
                self._running.values(),
                siblings=len(action.samples) - position,
                first=not self._running and not self._ended,
            )
            if isinstance(granted, Refused):
                refused.append(
                    SampleFailed(sample=number, reason="budget", message=self._books.refusal)
                )
                continue
            if granted != launch.sampling.max_tokens:
                launch = base(number, granted)
            bound = self._books.prompt_bound(launch)
            self._running[number] = RunningSample(launch=launch, prompt_bound=bound, began_s=now_s)
            self._commands.append(launch)
        return refused

    def _prepare(self, action: Sample) -> Callable[[int, int | None], Launch]:
        """What makes the launch of a sample of `action`, by its number and the tokens granted."""
        request, base = self.request, self.request.sampling
        wished = action.top_logprobs if self._logprobs else None
        both = [value for value in (base.top_logprobs, wished) if value is not None]
        bounds = [value for value in (base.max_tokens, action.max_tokens) if value is not None]
        sampling = base
        sets = (action.max_tokens, action.temperature, wished, action.stop or None)
        if any(value is not None for value in sets):
            sampling = replace(
                base,
                max_tokens=min(bounds) if bounds else None,
                temperature=base.temperature if action.temperature is None else action.temperature,
                stop=base.stop + tuple(text for text in action.stop if text not in base.stop),
                top_logprobs=max(both) if both else None,
            )
        if action.messages is not None:
            request = replace(request, messages=action.messages)
        thinking = action.thinking if action.thinking is not None else request.thinking
        plain = not (action.messages or action.prefill or action.preface or action.stop) and (
            action.temperature is None and sampling.max_tokens == base.max_tokens
        )

        def launch(number: int, granted: int | None) -> Launch:
            drawn = sampling
            if granted is not None or sampling.seed is not None:
                seed = None if sampling.seed is None else sampling.seed + number
                most = sampling.max_tokens if granted is None else granted
                drawn = replace(sampling, seed=seed, max_tokens=most)
            return Launch(
                sample=number,
                request=request,
                sampling=drawn,
                model=action.model or request.model,
                thinking=thinking,
                prefill=action.prefill,
                preface=action.preface,
                purpose=action.purpose,
                final=action.final,
                plain=plain,
                whole=action.whole,
            )

        return launch

    def _end(
        self, sample: int, status: Status, now_s: float, reason: str | None = None
    ) -> RunningSample | None:
        if status == "cancelled" and self.catch_up is not None and sample in self._running:
            self.catch_up(sample)
        running = self._running.pop(sample, None)
        if running is None:
            return None
        running.end(status, now_s, reason)
        self._ended[sample] = running
        if running.unstreamed:
            self._reckon(running)
        if self._has_reached(running) and not self._was_turned_away(running):
            self._books.settle(running)
        return running

    def _reckon(self, running: RunningSample) -> None:
        """Learn a model's pace from an answer that came whole, or reckon by it what was drawn."""
        launch, elapsed_s = running.launch, (running.ended_s or 0.0) - running.began_s
        if running.status == "finished":
            self._pace.learn(launch.model, running.tokens, elapsed_s)
        elif self._has_reached(running) and not self._was_turned_away(running):
            most = launch.sampling.max_tokens
            running.tokens = self._pace.drawn(launch.model, elapsed_s, most)
            running.forget_completion()

    def _settle_if_stalled(self) -> None:
        if self._running:
            return
        if not self._ended and (self._books.refusal or not self.decided):
            raise self._too_small()
        if not self.decided:
            self._settle_with_best("the policy stopped without an answer")

    def _settle_with_best(self, why: str) -> None:
        """Settle without the policy: majority, else the last finished, else the longest partial."""
        finished = [r for r in self._ended.values() if r.status == "finished"]
        answers = [running.answer for running in finished if running.answer is not None]
        if answers:
            winner = max(answers, key=answers.count)
            best = next(r for r in finished if r.answer == winner)
            share = answers.count(winner) / len(answers)
            self.decision = Escalate(why=why, best=best.launch.sample, measure=share)
            return
        partial = [*finished[-1:], *sorted(self._running.values(), key=lambda r: -r.tokens)]
        usable = [running for running in partial if running.status == "finished" or running.spoke]
        best_sample = usable[0].launch.sample if usable else None
        self.decision = Escalate(why=why, best=best_sample)

    def _no_answer(self, why: str) -> BackendError | BudgetTooSmall:
        if not self._ended and self._books.refusal:
            return self._too_small()
        errors = list(self._errors.values())
        if not errors:
            return NoAnswer(f"no answer: {why}; raise the budget or the time limit")
        if len({type(error) for error in errors}) == 1:
            return errors[0]
        said = "; ".join(f"sample {number}: {error}" for number, error in self._errors.items())
        return NoAnswer(f"every sample failed: {said}")

    def _too_small(self) -> BudgetTooSmall:
        why = self._books.refusal or "it asked for none"
        return BudgetTooSmall(
            f"the budget leaves no room for the sample that policy {self.policy.name} needs: "
            f"{why}; raise the budget"
        )

    def _catch_up_all(self) -> None:
        """Counts of running samples matter where a budget is shared out among them."""
        if self.catch_up is not None and self._books.is_limited:
            for sample in tuple(self._running):
                self.catch_up(sample)

    def _tick(self, now_s: float) -> Tick:
        if self.catch_up is not None:
            for sample in tuple(self._running):
                self.catch_up(sample)
        cost = self._books.cost_so_far(self._running.values())
        return Tick(elapsed_s=now_s - self._began_s, cost=cost)

    def _take_commands(self) -> list[Command]:
        commands = self._commands
        if commands:
            self._commands = []
            return commands
        return []


def _confidence(
    decision: Answer | Escalate, records: tuple[SampleRecord, ...], chosen: int
) -> float | None:
    """P(right) where a policy file has calibrated it, else the share of votes for the answer.

    One vote alone agrees with itself, which says nothing; nor do votes about a text that was put
    together afterwards.
    """
    if decision.probability is not None or decision.text is not None:
        return decision.probability
    votes = [record.answer for record in records if record.is_vote]
    mine = next(record.answer for record in records if record.sample == chosen)
    return None if mine is None or len(votes) < 2 else votes.count(mine) / len(votes)


def _total(records: tuple[SampleRecord, ...]) -> Usage:
    """Usage summed; adding one by one would cost more than all else in a long replay."""
    usages = [record.usage for record in records]
    cached = [usage.cached_tokens for usage in usages if usage.cached_tokens is not None]
    thought = [usage.reasoning_tokens for usage in usages if usage.reasoning_tokens is not None]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(cached) if cached else None,
        reasoning_tokens=sum(thought) if thought else None,
    )


def failure_of(error: BackendError) -> Failure:
    """The evidence's word for an error."""
    match error:
        case UpstreamRefused():
            return "refused"
        case UpstreamTimeout():
            return "timeout"
        case UpstreamDisconnected():
            return "disconnected"
        case MalformedStream():
            return "malformed"
        case _:
            return "rejected"
