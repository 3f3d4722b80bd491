"""How an answer came about, and which certificate it falls under: facts that travel with it.

They are fields of a policy's verdict, of the outcome, of the receipt and of the ledger's row. The
sentence `why` beside them is for people: no code reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# accepted  ended early because it was sure enough: an earlier step of a cascade, a settled vote
# hopeless  ended early because more would hardly have helped
# safe      the last step answered, or a vote ran to its cap: nothing was left out
Exit = Literal["accepted", "hopeless", "safe"]
EARLY: frozenset[Exit] = frozenset({"accepted", "hopeless"})

CertificateStatus = Literal["valid", "void", "not covered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """A certificate, and whether it covers an answer.

    valid        it covers the answer
    void         a monitor raised the alarm: the baseline answers
    not covered  it is not about requests like this one: the baseline answers, or what the budget
                 left
    """

    id: str
    status: CertificateStatus
    reason: str = ""  # for people: why it is void, or why the request is not covered
