"""Shadowed requests on record, in one order for all processes.

A row's number is given in the transaction that writes it, by a counter whose row stays locked until
the commit: numbers have no gaps, and whoever sees number n sees all before it. A request is written
once, whichever process tries, before or after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass

from suffice.ledger.records import COLUMNS, AuditRow, values_of
from suffice.ledger.store import Store

# What a row says of each candidate, a letter each: the same answer, another one, or not run.
SAME, DIFFERENT, NOT_RUN = "s", "d", "-"

_HEAD = (
    "INSERT INTO shadow_heads (certificate, n) VALUES (?, 1) "
    "ON CONFLICT (certificate) DO UPDATE SET n = shadow_heads.n + 1 RETURNING n"
)
_KNOWN = "SELECT 1 FROM shadows WHERE certificate = ? AND request_id = ?"
_FACTS = ("answered", "safe_cost", "cheap_cost", "safe_engine_s", "cheap_engine_s")
_INSERT = (
    f"INSERT INTO shadows (certificate, number, request_id, at_s, share, differs, "
    f"{', '.join(_FACTS)}) VALUES ({', '.join('?' * (6 + len(_FACTS)))})"
)
# A label that came before its request was shadowed is numbered now.
_LABELLED = "SELECT 1 FROM live_labels WHERE certificate = ? AND request_id = ?"
NEXT_LABEL = "UPDATE shadow_heads SET labels = labels + 1 WHERE certificate = ? RETURNING labels"
_NUMBER = (
    "UPDATE live_labels SET number = ?, shadows_before = ? WHERE certificate = ? AND request_id = ?"
)
_AUDIT = (
    f"INSERT INTO audits ({', '.join(COLUMNS[AuditRow])}) "
    f"VALUES ({', '.join('?' * len(COLUMNS[AuditRow]))}) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRow:
    """What one shadowed request showed of the candidates of a live certificate."""

    certificate: str
    request_id: str
    at_s: float  # Unix time
    share: float  # the chance with which it was shadowed
    differs: str  # a letter for each candidate
    answered: int | None = None  # 0: the safe policy, else the candidate's number from 1
    # What the safe policy and the candidate in turn cost, in one unit; None: not comparable.
    safe_cost: float | None = None
    cheap_cost: float | None = None
    # What engines worked on their samples, as `suffice.executors.engine_time` counts it.
    safe_engine_s: float | None = None
    cheap_engine_s: float | None = None
    number: int = -1  # its place in the order; the ledger gives it


def record(store: Store, spent: AuditRow, shadow: ShadowRow | None) -> None:
    """Keep what a shadow run cost, and what it showed if it came to its end: both or neither."""
    with store.database.transaction():
        store.database.execute(_AUDIT, values_of(spent))
        if shadow is None:
            return
        ((number,),) = store.database.execute(_HEAD, (shadow.certificate,))
        if store.database.execute(_KNOWN, (shadow.certificate, shadow.request_id)):
            back = "UPDATE shadow_heads SET n = n - 1 WHERE certificate = ?"
            store.database.execute(back, (shadow.certificate,))
            return
        row = (shadow.certificate, number - 1, shadow.request_id, shadow.at_s, shadow.share)
        facts = (getattr(shadow, name) for name in _FACTS)
        store.database.execute(_INSERT, (*row, shadow.differs, *facts))
        of_request = (shadow.certificate, shadow.request_id)
        if store.database.execute(_LABELLED, of_request):
            ((label,),) = store.database.execute(NEXT_LABEL, of_request[:1])
            store.database.execute(_NUMBER, (label - 1, number, *of_request))


def since(store: Store, certificate: str, number: int, limit: int = 5000) -> list[ShadowRow]:
    """Rows from `number` on, in order, at most `limit`."""
    rows = store.database.execute(
        f"SELECT request_id, at_s, share, differs, number, {', '.join(_FACTS)} FROM shadows "
        "WHERE certificate = ? AND number >= ? ORDER BY number LIMIT ?",
        (certificate, number, limit),
    )
    return [
        ShadowRow(
            certificate=certificate, request_id=request_id, at_s=at_s, share=share,
            differs=differs, number=found, **dict(zip(_FACTS, facts, strict=True)),
        )
        for request_id, at_s, share, differs, found, *facts in rows
    ]  # fmt: skip


def tokens_since(store: Store, family: str, since_s: float) -> int:
    """Tokens that shadow runs have taken since `since_s` (Unix time), of all kinds of prompts."""
    rows = store.database.execute(
        "SELECT COALESCE(SUM(prompt_tokens + completion_tokens), 0) FROM audits "
        "WHERE (certificate = ? OR certificate LIKE ?) AND at_s >= ?",
        (family, f"{family}.%", since_s),
    )
    return int(rows[0][0])
