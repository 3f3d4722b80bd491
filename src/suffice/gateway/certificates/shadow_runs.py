"""Shadow runs: a share of requests is answered the other way too, once their clients are served.

The client's own answer stands in for the policy that gave it; the safe policy and the candidates
that are watched run in the background, going on from the samples that the answer has drawn, and
the answers are compared. What the run drew is booked as an audit: no key pays for it.

Free text is compared by a judge, where one is given: see suffice.evals.text_judge.

Never shadowed: requests whose answers cannot be compared, requests for several choices, requests
that make an engine act, requests with tools (unless the operator says that they are only
functions, which the engine does not run), and anything while the process is ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from suffice.backends.protocol import Backend
from suffice.core.completions import Budget, Cost, Outcome, Usage
from suffice.core.errors import SufficeError, UpstreamRejected
from suffice.core.requests import Request
from suffice.evals.extract import tool
from suffice.evals.text_judge import MeasuredJudge, judged_worse
from suffice.executors import live
from suffice.executors.engine_time import TimedSamples
from suffice.executors.judging import asking
from suffice.gateway.calls import Call, Hook
from suffice.gateway.certificates.audits import (
    AT_ONCE,
    KEEP_S,
    MOST_WAITING,
    Continued,
    DrawnSamples,
    answer_in,
    is_harmless,
)
from suffice.gateway.certificates.background import BackgroundRuns
from suffice.gateway.certificates.live_control import LiveControl
from suffice.gateway.certificates.live_policy import LivePolicy, part_that_answered
from suffice.gateway.run_policy import Job
from suffice.gateway.wire.errors import describe
from suffice.ledger.database import LedgerError
from suffice.ledger.records import AuditRow
from suffice.ledger.shadows import DIFFERENT, NOT_RUN, SAME, ShadowRow
from suffice.policies.fixed import Single

logger = logging.getLogger("suffice.gateway")

# While clients wait for a place, shadow runs do too; they look again after this.
YIELD_S = 0.05


@dataclass(slots=True, kw_only=True)
class Shadow(DrawnSamples):
    """One request that the coin has chosen; its chance then, and how it was answered."""

    job: Job
    control: LiveControl
    share: float
    outcome: Outcome | None = None
    timed: TimedSamples | None = None  # what engines worked on the client's answer


@dataclass(frozen=True, slots=True)
class _Compared:
    """A letter for each candidate; what the safe policy and the candidate in turn took."""

    letters: str
    costs: tuple[float, float] | None
    engine_s: tuple[float, float] | None


def _costs(safe: Outcome, cheap: Outcome) -> tuple[float, float] | None:
    """In USD, else in tokens of one model; None where they cannot be compared."""
    if safe.cost.usd is not None and cheap.cost.usd is not None:
        return safe.cost.usd, cheap.cost.usd
    models = {record.model for each in (safe, cheap) for record in each.records}
    if len(models) > 1:
        return None
    return float(safe.usage.total_tokens), float(cheap.usage.total_tokens)


class Shadower(BackgroundRuns):
    """Chooses requests, runs them the other way in the background, and tells what it found."""

    def __init__(
        self,
        hooks: Sequence[Hook] = (),
        *,
        waiting: Callable[[], int] = lambda: 0,
        coin: Callable[[], float] = random.random,
    ) -> None:
        """`waiting`: clients that wait for a place; `coin` gives numbers in [0, 1), each alike."""
        super().__init__()
        self._hooks = tuple(hooks)
        self._waiting = waiting
        self._coin = coin
        self._places = asyncio.Semaphore(AT_ONCE)

    def chosen(self, job: Job) -> Shadow | None:
        """Whether this request is shadowed."""
        policy = job.policy
        if not isinstance(policy, LivePolicy) or self.ending or job.choices != 1:
            return None
        control, request = policy.control, job.request
        comparable = request.answer_format is not None or control.judges(request)
        if not comparable or not _may_repeat(request, control):
            return None
        if len(self._tasks) >= MOST_WAITING:
            return None
        share = control.share()
        if self._coin() >= share:
            return None
        return Shadow(job=job, control=control, share=share)

    def begin(self, shadow: Shadow, call: Call, backend: Backend, budget: Budget) -> None:
        """Run it, if the client got an answer; `backend` and `budget`: the operator's."""
        outcome = shadow.outcome
        shadow.timed = call.timed
        if outcome is None or part_that_answered(outcome) is None or self.ending:
            return
        self.start(self._run(shadow, call.id, backend, budget))

    async def _run(self, shadow: Shadow, call_id: str, backend: Backend, budget: Budget) -> None:
        began_s = time.perf_counter()
        runs: list[Continued] = []
        row = AuditRow(
            request_id=call_id, at_s=time.time(), certificate=shadow.control.certificate, zeros=0
        )
        found: _Compared | None = None
        try:
            async with self._places:
                while self._waiting():
                    await asyncio.sleep(YIELD_S)
                found = await self._compared(shadow, runs, backend, budget)
        except asyncio.CancelledError:  # the process ends: what was drawn is booked all the same
            row = replace(row, error_code="shutting_down")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEP_S):
                    await self._keep(shadow, _booked(row, runs, shadow.job, began_s), None)
            raise
        except SufficeError as error:  # an upstream's fault: there is nothing to compare
            _, envelope = describe(error)
            row = replace(row, error_code=envelope["error"]["code"])
        except Exception:  # a bug of ours: the log has its trace, the run is left out
            logger.exception("the shadow run of %s failed", row.request_id)
            row = replace(row, error_code="internal_error")
        else:
            row = replace(row, differs=int(DIFFERENT in found.letters))
        await self._keep(shadow, _booked(row, runs, shadow.job, began_s), found)

    async def _compared(
        self, shadow: Shadow, runs: list[Continued], backend: Backend, budget: Budget
    ) -> _Compared:
        """What each candidate did. Raises SufficeError where the safe policy fails."""
        control, job, outcome = shadow.control, shadow.job, shadow.outcome
        assert outcome is not None
        answered, kept = part_that_answered(outcome), shadow.kept()
        kept_s = shadow.kept_s(shadow.timed)
        worked_s: dict[int, float] = {}  # by part: what engines worked on its answer

        async def answer(part: int, *, fails: bool) -> Outcome | None:
            """What a part comes to; None where it is refused and that is no failure."""
            if part == answered:
                worked_s[part] = 0.0 if shadow.timed is None else shadow.timed.total_s
                return outcome
            policy = control.ways.safe if part == 0 else control.ways.cheap[part - 1]
            given = {way: deque(drawn) for way, drawn in kept.items()}
            continued = Continued(backend, given, later=control.shadow_priority)
            runs.append(continued)
            run = DrawnSamples()
            try:
                said = await live.run(
                    policy, job.request, continued, budget=budget, extract=job.extract,
                    score=job.score, cost_model=job.cost_model,
                    happened=run.see,
                )  # fmt: skip
            except UpstreamRejected:
                if fails:
                    raise
                return None  # its client would have had an error: a loss
            again = sum(sum(kept_s[way][:count]) for way, count in continued.reused.items())
            worked_s[part] = continued.engine_s + again
            each_s = continued.engine_s / max(1, len(continued.drawn))
            for way, drawn in run.kept().items():  # the next part goes on from these too
                fresh = len(drawn) - len(kept.get(way, ()))
                if fresh > 0:
                    kept[way] = drawn
                    kept_s.setdefault(way, []).extend([each_s] * fresh)
            return said

        async def is_same(said: Outcome, safe: Outcome) -> bool:
            """Whether a candidate's answer is the safe one's; of free text: is no worse."""
            if job.request.answer_format is not None or control.judge is None:
                return answer_in(said) == answer_in(safe)
            asked = Continued(backend, {}, later=control.shadow_priority)
            runs.append(asked)
            return await is_no_worse(control.judge, job.request, said, safe, asked, budget)

        watched = control.watched
        safe = await answer(0, fails=True)
        assert safe is not None  # a refusal was raised
        letters, costs, engine_s = [], None, None
        for candidate in range(len(control.ways.cheap)):
            if candidate not in watched and candidate + 1 != answered:
                letters.append(NOT_RUN)
                continue
            said = await answer(candidate + 1, fails=False)
            same = said is not None and await is_same(said, safe)
            letters.append(SAME if same else DIFFERENT)
            costs = None if said is None else _costs(safe, said)  # the last is the one in turn
            engine_s = None if said is None else (worked_s[0], worked_s[candidate + 1])
        return _Compared("".join(letters), costs, engine_s)

    async def _keep(self, shadow: Shadow, spent: AuditRow, found: _Compared | None) -> None:
        """Write the run down; one that cannot be written counts for nothing."""
        row = None
        if found is not None:
            row = ShadowRow(
                certificate=spent.certificate, request_id=spent.request_id, at_s=spent.at_s,
                share=shadow.share, differs=found.letters,
                answered=None if shadow.outcome is None else part_that_answered(shadow.outcome),
                safe_cost=None if found.costs is None else found.costs[0],
                cheap_cost=None if found.costs is None else found.costs[1],
                safe_engine_s=None if found.engine_s is None else found.engine_s[0],
                cheap_engine_s=None if found.engine_s is None else found.engine_s[1],
            )  # fmt: skip
        try:
            for hook in self._hooks:
                await hook.shadowed(shadow.control, spent, row)
        except LedgerError as error:
            logger.warning("a shadow run is not counted, the ledger cannot be written: %s", error)


