"""Questions that a recording holds already are the same still: told before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from suffice.core.errors import InputError
from suffice.evals.datasets import Item
from suffice.evals.traces.files import differences, recorded_questions
from suffice.evals.traces.trace_set import Question

# What can be mended without asking again: the text that was said stays the same.
_JUDGED = frozenset(("answer", "checker", "category"))


def check_unchanged(items: Sequence[Item], out: Path) -> None:
    """Raise InputError if a question's prompt, answer or checker is not what `out` holds."""
    recorded = recorded_questions(out)
    changed = [
        (recorded[item.question.key], item.question)
        for item in items
        if item.question.key in recorded and recorded[item.question.key] != item.question
    ]
    if not changed:
        return
    was, is_ = changed[0]
    what = differences(was, is_)
    others = "" if len(changed) == 1 else f" (and {len(changed) - 1} more questions)"
    told = "; ".join(_told(name, was, is_) for name in what)
    remedy = (
        f"grade what was recorded again (suffice traces rejudge {out} --dataset FILE), or record "
        "into another --out"
        if set(what) <= _JUDGED
        else "record into another --out, or name the changed questions anew (id)"
    )
    raise InputError(
        f"{str(out)!r} holds question {is_.name!r} of {is_.dataset!r} with another "
        f"{' and '.join(what)}: {told}{others}. Nothing was asked and the file is as it was: "
        f"{remedy}"
    )


def _told(name: str, was: Question, is_: Question) -> str:
    field = {"prompt": "prompt", "answer": "reference", "checker": "answer_format"}.get(name, name)
    if field == "tools":
        return "tools differ"
    return f"{name} was {_short(getattr(was, field))}, is {_short(getattr(is_, field))}"


def _short(value: str | None) -> str:
    if value is None:
        return "none"
    return repr(value if len(value) <= 60 else value[:57] + "…")
