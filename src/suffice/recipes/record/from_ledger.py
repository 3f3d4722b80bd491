"""Traffic in the ledger as traces: stored prompts and answers, judged by feedback.

Equal prompts are one question, whoever asked. A judgement is of the accepted answer: samples that
gave the same answer share it, and where it was right all other answers are wrong. Where it was
wrong nothing is known of the others. The ledger keeps a sample's mean confidence, not that of every
token, so that traces made of it have none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from suffice.core.completions import Completion, Usage
from suffice.core.errors import InputError
from suffice.evals.extract import extractor
from suffice.evals.traces.columns import TraceInformation
from suffice.evals.traces.trace_set import Question, Trace, messages_json

Record = Mapping[str, Any]  # as suffice.ledger.export.records gives them

HOW_TO_KEEP = (
    'keep prompts and outputs from now on ([ledger] texts = "all", or suffice serve with that '
    "configuration); what was not stored cannot be recovered"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FromLedger:
    """The traces, and what had to be left out."""

    traces: tuple[Trace, ...]
    requests: int  # read
    used: int  # requests that gave at least one sample
    judged: int  # of these, with a judgement
    left_out: Mapping[str, int]  # requests by reason

    @property
    def information(self) -> TraceInformation:
        """What the file says about itself."""
        return TraceInformation(
            description=f"{self.used} requests of a gateway's ledger, prompts and outputs redacted",
            source="suffice ledger",
            notes="Judged by feedback; requests left out: " + (told_of(self.left_out) or "none"),
        )


class _Said(NamedTuple):
    """One finished sample of a request."""

    model: str
    answer: str | None
    text: str
    accepted: bool
    row: Record


@dataclass(slots=True)
class _Asked:
    """Everything about one prompt."""

    messages: str
    said: list[tuple[Record, _Said]] = field(default_factory=list)
    verdicts: dict[str, bool] = field(default_factory=dict)  # by answer; the last counts


def traces_of(
    records: Iterable[Record], *, answer_format: str | None = None, judged: bool = False
) -> FromLedger:
    """Traces of ledger records, oldest first.

    `answer_format` extracts answers from stored outputs where no policy did. `judged` leaves out
    questions of which any sample's verdict is not known. Raises InputError if nothing is left.
    """
    asked: dict[str, _Asked] = {}
    left_out: Counter[str] = Counter()
    requests = used = verdicts = 0
    for record in records:
        requests += 1
        why = _unusable(record)
        said = [] if why else list(_samples(record, answer_format))
        if not said:
            left_out[why or "without a finished sample"] += 1
            continue
        used += 1
        messages = _messages(record["prompt"])
        question = asked.setdefault(messages, _Asked(messages=messages))
        question.said.extend((record, each) for each in said)
        verdicts += record["score"] is not None
        _learn(question.verdicts, said, record["score"])
    _check(requests, used, told_of(left_out))
    traces = []
    for question in asked.values():
        found = list(_traces(question, answer_format))
        if judged and any(trace.correct is None for trace in found):
            left_out["with a sample that nobody judged"] += len({id(r) for r, _ in question.said})
            continue
        traces += found
    if not traces:
        raise InputError(
            f"none of the {used} requests with prompt and output is judged (left out: "
            f"{told_of(left_out)}): send judgements to /v1/feedback (request_id and correct), or "
            "leave --judged out"
        )
    return FromLedger(
        traces=tuple(traces), requests=requests, used=used, judged=verdicts, left_out=left_out
    )


def _unusable(record: Record) -> str:
    if record["ending"] != "answered":
        return "that failed or were left"
    if record["prompt"] is None:
        return "without a stored prompt"
    if record["output"] is None:
        return "without a stored output"
    if record["choices"] != 1:
        return "with several choices"
    return ""


def told_of(left_out: Mapping[str, int]) -> str:
    """What was left out, in words."""
    return ", ".join(f"{count} {why}" for why, count in left_out.items())


def _check(requests: int, used: int, left_out: str) -> None:
    if used:
        return
    if not requests:
        raise InputError("the ledger holds no request of that time: serve some, or widen --since")
    raise InputError(f"none of {requests} requests can become a trace ({left_out}): {HOW_TO_KEEP}")


def _samples(record: Record, answer_format: str | None) -> Iterator[_Said]:
    rows = [
        row
        for row in record["sample_rows"]
        if row["purpose"] == "answer" and row["status"] == "finished"
    ]
    asked = Question(dataset="ledger", name="", messages_json=_messages(record["prompt"])).prompt
    if not record["sample_rows"]:  # passed through: the request was its own sample
        text = passed_text(record["output"])
        model = record["served_model"] or record["model"]
        if text is not None and model:
            yield _Said(model, _extracted(text, answer_format, asked), text, True, record)
        return
    for row in rows:
        accepted = row["sample"] == record["accepted_sample"]
        text = record["output"] if accepted else ""
        answer = row["answer"]
        if answer is None and accepted:
            answer = _extracted(text, answer_format, asked)
        yield _Said(row["model"], answer, text, accepted, row)


def _extracted(text: str, answer_format: str | None, asked: str) -> str | None:
    extract = extractor(answer_format, asked=asked)
    if extract is None:
        return None
    return extract(Completion(text=text, finish_reason="stop", usage=Usage()))


def passed_text(output: str) -> str | None:
    """The text of a response that was passed through: one JSON object, or server-sent events."""
    if not output.lstrip().startswith("data:"):
        return _message(output, "message")
    pieces = [
        _message(line.removeprefix("data:"), "delta") or ""
        for line in output.splitlines()
        if line.startswith("data:") and line.removeprefix("data:").strip() != "[DONE]"
    ]
    return "".join(pieces) or None


def _message(text: str, part: str) -> str | None:
    try:
        choice = json.loads(text)["choices"][0]
        said = choice.get("text") if "text" in choice else choice[part].get("content")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None  # cut short, or no completion: redaction may have broken it too
    return said if isinstance(said, str) else None


def _messages(prompt: str) -> str:
    """The stored prompt as a message list: it is one already, or the text of a completion."""
    try:
        found = json.loads(prompt)
    except ValueError:
        found = None
    listed = isinstance(found, list) and found and all(isinstance(each, dict) for each in found)
    return json.dumps(found, ensure_ascii=False) if listed else messages_json(prompt)


def _learn(verdicts: dict[str, bool], said: list[_Said], score: float | None) -> None:
    """A judgement of the accepted answer; between 0 and 1 it is no verdict."""
    if score not in (0.0, 1.0):
        return
    for each in said:
        if each.accepted and each.answer is not None:
            verdicts[each.answer] = score == 1.0


def _traces(question: _Asked, answer_format: str | None) -> Iterator[Trace]:
    right = [answer for answer, good in question.verdicts.items() if good]
    asked = Question(
        dataset="ledger",
        name=hashlib.sha256(question.messages.encode()).hexdigest()[:16],
        messages_json=question.messages,
        reference=right[-1] if right else None,
        answer_format=answer_format,
    )
    numbers: dict[str, int] = defaultdict(int)
    for record, said in question.said:
        row, score = said.row, record["score"]
        yield Trace(
            question=asked,
            model=said.model,
            sample=numbers[said.model],
            text=said.text,
            prompt_tokens=row["prompt_tokens"] or None,
            completion_tokens=row["completion_tokens"],
            answer=said.answer,
            correct=_correct(question.verdicts, said, score),
            score=score if said.accepted and score not in (None, 0.0, 1.0) else None,
            ttft_s=row.get("ttft_s"),
            e2e_s=row["elapsed_s"],
        )
        numbers[said.model] += 1


def _correct(verdicts: Mapping[str, bool], said: _Said, score: float | None) -> bool | None:
    if said.answer is None:  # only this very text can have been judged
        return score == 1.0 if said.accepted and score in (0.0, 1.0) else None
    known = verdicts.get(said.answer)
    return False if known is None and any(verdicts.values()) else known
