"""Audits: a share of the answers under a certificate is given by the baseline too.

The client has its certified answer by then and does not wait. The two answers are compared, the
comparison goes to the certificate's monitor and to the ledger, and what the audit drew is booked as
the audit's: no key pays for it.

Only answers that the baseline did not give are worth a second run; each is chosen by a coin that
knows nothing of the request. The baseline goes on from the samples that the answer has already
drawn of the same model in the same way, as at calibration: then both answers rest on the same
samples, and an audit of a vote that ended early draws the rest of the vote and no more.

Never audited: requests with tools or with other fields that make an engine act (an engine may run
tools by itself), requests for several choices, and anything while the process is ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from suffice.backends.protocol import Backend, Capabilities, Chunk
from suffice.core.completions import Budget, Completion, Cost, CostModel, Outcome, Usage
from suffice.core.draw import Draw
from suffice.core.errors import SufficeError
from suffice.core.requests import Request
from suffice.executors import live
from suffice.executors.engine_time import ENGINES, TimedSamples
from suffice.gateway.calls import Call, Hook
from suffice.gateway.certificates.background import BackgroundRuns
from suffice.gateway.certificates.guarded_policy import GuardedPolicy, is_covered
from suffice.gateway.run_policy import Job
from suffice.gateway.wire.errors import describe
from suffice.ledger.database import LedgerError
from suffice.ledger.records import AuditRow
from suffice.policies.monitor import Compared

logger = logging.getLogger("suffice.gateway")

# Audits of one process at once, and those that wait; more are left out.
AT_ONCE = 4
MOST_WAITING = 256
# An ending process waits so long for the row of an audit that it breaks off.
KEEP_S = 1.0
# Fields beyond the usual by which a request makes an engine, or its host, do more than answer.
ACTING = frozenset({"background", "mcp_servers", "plugins", "store", "web_search_options"})

# Whole samples by what they were drawn by (`_way`), with the log-probabilities asked for.
_Kept = dict[Draw, deque[tuple[int | None, Completion]]]


def is_harmless(request: Request) -> bool:
    """Whether answering the request a second time can have no effect but its cost."""
    acting = ACTING & json.loads(request.extra_json or "{}").keys()
    return not request.tools and not acting


@dataclass(slots=True, kw_only=True)
class DrawnSamples:
    """The samples that an answer has drawn."""

    launched: dict[int, live.Launched] = field(default_factory=dict)
    finished: dict[int, Completion] = field(default_factory=dict)

    def see(self, event: live.Event) -> None:
        """Keep whole samples: whoever answers next goes on from them."""
        if isinstance(event, live.Launched):
            self.launched[event.launch.sample] = event
        elif isinstance(event, live.Finished):
            self.finished[event.sample] = event.completion

    def kept(self) -> _Kept:
        """Whole samples by the way in which they were drawn, in drawing order."""
        found: _Kept = {}
        for way, sample in self._in_order():
            logprobs = self.launched[sample].launch.draw.sampling.top_logprobs
            found.setdefault(way, deque()).append((logprobs, self.finished[sample]))
        return found

    def kept_s(self, timed: TimedSamples | None) -> dict[Draw, list[float]]:
        """What engines worked on each of those."""
        found: dict[Draw, list[float]] = {}
        for way, sample in self._in_order():
            took_s = 0.0 if timed is None else timed.seconds.get((0, sample), 0.0)
            found.setdefault(way, []).append(took_s)
        return found

    def _in_order(self) -> Iterator[tuple[Draw, int]]:
        for sample in sorted(self.finished):
            launch = self.launched[sample].launch
            if launch.purpose == "answer" and not launch.draw.prefill:
                yield _way(launch.draw), sample


@dataclass(slots=True, kw_only=True)
class Audit(DrawnSamples):
    """One request that the coin has chosen, and what its answer has drawn."""

    guard: GuardedPolicy
    job: Job


def _way(draw: Draw) -> Draw:
    """What samples that may stand for each other have in common."""
    return replace(draw, sampling=replace(draw.sampling, seed=None, top_logprobs=None))


class Continued:
    """A backend that gives what was drawn before first, and counts what it draws itself."""

    def __init__(self, backend: Backend, kept: _Kept, *, later: int | None = None) -> None:
        """`later`: added to the `priority` of what is drawn here, so that engines let it wait."""
        self._backend = backend
        self._kept = kept
        self._later = later
        self.drawn: list[tuple[str, Usage]] = []  # model and usage of every sample drawn here
        self.engine_s = 0.0  # what engines worked on those
        self.reused: Counter[Draw] = Counter()  # samples that were drawn before, by their way

    @property
    def name(self) -> str:
        """The backend's."""
        return self._backend.name

    async def capabilities(self, model: str | None = None) -> Capabilities:
        """The backend's."""
        return await self._backend.capabilities(model)

    async def stream(self, draw: Draw) -> AsyncGenerator[Chunk, None]:
        """A sample that was drawn before, if one is left; else the backend's chunks."""
        kept = self._kept.get(_way(draw))
        if kept and draw.sampling.top_logprobs in (None, kept[0][0]):
            self.reused[_way(draw)] += 1
            yield _whole(kept.popleft()[1])
            return
        at, tokens = len(self.drawn), 0
        self.drawn.append((draw.model, Usage()))
        if self._later is not None:
            priority = (draw.request.priority or 0) + self._later
            draw = replace(draw, request=replace(draw.request, priority=priority))
        chunks, begun = self._backend.stream(draw), ENGINES.begin(draw.model)
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    tokens += 1 if chunk.token_count is None else chunk.token_count
                    self.drawn[at] = (draw.model, chunk.usage or Usage(completion_tokens=tokens))
                    yield chunk
        finally:
            self.engine_s += ENGINES.end(draw.model, begun)

    async def aclose(self) -> None:
        """The backend goes on."""


