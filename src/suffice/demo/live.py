"""The demonstration's live half: recorded answers as traffic, without labels, certified as it runs.

GSM8K questions come one after the other; Llama-3.1-405B answers, and a share of them is also
answered by the two small models. Labels are looked at in the end alone, to hold the promise to.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.backends.openai import OpenAIBackend
from suffice.core.completions import Completion, Usage
from suffice.core.errors import UpstreamRejected
from suffice.core.files import write_text
from suffice.demo.engine import RecordedEngine
from suffice.demo.recorded import (
    ANSWER_FORMATS,
    LARGE_MODEL,
    SMALL_MODELS,
    RecordedQuestion,
    recorded_questions,
)
from suffice.demo.run import PRICES
from suffice.evals.grading import check_of
from suffice.quickstart.live import LiveStart, Proposal, settings_text
from suffice.quickstart.run import serving

Tell = Callable[[str], None]
CONCURRENCY = 8
# Half of the requests is shadowed, so that one does not wait long.
SHARE = 0.5
SAFE = f"single@{LARGE_MODEL}"
PROPOSAL = Proposal(
    safe=SAFE, cheap=f"agreement:models={'+'.join(SMALL_MODELS)} > {SAFE}", why="they agree"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDemo:
    """What was seen; costs at the prices of the demonstration, shadow runs included."""

    requests: int
    shadowed: int
    certified_after: int | None  # shadowed requests; None: not within these requests
    differ: float | None  # of shadowed requests
    right_safe: tuple[int, int]  # of answers before the certificate: right, all
    right_certified: tuple[int, int]  # and under it
    cost: float
    cost_of_safe: float  # of the same requests, all answered by the large model
    elapsed_s: float

    @property
    def saved(self) -> float:
        """One minus the cost over the large model's alone."""
        return 1.0 - self.cost / self.cost_of_safe


def run_live_demo(
    out: Path, *, tell: Tell, asked: int | None = None, target: float = 0.08, seed: int = 0
) -> LiveDemo:
    """Ask `asked` questions (all by default) through a gateway that starts with the large model."""
    began_s = time.perf_counter()
    questions = list(recorded_questions("gsm"))
    random.Random(seed).shuffle(questions)
    questions = questions[:asked]
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        models = (*SMALL_MODELS, LARGE_MODEL)
        engines = {model: stack.enter_context(RecordedEngine(model, questions)) for model in models}
        start = LiveStart(
            upstreams=tuple(engine.url for engine in engines.values()), out=out,
            answer_format=ANSWER_FORMATS["gsm"], target=target,
        )  # fmt: skip
        (out / "ledger.db").unlink(missing_ok=True)  # a demonstration begins with nothing
        write_text(start.settings, settings_text(
            start, PROPOSAL, start.upstreams, PRICES, more=(f"share = {SHARE:g}",)))  # fmt: skip
        url = stack.enter_context(serving(start, tell))
        tell(f"  watch it at {url}/ : evidence, differences, what is saved")
        answers, state = asyncio.run(_traffic(url, questions, tell))
        cost = sum(
            PRICES.amount(model, Usage(
                prompt_tokens=engine.counted.prompt_tokens,
                completion_tokens=engine.counted.completion_tokens))
            for model, engine in engines.items()
        )  # fmt: skip
    return _told(questions, answers, state, cost, time.perf_counter() - began_s)


