"""`POST /v1/feedback`: a judgement of a request, and audits of answers under a certificate.

Whoever made a request may say whether its answer was right. What a certificate's monitor is told,
whether the baseline's answer was, is taken from an admin or audit key alone, for an answer that
this certificate covered and the baseline did not give, once; everything else is refused with its
reason.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from suffice.core.errors import InputError
from suffice.core.strict import Strict
from suffice.gateway.certificates.live_control import LiveControl
from suffice.gateway.certificates.monitors import SharedMonitor
from suffice.gateway.connection.request_body import read_body
from suffice.gateway.observe.auth import Authenticator, admit_judgement, credentials_of
from suffice.gateway.observe.catch_up import caught_up
from suffice.gateway.observe.counters import Counters
from suffice.gateway.observe.shared_totals import SharedTotals
from suffice.gateway.wire.errors import BodyTooLarge, Refusal
from suffice.ledger import audits, live_labels
from suffice.ledger.audits import CertifiedAnswer
from suffice.ledger.database import LedgerError
from suffice.ledger.live_labels import NOT_TOLD, RIGHT, WRONG, LabelRow, LabelStanding
from suffice.ledger.quotas import Meter
from suffice.ledger.records import AuditRow, FeedbackRow
from suffice.ledger.store import Store
from suffice.ledger.writer import Writer
from suffice.policies.monitor import Judged

MOST_BYTES = 16 * 2**10
ACKNOWLEDGE_S = 5.0
T = TypeVar("T")


class Judgement(Strict):
    """The body: `correct`, or a `score` in [0, 1].

    `baseline_correct` makes it an audit: whether the baseline's answer to the same question is
    right. `harmed` says as much where only one of them matters: the answer was wrong and the
    baseline's right, or not.
    """

    request_id: str = Field(max_length=128, pattern=r"^[A-Za-z0-9._:~+/=@-]+$")
    correct: bool | None = None
    score: float | None = Field(default=None, ge=0, le=1)
    baseline_correct: bool | None = None
    cheap_correct: bool | tuple[bool | None, ...] | None = None
    harmed: bool | None = None
    source: str | None = Field(default=None, max_length=60)
    comment: str | None = Field(default=None, max_length=2000)

    @property
    def is_audit(self) -> bool:
        """Whether it says something about the baseline."""
        return any(
            each is not None for each in (self.harmed, self.baseline_correct, self.cheap_correct)
        )

    @property
    def value(self) -> float:
        """The score; 1 for a correct answer."""
        return self.score if self.score is not None else float(bool(self.correct))

    def against_baseline(self) -> tuple[bool, bool | None]:
        """(harmed, helped); helped is None where it does not follow. Raises InputError."""
        right, base = self.correct, self.baseline_correct
        if base is not None:
            if right is None:
                raise InputError("baseline_correct: it goes with correct, not with a score")
            harmed, helped = base and not right, right and not base
            if self.harmed not in (None, harmed):
                raise InputError(
                    f"harmed: {self.harmed} contradicts correct {right} and baseline_correct {base}"
                )
            return harmed, helped
        harmed = bool(self.harmed)
        if harmed and right:
            raise InputError("harmed: an answer that is correct cannot have harmed")
        return harmed, False if harmed or right is False else None


class Feedback:
    """The handler of `POST /v1/feedback`."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        meter: Meter,
        reader: Store,
        writer: Writer,
        counters: Counters,
        totals: SharedTotals,
        redact: Callable[[str], str],
        flush_s: float,
    ) -> None:
        self._authenticator = authenticator
        self._meter = meter
        self._reader = reader
        self._writer = writer
        self._counters = counters
        self._totals = totals
        self._redact = redact
        self._flush_s = flush_s

    async def __call__(self, request: Request) -> Response:
        """Keep a judgement; answered when it is on disk."""
        key = self._authenticator.authenticate(credentials_of(request.scope["headers"]))
        if key is not None:
            admit_judgement(self._meter, key)
        judged = _judgement(await _body(request))
        if judged.is_audit:
            self._authenticator.check_auditor(key)
        everyones = key is None or key.admin or key.audit
        mine = None if everyones or key is None else key.id
        request_id, answer = await self._answer_of(judged.request_id, mine)
        judged = judged.model_copy(update={"request_id": request_id})
        if key is not None and not (key.admin or key.audit or answer.key_id == key.id):
            raise Refusal(
                "this request was made with another key", status=403, code="not_your_request",
                kind="permission_error",
            )  # fmt: skip
        row = FeedbackRow(
            id=f"fb-{secrets.token_hex(8)}",
            request_id=judged.request_id,
            at_s=time.time(),
            score=judged.value,
            key_id=None if key is None else key.id,
            source=judged.source,
            # Whoever wrote a comment meant it to be kept, but not what the rules take out.
            comment=None if judged.comment is None else self._redact(judged.comment),
        )
        answered = {"id": row.id, "object": "feedback", "request_id": row.request_id}
        live = self._totals.monitors.live.get(answer.certificate or "")
        if live is not None and (judged.is_audit or _is_label(judged, live, everyones)):
            answered |= await self._label(judged, answer, live, row)
        elif judged.cheap_correct is not None:
            raise InputError("cheap_correct: no live certificate was in play for this request")
        elif judged.is_audit:
            await self._audit(judged, answer, row)
            answered["certificate"] = answer.certificate or ""
        else:
            await self._keep(row)
        verdict = "right" if judged.value >= 0.5 else "wrong"
        self._counters.add(("feedback", "verdict", verdict))
        return JSONResponse(answered)

    async def _keep(self, row: FeedbackRow) -> None:
        done = asyncio.wrap_future(self._writer.put_now(lambda: row))
        try:
            await asyncio.wait_for(done, ACKNOWLEDGE_S)
        except (TimeoutError, LedgerError):
            raise _unavailable() from None

    async def _answer_of(self, named: str, key_id: str | None) -> tuple[str, CertifiedAnswer]:
        """The request as the ledger has it, by its id there or by what its client called it.

        Raises Refusal.
        """
        request_id = named

        def look() -> tuple[str, CertifiedAnswer] | None:
            for known in (named, audits.id_of(self._reader, named, key_id)):
                found = None if known is None else audits.answer_of(self._reader, known)
                if known is not None and found is not None:
                    return known, found
            return None

        await caught_up(self._writer)  # the newest of a name may still be on its way
        found = await _asked(look)
        if found is None:  # another process may have it
            await asyncio.sleep(self._flush_s + 0.2)
            found = await _asked(look)
        if found is None and self._writer.away:
            raise _unavailable()
        if found is None:
            raise Refusal(
                f"no request {request_id!r} is in the ledger: give the x-request-id of an answer",
                status=404, code="request_not_found",
            )  # fmt: skip
        return found

    async def _label(
        self, judged: Judgement, answer: CertifiedAnswer, live: LiveControl, feedback: FeedbackRow
    ) -> dict[str, str]:
        """Keep the judgement as a label of a live certificate. Raises Refusal, InputError."""
        label = LabelRow(
            certificate=live.certificate, request_id=judged.request_id, at_s=feedback.at_s,
            told=_told(judged, live), shown=None if judged.correct is None else int(judged.correct),
            judge=feedback.key_id,
        )  # fmt: skip
        if answer.choices != 1:
            raise _conflict("several_choices", "a label is of one answer, this request has more")
        if answer.status not in ("valid", "shadowing"):
            raise _conflict("not_covered", f"the certificate is {answer.status} for this request")
        if answer.status == "shadowing" and _contradicts(judged.correct, judged.baseline_correct):
            raise InputError(
                "baseline_correct: the safe policy gave this answer, so it is what correct says"
            )

        def keep() -> LabelStanding:
            found = live_labels.record(self._reader, label, feedback)
            live.pull(self._reader)
            return found

        standing = await _asked(keep)
        if standing == "other":
            raise _conflict(
                "already_judged", "another label of this request counts already: the first stays"
            )
        return {"certificate": live.certificate, "label": standing}

    async def _audit(
        self, judged: Judgement, answer: CertifiedAnswer, feedback: FeedbackRow
    ) -> None:
        """Keep the judgement and tell the certificate's monitor. Raises Refusal."""
        monitor = self._monitor_of(answer)
        harmed, helped = judged.against_baseline()
        if helped is None and monitor.counts_helped:
            raise InputError(
                "baseline_correct: this certificate counts net, harmed minus helped; say also "
                "whether the baseline's answer is correct"
            )
        helped = bool(helped)
        row = AuditRow(
            request_id=judged.request_id,
            at_s=feedback.at_s,
            certificate=monitor.certificate,
            zeros=answer.zeros or 0,
            harmed=int(harmed),
            helped=int(helped),
            judged_s=feedback.at_s,
            judge=feedback.key_id,
        )
        standing = await _asked(lambda: audits.judge(self._reader, row, feedback))
        if standing == "again":
            raise _conflict("already_judged", "this answer has been audited: each counts once")
        if standing == "equal":
            return  # it is known that neither can have gained: the audit found the same answer
        monitor.observe(
            Judged(harmed=harmed, helped=helped, zeros=row.zeros, compared=standing == "differing")
        )

    def _monitor_of(self, answer: CertifiedAnswer) -> SharedMonitor:
        """The monitor that an audit of this answer is for. Raises Refusal."""
        if answer.certificate is None:
            raise _conflict("not_certified", "no certificate was in play for this request")
        monitor = self._totals.monitors.named(answer.certificate)
        if monitor is None:
            raise _conflict(
                "other_certificate", f"certificate {answer.certificate} is not in service here"
            )
        if answer.status != "valid":
            raise _conflict("not_covered", f"the certificate is {answer.status} for this request")
        if answer.choices != 1:
            raise _conflict("several_choices", "an audit is of one answer, this request has more")
        if answer.exit in (None, "safe") or answer.zeros is None:
            raise _conflict(
                "answered_by_baseline", "the baseline gave this answer: it loses nothing to itself"
            )
        return monitor


