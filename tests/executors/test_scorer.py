"""A user's own verifier, by its name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from suffice.backends.fake import FakeBackend, Script
from suffice.core.errors import InputError
from suffice.core.requests import Message, Request
from suffice.executors.live import run
from suffice.executors.scorer import load_scorer
from suffice.policies.fixed import BestOfN

SOURCE = """
NOTHING = 1

def longest(request, completion):
    return len(completion.text)

async def later(request, completion):
    return float("right" in completion.text)

def lonely(completion):
    return 0.0
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judges_of_a_test.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])


@pytest.mark.parametrize("name", ["longest", "later"])
def test_the_best_by_the_users_own_function_is_the_answer(name: str) -> None:
    backend = FakeBackend([Script.of("no"), Script.of("this is right"), Script.of("nope")])
    request = Request(messages=(Message(role="user", content="?"),), model="fake")
    score = load_scorer(f"judges_of_a_test:{name}")
    outcome = asyncio.run(run(BestOfN(samples=3), request, backend, score=score))
    assert outcome.completion.text == "this is right"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("judges_of_a_test", "module:function"),
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ("judges_of_a_test:missing", "no function 'missing'"),
        ("judges_of_a_test:NOTHING", "no function 'NOTHING'"),
        ("judges_of_a_test:lonely", "must take the request and a completion"),
    ],
)
def test_what_is_no_scorer_is_explained(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_scorer(text)