async def is_no_worse(  # noqa: PLR0917 - both answers, and what the judge is asked by
    judge: MeasuredJudge, request: Request, said: Outcome, safe: Outcome, backend: Backend,
    budget: Budget,
) -> bool:  # fmt: skip
    """Whether a free-form answer is no worse than the safe one, by the judge."""
    cheap, dear = said.completion, safe.completion
    if cheap.tool_calls or dear.tool_calls:  # by value: ids are each engine's own
        called = tool(cheap)  # None: none, or arguments that cannot be read
        return called is not None and called == tool(dear)
    ask = asking(Single(), backend, judge.model, max_tokens=judge.max_tokens, budget=budget)
    return not await judged_worse(request.messages, dear.text, cheap.text, ask)


def _may_repeat(request: Request, control: LiveControl) -> bool:
    """Whether answering the request again can have no effect but its cost."""
    if is_harmless(request):
        return True
    functions = bool(request.tools) and all(each.name for each in request.tools)
    return control.tools and functions and is_harmless(replace(request, tools=()))


def _booked(row: AuditRow, runs: Sequence[Continued], job: Job, began_s: float) -> AuditRow:
    """The row with what was drawn for it."""
    drawn: list[tuple[str, Usage]] = [each for run in runs for each in run.drawn]
    cost = sum((job.cost_model(model, usage) for model, usage in drawn), Cost())
    usage = sum((usage for _, usage in drawn), Usage())
    return replace(
        row,
        samples=len(drawn),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        usd=cost.usd,
        elapsed_s=time.perf_counter() - began_s,
        engine_s=sum(run.engine_s for run in runs),
    )