def _is_label(judged: Judgement, live: LiveControl, auditor: bool) -> bool:
    """Whether what any client may say counts for the certificate."""
    allowed = auditor or live.labels_from == "clients"
    return live.rule.loss != "differ" and judged.correct is not None and allowed


def _told(judged: Judgement, live: LiveControl) -> str:
    """Letters of the safe answer and of each candidate's. Raises InputError."""
    count = len(live.ways.cheap)
    if live.rule.loss == "differ":
        raise InputError(
            "this live certificate counts answers that differ, and needs no label: with "
            'loss = "harm" under [live] labels count'
        )
    if judged.harmed is not None:
        raise InputError("harmed: say baseline_correct and cheap_correct to a live certificate")
    cheap = judged.cheap_correct
    if isinstance(cheap, bool) and count > 1:
        raise InputError(f"cheap_correct: a list of {count}, there are as many candidates")
    listed = (None,) * count if cheap is None else (cheap,) if isinstance(cheap, bool) else cheap
    if len(listed) != count:
        raise InputError(f"cheap_correct: {count} candidates, {len(listed)} are told")
    return "".join(
        NOT_TOLD if right is None else RIGHT if right else WRONG
        for right in (judged.baseline_correct, *listed)
    )


def _contradicts(one: bool | None, other: bool | None) -> bool:
    return one is not None and other is not None and one != other


