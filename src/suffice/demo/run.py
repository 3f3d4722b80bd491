"""The demonstration: quickstart's own path on recorded answers of three real models.

Part one, GSM8K: record, calibrate, serve, then ask every other question before and after. Part
two, CRUX: the same rule, two small models that agree, where calibrate refuses it. All costs come
from the engines' own counters.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suffice.backends.openai import OpenAIBackend
from suffice.core.completions import Completion, Usage
from suffice.core.errors import UpstreamRejected
from suffice.core.files import write_text
from suffice.core.prices import Prices, TokenPrice
from suffice.core.savings import share_saved
from suffice.demo.engine import Counted, RecordedEngine
from suffice.demo.recorded import (
    ANSWER_FORMATS,
    LARGE_MODEL,
    PARAMETERS_B,
    SMALL_MODELS,
    RecordedQuestion,
    Task,
    recorded_questions,
)
from suffice.demo.result import Demo, DemoPart, Way
from suffice.evals.grading import check_of
from suffice.quickstart.config import QuickstartConfig
from suffice.quickstart.run import quickstart, serving
from suffice.quickstart.steps import settings_text

# Two small models that agree, else the large one, as a table of suffice.toml.
PLAIN = (
    '{ policy = "cascade", steps = [{ policy = "agreement", models = '
    f'{json.dumps(SMALL_MODELS)} }}, {{ policy = "single", model = "{LARGE_MODEL}" }}] }}'
)
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """`calibrated` and `asked` questions of each set; all that are left are asked by default."""

    calibrated: int = 600
    asked: int | None = None
    limit: float = 2.0
    confidence: float = 0.95
    seed: int = 0
    concurrency: int = 8


# A token costs in proportion to the model's parameters, a prompt token a quarter of that.
PRICES = Prices(
    tuple(
        (model, TokenPrice(prompt_usd=round(b / 400, 6), completion_usd=round(b / 100, 6)))
        for model, b in PARAMETERS_B.items()
    )
)


def run_demo(config: DemoConfig, out: Path, *, tell: Tell) -> Demo:
    """Both parts; everything that is written goes to `out`."""
    began_s = time.perf_counter()
    tell("Part one: GSM8K, grade-school mathematics. Three engines play recorded answers.\n")
    trusted = _part("gsm", "GSM8K", config, out / "gsm8k", tell)
    tell("\nPart two: CRUX, what does this program print? The same three models, the same rule.\n")
    refused = _part("crux", "CRUX", config, out / "crux", tell)
    return Demo(
        trusted=trusted,
        refused=refused,
        limit=config.limit,
        confidence=config.confidence,
        elapsed_s=time.perf_counter() - began_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """Of one way, by question: right or wrong, and who answered."""

    way: Way
    right: tuple[bool, ...]


def _part(task: Task, title: str, config: DemoConfig, out: Path, tell: Tell) -> DemoPart:
    questions = list(recorded_questions(task))
    random.Random(config.seed).shuffle(questions)
    known = questions[: min(config.calibrated, len(questions) // 2)]
    asked = questions[len(known) :][: config.asked]
    with _engines(questions) as engines:
        settings = _settings(known, task, engines, config, out)
        found = quickstart(settings, tell=tell, ask=lambda _, proposal: proposal)
        if found.policy is None:  # nothing was fitted to any of them: all can be asked
            asked = questions[: config.asked]
        which = "the other" if found.policy is not None else "all"
        tell(f"\nNow {which} {len(asked)} questions, every way; the engines count.")
        play = _Play(engines=engines, questions=asked, task=task, config=config)
        before = play.ask(f"{LARGE_MODEL} alone", engines[LARGE_MODEL].url, LARGE_MODEL)
        ways = [play.ask(f"{m} alone", engines[m].url, m).way for m in SMALL_MODELS]
        reported = None
        if found.policy is not None:
            with serving(settings, tell) as url:
                earlier = asyncio.run(_reported(url))  # quickstart has asked some already
                after = play.ask("suffice, certified", url, f"suffice/{settings.policy_file.stem}")
                reported = asyncio.run(_reported(url)).saved_since(earlier)
        else:
            plain = _plain_settings(settings, task)
            with serving(plain, tell) as url:
                after = play.ask("the same rule, not certified", url, "suffice/plain")
    return DemoPart(
        title=title,
        questions=len(asked),
        calibrated_on=len(known),
        baseline=before.way,
        others=(*ways, after.way),
        policy=found.policy,
        reported_saved=reported,
        only_baseline_right=_only(before, after),
        only_other_right=_only(after, before),
    )


def _only(one: _Answers, other: _Answers) -> int:
    """Questions that `one` answered right and `other` wrong."""
    return sum(a and not b for a, b in zip(one.right, other.right, strict=True))


@contextmanager
def _engines(questions: Sequence[RecordedQuestion]) -> Iterator[dict[str, RecordedEngine]]:
    with ExitStack() as stack:
        models = (*SMALL_MODELS, LARGE_MODEL)
        yield {m: stack.enter_context(RecordedEngine(m, questions)) for m in models}


def _settings(
    known: Sequence[RecordedQuestion], task: Task, engines: dict[str, RecordedEngine],
    config: DemoConfig, out: Path,
) -> QuickstartConfig:  # fmt: skip
    """Quickstart's question, with the calibrating questions in a file."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "questions.jsonl"
    rows = [
        {"prompt": q.prompt, "answer": q.reference, "checker": ANSWER_FORMATS[task]} for q in known
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return QuickstartConfig(
        upstreams=tuple(engine.url for engine in engines.values()),
        questions=path,
        out=out,
        baseline=LARGE_MODEL,
        prices=PRICES,
        limit=config.limit,
        confidence=config.confidence,
    )


def _plain_settings(settings: QuickstartConfig, task: Task) -> QuickstartConfig:
    """The rule as anybody would write it, without a certificate."""
    plain = replace(settings, out=settings.out / "plain")
    plain.out.mkdir(exist_ok=True)
    policies, answer_format = {"plain": PLAIN}, ANSWER_FORMATS[task]
    text = settings_text(plain, LARGE_MODEL, PRICES, policies=policies, answer_format=answer_format)
    write_text(plain.settings, text)
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class _Play:
    """Asks the same questions in one way after the other."""

    engines: dict[str, RecordedEngine]
    questions: Sequence[RecordedQuestion]
    task: Task
    config: DemoConfig

    def ask(self, name: str, url: str, model: str) -> _Answers:
        """Every question once; the cost is what the engines counted meanwhile."""
        before = {m: replace(engine.counted) for m, engine in self.engines.items()}
        answers = asyncio.run(self._all(url, model))
        cost = sum(
            PRICES.amount(m, _usage(engine.counted, before[m]))
            for m, engine in self.engines.items()
        )
        right = tuple(
            self._right(question, answer)
            for question, answer in zip(self.questions, answers, strict=True)
        )
        way = Way(
            name=name,
            right=sum(right),
            questions=len(right),
            cost=cost,
            by_model=dict(Counter(str(answer["model"]) for answer in answers)),
        )
        return _Answers(way=way, right=right)

    def _right(self, question: RecordedQuestion, answer: dict[str, Any]) -> bool:
        text = answer["choices"][0]["message"]["content"] or ""
        check = check_of(ANSWER_FORMATS[self.task], question.reference)
        return bool(check(Completion(text=text, finish_reason="stop", usage=Usage())).correct)

    async def _all(self, url: str, model: str) -> list[dict[str, Any]]:
        backend = OpenAIBackend(url)
        answers: dict[int, dict[str, Any]] = {}
        numbers = iter(range(len(self.questions)))

        async def work() -> None:
            for number in numbers:  # one iterator for all: each question is taken once
                body = {"model": model, "messages": _turn(self.questions[number].prompt)}
                status, answer = await backend.post("/v1/chat/completions", body)
                if status != 200:
                    raise UpstreamRejected(f"{model} answered {status}: {answer}", status=status)
                answers[number] = answer

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.config.concurrency):
                    group.create_task(work())
        finally:
            await backend.aclose()
        return [answers[number] for number in range(len(self.questions))]


def _turn(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _usage(now: Counted, before: Counted) -> Usage:
    return Usage(
        prompt_tokens=now.prompt_tokens - before.prompt_tokens,
        completion_tokens=now.completion_tokens - before.completion_tokens,
    )


@dataclass(frozen=True, slots=True)
class _Reported:
    """What the gateway's ledger says of everything that it has answered so far, in USD."""

    cost: float
    baseline_cost: float

    def saved_since(self, before: _Reported) -> float | None:
        return share_saved(self.cost - before.cost, self.baseline_cost - before.baseline_cost)


async def _reported(url: str) -> _Reported:
    backend = OpenAIBackend(url)
    try:
        status, state = await backend.post("/admin/state", None)
    finally:
        await backend.aclose()
    if status != 200:
        raise UpstreamRejected(f"/admin/state answered {status}", status=status)
    total = state["total"]
    return _Reported(float(total["compared_cost_usd"]), float(total["baseline_cost_usd"]))
