"""The planner that ships: it calls tools, plans, and is right about a country it never saw."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from small_planner.questions import Country, questions

from suffice.core.requests import Message, Request, Sampling
from suffice.executors.live import run
from suffice.policies.registry import parse_policy
from suffice.tools.toolbox import Toolbox

pytestmark = pytest.mark.torch
FOLDER = Path(__file__).parents[2] / "data" / "models" / "planner"


def test_it_is_right_about_a_country_that_it_never_saw() -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from suffice.backends.transformers_backend import TransformersBackend

    backend = TransformersBackend(
        transformers.AutoModelForCausalLM.from_pretrained(FOLDER),
        transformers.AutoTokenizer.from_pretrained(FOLDER),
        name="planner",
    )
    country = Country("a test's own")
    box = Toolbox([country.server()])
    asked = [q for q in questions(24, seed="t", split="held_out", country=country) if q.plan.steps]
    short = [q for q in asked if len(q.plan.steps) <= 2][:6]

    async def right(policy: str) -> tuple[int, int]:
        found = calls = 0
        for question in short:
            request = Request(
                messages=(Message(role="user", content=question.text),), model="planner",
                sampling=Sampling(temperature=0.0, max_tokens=120),
            )  # fmt: skip
            outcome = await run(parse_policy(policy), request, backend, toolbox=box)
            found += outcome.completion.text.strip() == question.answer
            calls += outcome.tool_calls_run
        return found, calls

    async def both() -> None:
        for policy in ("react", "rewoo"):
            found, calls = await right(policy)
            assert found >= len(short) // 2, policy
            assert calls >= len(short)
        await backend.aclose()

    asyncio.run(both())