async def _asked(ask: Callable[[], T]) -> T:
    """What the ledger answers, from a thread of its own; Refusal while it is away."""
    try:
        return await asyncio.to_thread(ask)
    except LedgerError:  # its text holds the database's address: the log has it, no client
        raise _unavailable() from None


def _unavailable() -> Refusal:
    return Refusal(
        "the ledger cannot be reached now", status=503, code="ledger_unavailable",
        kind="server_error", retry_after_s=ACKNOWLEDGE_S,
    )  # fmt: skip


def _conflict(code: str, message: str) -> Refusal:
    return Refusal(message, status=409, code=code)


async def _body(request: Request) -> bytes:
    gateway = request.app.state.gateway
    try:
        return await read_body(
            request.receive, request.scope, most_bytes=MOST_BYTES,
            limit_s=gateway.service.config.traffic.body_s, ending=gateway.ending,
        )  # fmt: skip
    except BodyTooLarge:
        raise BodyTooLarge(f"feedback is at most {MOST_BYTES} bytes") from None


def _judgement(body: bytes) -> Judgement:
    try:
        judged = Judgement.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise InputError(f"{where}: {first['msg']}") from None
    if (judged.correct is None) == (judged.score is None):
        raise InputError("feedback: give either correct (true or false) or a score from 0 to 1")
    if judged.harmed is not None or judged.baseline_correct is not None:
        judged.against_baseline()
    return judged
