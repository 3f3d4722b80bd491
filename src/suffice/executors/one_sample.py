"""One sample, asked for whole: the straight way to an answer, without a loop around several.

What a loop has to be ready for cannot happen here: nothing else runs, nothing is taken back, and no
budget is shared out. The outcome and the events are those of the loop, which a test holds it to.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

from suffice.backends.protocol import Backend, Chunk
from suffice.backends.reached import hearing
from suffice.core.completions import Budget, Cost, CostModel, Outcome
from suffice.core.decisions import Actions, Answer, AnyPolicy, Escalate, Sample, SampleFinished
from suffice.core.errors import BackendError, PolicyMisbehaved, without_frames
from suffice.core.requests import Request
from suffice.executors.events import Event, Failed, Finished, Launched, Settled, Streamed
from suffice.executors.launches import launcher
from suffice.executors.pace import PACE
from suffice.executors.running_sample import Launch, RunningSample
from suffice.executors.sample_book import record_of
from suffice.executors.sample_tasks import Extract, draws_whole
from suffice.executors.settlement import accepted, confidence_of

Happened = Callable[[Event], None]


def allows_one(budget: Budget) -> bool:
    """Whether a budget says nothing of one sample: neither of its tokens, time and money."""
    bounds = (budget.completion_tokens, budget.elapsed_s, budget.usd)
    return bounds == (None, None, None) and (budget.samples is None or budget.samples > 0)


class OneSample:
    """A request that `policy` answers with the one sample that it draws."""

    def __init__(
        self, policy: AnyPolicy, request: Request, backend: Backend, state: object, launch: Launch
    ) -> None:
        self._policy = policy
        self._request = request
        self._backend = backend
        self._state = state
        self._launch = launch
        self._reached: set[int] = set()

    @classmethod
    def of(
        cls,
        policy: AnyPolicy,
        request: Request,
        backend: Backend,
        logprobs: bool,
        unstreamed_tokens: int,
    ) -> OneSample | None:
        """None where the policy may draw others, or the sample has to be streamed."""
        if not policy.draws_once(request) or not draws_whole(type(backend)):
            return None
        state, actions = policy.start(request)
        (action,) = actions
        assert isinstance(action, Sample)
        (number,) = action.samples
        launch = launcher(action, request, logprobs=logprobs)(number, None)
        most = launch.draw.sampling.max_tokens
        if not launch.whole or most is None or most > unstreamed_tokens:
            return None
        return cls(policy, request, backend, state, launch)

    async def settle(
        self,
        *,
        extract: Extract | None,
        cost_model: CostModel,
        reached: set[int] | None,
        happened: Happened,
        clock: Callable[[], float],
    ) -> Outcome:
        """Draw it and answer with it. Raises what its upstream raises."""
        launch = self._launch
        if reached is not None:
            self._reached = reached
        began_s = clock()
        running = RunningSample(launch=launch, prompt_bound=0, began_s=began_s, unstreamed=True)
        happened(Launched(launch=launch, unstreamed=True))
        asked_s = clock()
        chunk = await self._drawn(happened)
        came_s = clock()
        waited_s = came_s - asked_s
        happened(Streamed(sample=launch.sample, chunk=chunk, final=launch.final))
        running.book(chunk, came_s)
        completion = running.completion()
        found = None if extract is None else extract(completion)
        if inspect.isawaitable(found):
            asked_s = clock()
            found = await found
            waited_s += clock() - asked_s
        ended_s = clock()
        running.end("finished", ended_s, None)
        PACE.learn(launch.draw.model, running.tokens, ended_s - began_s)
        running.answer = found
        happened(Finished(sample=launch.sample, completion=completion, answer=found, score=None))
        decision = self._decided(running)
        record = record_of(
            running, reached=launch.sample in self._reached or running.spoke, known_prompt=None
        )
        records = (record,)
        now_s = clock()
        outcome = Outcome(
            completion=accepted(decision, completion),
            sample=launch.sample,
            arm=self._policy.name,
            why=decision.why,
            confidence=confidence_of(decision, records, launch.sample),
            measure=decision.measure,
            usage=record.usage,
            # What took nothing costs nothing, whatever is known of its model.
            cost=cost_model(record.model, record.usage) if record.usage.total_tokens else Cost(),
            records=records,
            elapsed_s=now_s - began_s,
            overhead_s=max(0.0, now_s - began_s - waited_s),
            escalated=isinstance(decision, Escalate),
            exit=decision.exit,
            certificate=decision.certificate,
            note=decision.note,
        )
        happened(Settled(outcome=outcome))
        return outcome

    async def _drawn(self, happened: Happened) -> Chunk:
        try:
            with hearing(partial(self._reach, self._launch.sample)):
                return await self._backend.draw(self._launch.draw)  # type: ignore[attr-defined,no-any-return]
        except BackendError as error:
            without = without_frames(error)
            happened(Failed(sample=self._launch.sample, error=without))
            raise without from None

    def _reach(self, sample: int, reached: bool) -> None:
        (self._reached.add if reached else self._reached.discard)(sample)

    def _decided(self, running: RunningSample) -> Answer | Escalate:
        evidence = SampleFinished(
            sample=self._launch.sample,
            completion=running.completion(),
            answer=running.answer,
            confidences=running.confidences,
        )
        actions: Actions
        _, actions = self._policy.step(self._state, evidence)
        if len(actions) == 1 and isinstance(actions[0], Answer | Escalate):
            return actions[0]
        raise PolicyMisbehaved(
            f"policy {self._policy.name} said that it draws once, and then asked for more"
        )
