"""How an answer came about, and which certificate it falls under: facts that travel with it.

They are fields of a policy's verdict, of the outcome, of the receipt and of the ledger's row. The
sentence `why` beside them is for people: no code reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

# accepted  ended early because it was sure enough: an earlier step of a cascade, a settled vote
# hopeless  ended early because more would hardly have helped
# last      of a certified rule: its own last step answered, which is not the baseline (a model that
#           unsettled votes are handed to, a vote whose cap is below the baseline's)
# safe      the last step answered, or a vote ran to its cap: nothing was left out; of a certified
#           rule: the baseline itself answered
Exit = Literal["accepted", "hopeless", "last", "safe"]
EARLY: frozenset[Exit] = frozenset({"accepted", "hopeless"})

# Why nothing, or no more, was compared:
# free_form            the request has no answer format: one sample answers it
# greedy               every sample would be the same (temperature 0): one sample answers it
# nothing_comparable   the first samples held no answer that can be compared
# all_different        no two samples agreed, and the vote was not going to be won
Note = Literal["free_form", "greedy", "nothing_comparable", "all_different"]
# Votes that were paid for and decided nothing.
FUTILE: frozenset[Note] = frozenset({"nothing_comparable", "all_different"})

# shadowing: a live certificate is not there (yet, or any more): the safe policy answers
CertificateStatus = Literal["valid", "switched off", "not covered", "shadowing"]

# What a request can differ in from those that a certificate is about; `cascade`: the certified
# policy was one step of another.
NotCovered = Literal[
    "free_form",
    "answer_format",
    "extraction_version",
    "system_prompt",
    "template",
    "turns",
    "content",
    "tools",
    "response_format",
    "endpoint",
    "thinking",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "max_tokens",
    "extra_field",
    "cascade",
]
NOT_COVERED: tuple[NotCovered, ...] = get_args(NotCovered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """A certificate, and whether it covers an answer.

    valid         it covers the answer
    switched off  a monitor raised the alarm: the baseline answers
    not covered   it is not about requests like this one: the baseline answers
    shadowing     a live certificate that has not been earned: the safe policy answers
    """

    id: str
    status: CertificateStatus
    not_covered: NotCovered | None = None  # what the request differs in
    reason: str = ""  # for people: what the alarm was, or why the request is not covered
    # Of a live certificate: the largest loss, its confidence, shadowed requests so far, and the
    # candidate that answers (1 is the first; 0: the safe policy).
    target: float | None = None
    confidence: float | None = None
    shadowed: int | None = None
    candidate: int | None = None
