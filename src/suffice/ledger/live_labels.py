"""Labels of a live certificate on record: which answers to a request were right.

One label a request counts, whoever writes it and however often: the first. It may come before its
request is shadowed, or never be of use because it never is. A label of a shadowed request takes its
place among the shadowed ones in the transaction that makes it count, under the lock of their
counter: after `shadows_before` of them. So all processes fold both in one order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from suffice.ledger.records import COLUMNS, FeedbackRow, values_of
from suffice.ledger.shadows import DIFFERENT, NEXT_LABEL
from suffice.ledger.store import Store

# What a label tells of an answer, a letter for the safe one and for each candidate's.
RIGHT, WRONG, NOT_TOLD = "r", "w", "-"

_LOCK = (
    "INSERT INTO shadow_heads (certificate, n) VALUES (?, 0) "
    "ON CONFLICT (certificate) DO UPDATE SET n = shadow_heads.n RETURNING n"
)
_KNOWN = "SELECT shown, told FROM live_labels WHERE certificate = ? AND request_id = ?"
_SHADOWED = "SELECT 1 FROM shadows WHERE certificate = ? AND request_id = ?"
_INSERT = (
    "INSERT INTO live_labels (certificate, request_id, number, shadows_before, at_s, shown, told, "
    "judge) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_FEEDBACK = (
    f"INSERT INTO feedback ({', '.join(COLUMNS[FeedbackRow])}) "
    f"VALUES ({', '.join('?' * len(COLUMNS[FeedbackRow]))})"
)
_SINCE = (
    "SELECT l.number, l.shadows_before, l.request_id, l.at_s, l.shown, l.told, s.number, s.share, "
    "s.differs, s.answered FROM live_labels l JOIN shadows s ON s.certificate = l.certificate AND "
    "s.request_id = l.request_id WHERE l.certificate = ? AND l.number >= ? AND "
    "l.shadows_before <= ? ORDER BY l.number"
)

# fresh: it counts from now on. early: it will if its request is shadowed. again: the same was said
# before. other: something else was said before, and stays.
LabelStanding = Literal["fresh", "early", "again", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """What is told of the answers to one request."""

    certificate: str
    request_id: str
    at_s: float  # Unix time
    told: str  # a letter for the safe policy and for each candidate
    shown: int | None = None  # whether the client's own answer is right; None: not told
    judge: str | None = None  # the key that says so


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLabel:
    """A label in its place among the shadowed requests, with what its own is known by."""

    label: LabelRow
    number: int
    shadows_before: int
    shadow: int  # its request's number
    share: float
    differs: str
    answered: int | None

    @property
    def right(self) -> tuple[bool | None, ...]:
        """What is told of the safe answer and of each candidate's."""
        found = [None if letter == NOT_TOLD else letter == RIGHT for letter in self.label.told]
        at, shown = self.answered, self.label.shown
        if shown is not None and at is not None and found[at] is None:
            found[at] = bool(shown)
        return tuple(found)


def record(store: Store, label: LabelRow, feedback: FeedbackRow) -> LabelStanding:
    """Keep a label with its feedback, both or neither."""
    of_request = (label.certificate, label.request_id)
    with store.database.transaction():
        ((shadows,),) = store.database.execute(_LOCK, of_request[:1])
        known = store.database.execute(_KNOWN, of_request)
        if known:
            return "again" if tuple(known[0]) == (label.shown, label.told) else "other"
        number = before = None
        if store.database.execute(_SHADOWED, of_request):
            ((count,),) = store.database.execute(NEXT_LABEL, of_request[:1])
            number, before = count - 1, shadows
        row = (*of_request, number, before, label.at_s, label.shown, label.told, label.judge)
        store.database.execute(_INSERT, row)
        store.database.execute(_FEEDBACK, values_of(feedback))
    return "early" if number is None else "fresh"


def since(store: Store, certificate: str, number: int, shadows: int) -> list[PlacedLabel]:
    """Labels from `number` on whose place is after at most `shadows` rows, in order."""
    rows = store.database.execute(_SINCE, (certificate, number, shadows))
    return [
        PlacedLabel(
            label=LabelRow(
                certificate=certificate, request_id=request_id, at_s=at_s, told=told, shown=shown
            ),
            number=found, shadows_before=before, shadow=shadow, share=share, differs=differs,
            answered=answered,
        )
        for found, before, request_id, at_s, shown, told, shadow, share, differs, answered in rows
    ]  # fmt: skip


def unlabelled(store: Store, certificate: str, limit: int = 1000) -> list[tuple[str, float]]:
    """Shadowed requests (id, Unix time) that differ and have no label, oldest first."""
    rows = store.database.execute(
        "SELECT s.request_id, s.at_s FROM shadows s LEFT JOIN live_labels l ON l.certificate = "
        "s.certificate AND l.request_id = s.request_id WHERE s.certificate = ? AND "
        "s.differs LIKE ? AND l.request_id IS NULL ORDER BY s.number LIMIT ?",
        (certificate, f"%{DIFFERENT}%", limit),
    )
    return [(request_id, at_s) for request_id, at_s in rows]
