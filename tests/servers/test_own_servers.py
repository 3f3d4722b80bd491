"""The path of a new user by hand: record, calibrate, settings, serve. Three commands and a file.

Two engines play recorded answers and count for themselves; every figure that is shown is held
against their counts.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from suffice.backends.openai import OpenAIBackend
from suffice.cli.main import app
from suffice.core.completions import Usage
from suffice.core.prices import Prices
from suffice.demo.engine import RecordedEngine
from suffice.demo.recorded import LARGE_MODEL, SMALL_MODELS, recorded_questions
from suffice.quickstart.config import QuickstartConfig
from suffice.quickstart.run import serving

SMALL = SMALL_MODELS[0]
QUESTIONS = recorded_questions("gsm")[:200]
PRICES = Prices.parse([f"{SMALL}=0.02/0.08", f"{LARGE_MODEL}=1/4"])
SETTINGS = """
[policies]
policy = "policy.json"
[baseline]
model = "{large}"
[prices]
"{small}" = "0.02/0.08"
"{large}" = "1/4"
[ledger]
url = "{ledger}"
[[upstream]]
url = "{one}"
[[upstream]]
url = "{two}"
"""


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output + str(done.exception or "")
    return done.output


async def ask(url: str, model: str, prompts: list[str], **fields: Any) -> list[dict[str, Any]]:
    backend = OpenAIBackend(url)
    found = []
    try:
        for prompt in prompts:
            turn = [{"role": "user", "content": prompt}]
            status, answer = await backend.post(
                "/v1/chat/completions", {"model": model, "messages": turn, **fields}
            )
            found.append(answer | {"status": status})
    finally:
        await backend.aclose()
    return found


async def state(url: str, requests: int) -> dict[str, Any]:
    """The dashboard's figures, once the ledger holds `requests` of them: it writes in lots."""
    backend = OpenAIBackend(url)
    try:
        for _ in range(100):
            shown: dict[str, Any] = (await backend.post("/admin/state", None))[1]
            if sum(one["requests"] for one in shown["models"]) >= requests:
                break
            await asyncio.sleep(0.1)
        return shown
    finally:
        await backend.aclose()


def counted(engine: RecordedEngine) -> float:
    used = engine.counted
    usage = Usage(prompt_tokens=used.prompt_tokens, completion_tokens=used.completion_tokens)
    return PRICES.amount(engine.model, usage)


@pytest.mark.timeout(600)
def test_from_two_servers_to_a_saving_that_the_engines_confirm(tmp_path: Path) -> None:
    data = tmp_path / "mine.jsonl"
    rows = [{"question": q.prompt, "target": q.reference} for q in QUESTIONS]  # usual names
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with RecordedEngine(SMALL, QUESTIONS) as one, RecordedEngine(LARGE_MODEL, QUESTIONS) as two:
        recording, policy = tmp_path / "r.parquet", tmp_path / "policy.json"
        told = run(
            "record", "--dataset", str(data), "--upstream", one.url, "--upstream", two.url,
            "--samples", "1", "--top-logprobs", "0", "--out", str(recording),
        )  # fmt: skip
        assert "200 of 200" in told
        run(
            "calibrate", str(recording), "--baseline", f"single@{LARGE_MODEL}",
            "--max-drop", "20%", "--out", str(policy),
            *(f"--price={model}={rates}" for model, rates in PRICES.table().items()),
        )  # fmt: skip
        config = QuickstartConfig(upstreams=(one.url, two.url), questions=data, out=tmp_path)
        config.settings.write_text(
            SETTINGS.format(
                small=SMALL,
                large=LARGE_MODEL,
                one=one.url,
                two=two.url,
                ledger=tmp_path / "ledger.db",
            )
        )
        before = counted(one) + counted(two)
        with serving(config, lambda _: None) as url:
            prompts = [question.prompt for question in QUESTIONS]
            certified = asyncio.run(ask(url, "suffice/policy", prompts))
            spent = counted(one) + counted(two) - before
            due = sum(
                PRICES.amount(
                    LARGE_MODEL,
                    Usage(
                        prompt_tokens=q.prompt_tokens,
                        completion_tokens=q.answers[LARGE_MODEL].completion_tokens,
                    ),
                )
                for q in QUESTIONS
            )
            shown = asyncio.run(state(url, requests=len(prompts)))
            # Passed through: nothing is saved where the baseline would have done the same.
            plain = asyncio.run(ask(url, LARGE_MODEL, prompts[:3]))
            chat = asyncio.run(ask(url, "suffice/single", ["Tell me a story."]))
            wrong = asyncio.run(ask(url, "nobody-serves-this", ["?"]))
    saved = 1 - spent / due
    assert saved > 0.5
    # Receipts, dashboard: within one point of what the engines counted.
    receipts = [answer["suffice"]["saving"] for answer in certified]
    total = sum(each["cost"] for each in receipts)
    assert total == pytest.approx(spent, rel=0.01)
    assert 1 - total / sum(each["baseline_cost"] for each in receipts) == pytest.approx(
        saved, abs=0.01
    )
    assert shown["total"]["saved"] == pytest.approx(saved, abs=0.01)
    (card,) = shown["certificates"]
    assert card["alarm"] is None  # the same questions again are no change of traffic
    assert card["seen"]["saved"] == pytest.approx(saved, abs=0.01)
    assert card["promised"]["low"] - 0.02 <= saved <= card["promised"]["high"] + 0.02
    # Who answered is who is named.
    for question, answer in zip(QUESTIONS, certified, strict=True):
        assert answer["choices"][0]["message"]["content"] == question.text_of(answer["model"])
    by_model = {one["model"]: one["requests"] for one in shown["models"]}
    assert by_model[SMALL] == sum(answer["model"] == SMALL for answer in certified)
    assert all(answer["model"] == LARGE_MODEL for answer in plain)
    assert chat[0]["suffice"]["saved"] is None or chat[0]["model"] != LARGE_MODEL
    assert wrong[0]["status"] == 404
