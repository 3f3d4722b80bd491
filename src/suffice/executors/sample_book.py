"""The samples of one request: those that run, those that ended, and what was booked for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from suffice.core.completions import Cost, SampleRecord, Usage
from suffice.core.errors import BackendError, UpstreamRejected
from suffice.executors.budget_account import BudgetAccount, Refused, estimate_prompt_tokens
from suffice.executors.launches import Launcher
from suffice.executors.pace import Pace
from suffice.executors.running_sample import Launch, RunningSample, Status


class SampleBook:
    """Every sample of a request, and the account that pays for them."""

    def __init__(self, account: BudgetAccount, reached: set[int] | None, pace: Pace) -> None:
        self.account = account
        self.running: dict[int, RunningSample] = {}
        self.ended: dict[int, RunningSample] = {}
        self.errors: dict[int, BackendError] = {}
        self.numbers: set[int] = set()  # of all samples that were asked for
        # For drivers that do not book every token as it comes: called with a sample whose count
        # is about to matter, so that they can book what it has drawn by now.
        self.catch_up: Callable[[int], None] | None = None
        self._reached = reached
        self._pace = pace

    def of(self, sample: int) -> RunningSample:
        """A sample that runs or has ended."""
        return self.running.get(sample) or self.ended[sample]

    def begin(
        self, number: int, launch_of: Launcher, now_s: float, *, siblings: int
    ) -> Launch | Refused:  # fmt: skip
        """The launch of a sample with the tokens that the budget grants it, or Refused."""
        self.numbers.add(number)
        launch = launch_of(number, None)
        if self.account.is_limited:  # a budget is shared out among those that run
            self.catch_up_all()
        granted = self.account.grant(
            launch,
            self.running.values(),
            siblings=siblings,
            first=not self.running and not self.ended,
        )
        if isinstance(granted, Refused):
            return granted
        if granted != launch.draw.sampling.max_tokens:
            launch = launch_of(number, granted)
        bound = self.account.prompt_bound(launch)
        self.running[number] = RunningSample(launch=launch, prompt_bound=bound, began_s=now_s)
        return launch

    def end(
        self, sample: int, status: Status, now_s: float, reason: str | None = None
    ) -> RunningSample | None:
        """A sample ends and is booked; None if it did not run."""
        if status == "cancelled" and self.catch_up is not None and sample in self.running:
            self.catch_up(sample)
        running = self.running.pop(sample, None)
        if running is None:
            return None
        running.end(status, now_s, reason)
        self.ended[sample] = running
        if running.unstreamed:
            self._reckon(running)
        if self._has_reached(running) and not self._was_turned_away(running):
            self.account.settle(running)
        return running

    def reach(self, sample: int, reached: bool) -> None:
        """A sample's request is with its engine, or is not after all."""
        if self._reached is not None:
            (self._reached.add if reached else self._reached.discard)(sample)

    def catch_up_all(self) -> None:
        """Counts of all running samples are about to matter."""
        if self.catch_up is not None:
            for sample in tuple(self.running):
                self.catch_up(sample)

    def cost_so_far(self) -> Cost:
        """Cost of what ended and of what the running samples have drawn by now."""
        self.catch_up_all()
        return self.account.cost_so_far(self.running.values())

    def records(self) -> tuple[SampleRecord, ...]:
        """The receipt's lines, by sample number."""
        return tuple(self._record(each) for _, each in sorted(self.ended.items()))

    def _record(self, running: RunningSample) -> SampleRecord:
        reached = self._has_reached(running)
        if reached and self._was_turned_away(running):
            return running.record()
        return record_of(
            running,
            reached=reached,
            # A sibling with the same prompt may have told what a stream that was cut did not.
            known_prompt=self.account.known_prompt_tokens(running.launch.prompt_key)
            if running.usage is None or not running.usage.prompt_tokens
            else None,
        )

    def _has_reached(self, running: RunningSample) -> bool:
        return self._reached is None or running.launch.sample in self._reached or running.spoke

    def _was_turned_away(self, running: RunningSample) -> bool:
        """Whether the engine refused the request before it did anything for it."""
        error = self.errors.get(running.launch.sample)
        return isinstance(error, UpstreamRejected) and not running.tokens

    def _reckon(self, running: RunningSample) -> None:
        """Learn a model's pace from an answer that came whole, or reckon by it what was drawn."""
        draw, elapsed_s = running.launch.draw, (running.ended_s or 0.0) - running.began_s
        if running.status == "finished":
            self._pace.learn(draw.model, running.tokens, elapsed_s)
        elif self._has_reached(running) and not self._was_turned_away(running):
            most = draw.sampling.max_tokens
            running.tokens = self._pace.drawn(draw.model, elapsed_s, most)
            running.forget_completion()


def record_of(running: RunningSample, *, reached: bool, known_prompt: int | None) -> SampleRecord:
    """A receipt's line; `known_prompt`: tokens that a sibling's engine told, else it is guessed."""
    record = running.record()
    if not reached:
        return replace(record, reached=False, usage=Usage(), told=True)
    if record.usage.prompt_tokens:
        return record
    prompt = estimate_prompt_tokens(running.launch) if known_prompt is None else known_prompt
    told = record.told and known_prompt is not None
    return replace(record, usage=replace(record.usage, prompt_tokens=prompt), told=told)
