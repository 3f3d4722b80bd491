"""Audits on record: answers that the baseline gave too, and judgements of which was right.

Each request is compared once and judged once, whichever process is told, before or after a
restart: the database decides who was first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from suffice.core.coverage import CertificateStatus, Exit
from suffice.ledger.records import COLUMNS, AuditRow, FeedbackRow, values_of
from suffice.ledger.store import Store

_COMPARED = ("differs", "samples", "prompt_tokens", "completion_tokens", "usd", "elapsed_s",
             "error_code")  # fmt: skip
_COMPARE = (
    f"INSERT INTO audits ({', '.join(COLUMNS[AuditRow])}) "
    f"VALUES ({', '.join('?' * len(COLUMNS[AuditRow]))}) ON CONFLICT (request_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COMPARED)
    + " RETURNING harmed"
)
_JUDGE = (
    f"INSERT INTO audits ({', '.join(COLUMNS[AuditRow])}) "
    f"VALUES ({', '.join('?' * len(COLUMNS[AuditRow]))}) ON CONFLICT (request_id) DO UPDATE SET "
    "harmed = excluded.harmed, helped = excluded.helped, judged_s = excluded.judged_s, "
    "judge = excluded.judge WHERE audits.harmed IS NULL RETURNING differs"
)
_FEEDBACK = (
    f"INSERT INTO feedback ({', '.join(COLUMNS[FeedbackRow])}) "
    f"VALUES ({', '.join('?' * len(COLUMNS[FeedbackRow]))})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedAnswer:
    """What the ledger holds of an answer's certificate."""

    key_id: str | None
    certificate: str | None
    status: CertificateStatus | None
    exit: Exit | None
    zeros: int | None
    choices: int


def id_of(store: Store, named: str, key_id: str | None) -> str | None:
    """The ledger's id of the newest request that its client called so; None if there is none.

    With `key_id` only requests of that key count: others may use the same name.
    """
    own = "" if key_id is None else "AND key_id = ? "
    rows = store.database.execute(
        f"SELECT id FROM requests WHERE request_id = ? {own}ORDER BY started_s DESC LIMIT 1",
        (named,) if key_id is None else (named, key_id),
    )
    return rows[0][0] if rows else None


def answer_of(store: Store, request_id: str) -> CertifiedAnswer | None:
    """The request's facts; None if the ledger does not have it."""
    rows = store.database.execute(
        "SELECT key_id, certificate, certificate_status, exit, zeros, choices FROM requests "
        "WHERE id = ?",
        (request_id,),
    )
    if not rows:
        return None
    key_id, certificate, status, taken, zeros, choices = rows[0]
    return CertifiedAnswer(
        key_id=key_id, certificate=certificate, status=status, exit=taken, zeros=zeros,
        choices=choices,
    )  # fmt: skip


def compare(store: Store, row: AuditRow) -> bool:
    """Keep a comparison; whether the answer had been judged before."""
    with store.database.transaction():
        (judged,) = store.database.execute(_COMPARE, values_of(row))
    return judged[0] is not None


# How a judgement meets what is known: "fresh" (nothing compared the answers), "differing" or
# "equal" (an audit did), "again" (it was judged before, and nothing is written).
Standing = Literal["fresh", "differing", "equal", "again"]


def judge(store: Store, row: AuditRow, feedback: FeedbackRow) -> Standing:
    """Keep a judgement with its feedback, both or neither."""
    with store.database.transaction():
        found = store.database.execute(_JUDGE, values_of(row))
        if not found:
            return "again"
        store.database.execute(_FEEDBACK, values_of(feedback))
    differs = found[0][0]
    if differs is None:
        return "fresh"
    return "differing" if differs else "equal"


def audits_since(store: Store, since_s: float) -> list[dict[str, Any]]:
    """Counts and cost by certificate since `since_s` (Unix time)."""
    names = (
        "certificate", "compared", "differ", "failed", "judged", "harmed", "helped", "waiting",
        "samples", "prompt_tokens", "completion_tokens", "usd",
    )  # fmt: skip
    rows = store.database.execute(
        "SELECT certificate, COUNT(differs), COALESCE(SUM(differs), 0), COUNT(error_code), "
        "COUNT(harmed), COALESCE(SUM(harmed), 0), COALESCE(SUM(helped), 0), "
        "COALESCE(SUM(CASE WHEN differs = 1 AND harmed IS NULL THEN 1 ELSE 0 END), 0), "
        "SUM(samples), SUM(prompt_tokens), SUM(completion_tokens), SUM(usd) "
        "FROM audits WHERE at_s >= ? GROUP BY certificate ORDER BY certificate",
        (since_s,),
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def waiting(store: Store, since_s: float = 0.0, limit: int = 1000) -> list[dict[str, Any]]:
    """Audited answers that differ from the baseline's and that nobody has judged, oldest first."""
    rows = store.database.execute(
        "SELECT request_id, at_s, certificate FROM audits WHERE differs = 1 AND harmed IS NULL "
        "AND at_s >= ? ORDER BY at_s, request_id LIMIT ?",
        (since_s, limit),
    )
    return [dict(zip(("request_id", "at_s", "certificate"), row, strict=True)) for row in rows]