async def _traffic(
    url: str, questions: list[RecordedQuestion], tell: Tell
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    backend = OpenAIBackend(url)
    answers: list[dict[str, Any]] = []
    try:
        for begin in range(0, len(questions), 100):
            numbers = iter(questions[begin : begin + 100])
            found: dict[int, dict[str, Any]] = {}

            async def work(
                numbers: Any = numbers, found: dict[int, dict[str, Any]] = found
            ) -> None:
                for question in numbers:  # one iterator for all: each question is taken once
                    found[id(question)] = await _ask(backend, question)

            async with asyncio.TaskGroup() as group:
                for _ in range(CONCURRENCY):
                    group.create_task(work())
            answers += [found[id(question)] for question in questions[begin : begin + 100]]
            state = await _state(backend)
            tell(_line(len(answers), state))
        await asyncio.sleep(1.0)  # the last shadow runs end
        return answers, await _state(backend)
    finally:
        await backend.aclose()


async def _ask(backend: OpenAIBackend, question: RecordedQuestion) -> dict[str, Any]:
    body = {"model": LARGE_MODEL, "messages": [{"role": "user", "content": question.prompt}]}
    status, answer = await backend.post("/v1/chat/completions", body)
    if status != 200:
        raise UpstreamRejected(f"the gateway answered {status}: {answer}", status=status)
    return answer


async def _state(backend: OpenAIBackend) -> dict[str, Any]:
    status, state = await backend.post("/admin/state", None)
    if status != 200:
        raise UpstreamRejected(f"/admin/state answered {status}", status=status)
    found: dict[str, Any] = state["live_certificates"][0]
    return found


def _line(asked: int, state: dict[str, Any]) -> str:
    one = state["candidates"][0]
    differ = "nothing compared yet" if not one["n"] else f"{100 * one['differ']:.1f} % differ"
    evidence = 100 * max(0.0, one["log_wealth"]) / state["reach"]
    standing = "certified, the small models answer" if one["on"] else f"evidence {evidence:.0f} %"
    return f"  {asked:5,} requests, {state['shadowed']:4,} shadowed, {differ}: {standing}"


def _told(
    questions: list[RecordedQuestion], answers: list[dict[str, Any]], state: dict[str, Any],
    cost: float, elapsed_s: float,
) -> LiveDemo:  # fmt: skip
    right: dict[bool, list[int]] = {True: [0, 0], False: [0, 0]}
    for question, answer in zip(questions, answers, strict=True):
        text = answer["choices"][0]["message"]["content"] or ""
        check = check_of(ANSWER_FORMATS["gsm"], question.reference)
        completion = Completion(text=text, finish_reason="stop", usage=Usage())
        sums = right[answer["suffice"]["certificate"]["status"] == "valid"]
        sums[0] += bool(check(completion).correct)
        sums[1] += 1
    promoted = [each["n"] for each in state["events"] if each["happened"] == "promoted"]
    return LiveDemo(
        requests=len(answers),
        shadowed=state["shadowed"],
        certified_after=promoted[0] if promoted else None,
        differ=state["candidates"][0]["differ"],
        right_safe=(right[False][0], right[False][1]),
        right_certified=(right[True][0], right[True][1]),
        cost=cost,
        cost_of_safe=sum(
            PRICES.amount(LARGE_MODEL, Usage(
                prompt_tokens=question.prompt_tokens,
                completion_tokens=question.answers[LARGE_MODEL].completion_tokens))
            for question in questions
        ),
        elapsed_s=elapsed_s,
    )  # fmt: skip


def live_sentences(found: LiveDemo, target: float) -> list[str]:
    """What it says, for people."""
    if found.certified_after is None:
        first = f"not certified within {found.requests:,} requests, {found.shadowed:,} shadowed"
    else:
        first = (
            f"certified after {found.certified_after:,} shadowed requests, without a label: at "
            f"most {100 * target:g} % are answered differently from {LARGE_MODEL}, at 95 %"
        )
    lines = [first]
    for name, (right, count) in (
        (f"{LARGE_MODEL} alone, before", found.right_safe),
        ("under the certificate", found.right_certified),
    ):
        if count:
            lines.append(f"labels, looked at now: {right:,} of {count:,} right {name}")
    lines.append(
        f"all {found.requests:,} requests, shadow runs included, cost "
        f"{100 * (1 - found.saved):.0f} % of {LARGE_MODEL} alone"
    )
    return lines