def _whole(completion: Completion) -> Chunk:
    """A sample as one chunk."""
    return Chunk(
        text=completion.text,
        reasoning_text=completion.reasoning_text or "",
        token_count=completion.usage.completion_tokens,
        logprobs=completion.logprobs,
        tool_calls=completion.tool_calls,
        finish_reason=completion.finish_reason,
        usage=completion.usage,
    )


class Auditor(BackgroundRuns):
    """Chooses requests, answers them by the baseline in the background, and tells what it found."""

    def __init__(
        self, hooks: Sequence[Hook] = (), *, coin: Callable[[], float] = random.random
    ) -> None:
        """`coin` gives numbers in [0, 1), each alike."""
        super().__init__()
        self._hooks = tuple(hooks)
        self._coin = coin
        self._places = asyncio.Semaphore(AT_ONCE)

    def chosen(self, job: Job, share: float) -> Audit | None:
        """Whether this request is to be audited, should its answer not be the baseline's."""
        policy = job.policy
        if share <= 0.0 or not isinstance(policy, GuardedPolicy) or self._coin() >= share:
            return None
        if self.ending or job.choices != 1 or not is_harmless(job.request):
            return None
        return Audit(guard=policy, job=job)

    def begin(
        self, audit: Audit, call: Call, outcome: Outcome, backend: Backend, budget: Budget
    ) -> asyncio.Task[None] | None:
        """Audit an answer in the background, if it is one; `backend` and `budget`: the operator's.

        The task ends with the audit.
        """
        if call.zeros is None or not is_covered(outcome) or len(self._tasks) >= MOST_WAITING:
            return None
        row = AuditRow(
            request_id=call.id,
            at_s=time.time(),
            certificate=audit.guard.monitor.certificate,
            zeros=call.zeros,
        )
        continued = Continued(backend, audit.kept())
        return self.start(self._run(audit, row, answer_in(outcome), continued, budget))

    async def _run(
        self, audit: Audit, row: AuditRow, said: str | None, backend: Continued, budget: Budget
    ) -> None:
        """Answer by the baseline, and compare with what was `said`."""
        began_s = time.perf_counter()
        job = audit.job
        try:
            async with self._places:
                found = await live.run(
                    audit.guard.policy.safe, job.request, backend, budget=budget,
                    extract=job.extract, score=job.score, cost_model=job.cost_model,
                )  # fmt: skip
        except asyncio.CancelledError:  # the process ends: what was drawn is booked all the same
            row = replace(row, error_code="shutting_down")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEP_S):
                    await self._keep(audit.guard, _booked(row, backend, job.cost_model, began_s))
            raise
        except SufficeError as error:  # an upstream's fault: there is nothing to compare
            _, envelope = describe(error)
            row = replace(row, error_code=envelope["error"]["code"])
        except Exception:  # a bug of ours: the log has its trace, the audit is left out
            logger.exception("the audit of %s failed", row.request_id)
            row = replace(row, error_code="internal_error")
        else:
            row = replace(row, differs=int(answer_in(found) != said))
            if job.audited is not None:
                job.audited(found)
        await self._keep(audit.guard, _booked(row, backend, job.cost_model, began_s))

    async def _keep(self, guard: GuardedPolicy, row: AuditRow) -> None:
        """Write the audit down and tell the monitor; one that cannot be written is not told."""
        try:
            judged = [await hook.audited(row) for hook in self._hooks]
        except LedgerError as error:
            logger.warning("an audit is not counted, the ledger cannot be written: %s", error)
            return
        if row.differs is not None:
            seen = Compared(differs=bool(row.differs), zeros=row.zeros, judged=any(judged))
            guard.monitor.observe(seen)


def answer_in(outcome: Outcome) -> str | None:
    """The comparable answer of the accepted sample."""
    return next((r.answer for r in outcome.records if r.sample == outcome.sample), None)


def _booked(row: AuditRow, backend: Continued, cost_model: CostModel, began_s: float) -> AuditRow:
    """The row with what was drawn for it."""
    cost = sum((cost_model(model, usage) for model, usage in backend.drawn), Cost())
    usage = sum((usage for _, usage in backend.drawn), Usage())
    return replace(
        row,
        samples=len(backend.drawn),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        usd=cost.usd,
        elapsed_s=time.perf_counter() - began_s,
    )
