"""The books against the engines' own count: receipts, headers, ledger, metrics, dashboard.

Two engines play a small and a large model; what they were asked for and drew, they count
themselves. Every figure that the gateway tells is held against that count.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.completions import Usage
from suffice.core.prices import Prices
from suffice.gateway.admission import TrafficConfig
from suffice.gateway.config import ModelsConfig
from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.observe.serving_hooks import serving_hooks
from suffice.ledger.export import records
from suffice.ledger.store import Store
from suffice.policies.policy_file import About, ModelTokens, OptionCost
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply, ServedReply, Talents
from tests.policies.policy_table import policy_table
from tests.servers.test_endings import ask_raw
from tests.servers.tools import Tools

SMALL, LARGE = "small", "large"
PRICES = Prices.parse([f"{SMALL}=0.1/0.4/0.02", f"{LARGE}=0.5/2/0.1"])
NUMBER = {"answer_format": "number"}
QUESTIONS = range(40)
WITHIN = 0.01


def hard(i: int) -> bool:
    return i % 4 == 3


def drawn(model: str, i: int) -> int:
    """Completion tokens of a model's answer to question i."""
    if model == SMALL:
        return 3 + i % 3
    return (40 if hard(i) else 11) + i % 5


def reply(model: str, i: int, number: int) -> Reply:
    if model == SMALL and hard(i):
        said = (
            "word " * (drawn(model, i) - 1) + "unsure"
        )  # nothing to compare: the large one is asked
    else:
        said = "so " * (drawn(model, i) - 1) + str(100 + i)
    return Reply.saying(said, delay_s=0.0)


def script(model: str) -> Any:
    def play(number: int, body: dict[str, Any]) -> Reply:
        text = json.dumps(body)
        if "broken" in text:
            return Reply(status=500, error="out of order")
        if "poem" in text:
            return Reply.saying("roses are red " * 10)
        if "novel" in text:
            return Reply(tokens=("word ",) * 2000, delay_s=0.01)
        found = re.search(r"question (\d+)", text)
        return reply(model, int(found[1]) if found else 0, number)

    return play


def certificate() -> dict[str, Any]:
    """A policy file whose recording holds these very questions."""
    n = len(QUESTIONS)
    mean = {m: sum(drawn(m, i) for i in QUESTIONS) / n for m in (SMALL, LARGE)}
    asked = sum(drawn(LARGE, i) for i in QUESTIONS if hard(i)) / n
    share = sum(map(hard, QUESTIONS)) / n

    def took(model: str, samples: float, tokens: float) -> ModelTokens:
        return ModelTokens(model=model, samples=samples, completion_tokens=tokens)

    def row(role: Any, option: str, *by_model: ModelTokens) -> OptionCost:
        return OptionCost(role=role, option=option, accuracy=1.0, cost=1.0, by_model=by_model)

    return policy_table(
        f"single@{SMALL}", f"single@{LARGE}", model=SMALL, stopped=1.0 - share,
        models=(SMALL, LARGE),
        about=About(prices=PRICES.table()),
        costs=(
            row("baseline", f"single@{LARGE}", took(LARGE, 1, mean[LARGE])),
            row(
                "certified", f"single@{SMALL}",
                took(SMALL, 1, mean[SMALL]), took(LARGE, share, asked),
            ),
            row("option", f"single@{SMALL}", took(SMALL, 1, mean[SMALL])),
        ),
    )  # fmt: skip


@dataclass
class Books:
    """A gateway over both engines, its ledger, and what was told of each request."""

    url: str
    small: FakeEngine
    large: FakeEngine
    path: str
    answers: list[httpx2.Response] = field(default_factory=list)

    def ask(self, model: str, content: str, **more: Any) -> httpx2.Response:
        body = {"model": model, "messages": [{"role": "user", "content": content}], **more}
        answer = httpx2.post(f"{self.url}/v1/chat/completions", json=body, timeout=30)
        self.answers.append(answer)
        return answer

    def receipts(self) -> list[dict[str, Any]]:
        return [answer.json()["suffice"] for answer in self.answers]

    def rows(self, count: int) -> list[dict[str, Any]]:
        until = time.monotonic() + 10
        while True:
            with closing(Store(self.path)) as store:
                found = list(records(store))
            if len(found) >= count:
                return found
            assert time.monotonic() < until, f"{len(found)} of {count} rows came"
            time.sleep(0.05)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx2.get(f"{self.url}/admin/state?span=1h").json()
        return found

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a counter over the labels that are not named."""
        total = 0.0
        for line in httpx2.get(f"{self.url}/metrics").text.splitlines():
            match = re.fullmatch(rf"{name}_total(?:{{(.*)}})? (\S+)", line)
            if match and all(f'{k}="{v}"' in (match[1] or "") for k, v in labels.items()):
                total += float(match[2])
        return total

    @property
    def truth(self) -> dict[str, ServedReply]:
        """What each engine counted."""
        return {SMALL: self.small.seen.took(SMALL), LARGE: self.large.seen.took(LARGE)}

    @property
    def usd(self) -> float:
        """What that costs."""
        return sum(priced(model, served) for model, served in self.truth.items())


def priced(model: str, served: ServedReply) -> float:
    usage = Usage(
        prompt_tokens=served.prompt_tokens,
        completion_tokens=served.completion_tokens,
        cached_tokens=served.cached_tokens,
    )
    return PRICES.amount(model, usage)


@contextmanager
def books(
    tools: type[Tools], path: Path, *, talents: dict[str, Any] | None = None, **settings: Any
) -> Iterator[Books]:
    url = str(path / "ledger.db")
    able = {"caches_prompts": True, **(talents or {})}
    with (
        FakeEngine(script(SMALL), talents=Talents(models=(SMALL,), **able)) as small,
        FakeEngine(script(LARGE), talents=Talents(models=(LARGE,), **able)) as large,
    ):
        settings.setdefault("prices", PRICES)
        config = tools.config_for(
            small.url, large.url, patience_s=10.0, ledger=LedgerConfig(url=url, flush_s=0.05),
            policies={"careful": certificate()}, **settings,
        )  # fmt: skip
        with tools.serving(config, hooks=serving_hooks(config)) as gateway:
            yield Books(gateway, small, large, url)


def check_rows(b: Books, rows: list[dict[str, Any]]) -> None:
    """Rows, their samples, sums, metrics and state agree with the engines to the token."""
    told = b.truth.values()
    prompt, completion, cached = (
        sum(getattr(each, name) for each in told)
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens")
    )
    assert sum(row["prompt_tokens"] or 0 for row in rows) == pytest.approx(prompt, rel=WITHIN)
    assert sum(row["completion_tokens"] or 0 for row in rows) == pytest.approx(
        completion, rel=WITHIN
    )
    assert sum(row["cached_tokens"] or 0 for row in rows) == pytest.approx(cached, rel=WITHIN)
    assert sum(row["usd"] or 0.0 for row in rows) == pytest.approx(b.usd, rel=WITHIN)
    by_model: dict[str, list[int]] = {SMALL: [], LARGE: []}
    for row in rows:
        samples = row["sample_rows"] or [row | {"model": row["served_model"] or row["model"]}]
        for sample in samples:
            if sample["model"] in by_model:
                by_model[sample["model"]].append(sample["completion_tokens"] or 0)
    for model, served in b.truth.items():
        assert sum(by_model[model]) == pytest.approx(served.completion_tokens, rel=WITHIN, abs=1)
    tools_wait(lambda: b.metric("suffice_tokens", kind="completion") >= completion * (1 - WITHIN))
    assert b.metric("suffice_tokens", kind="prompt") == pytest.approx(prompt, rel=WITHIN)
    assert b.metric("suffice_tokens", kind="completion") == pytest.approx(completion, rel=WITHIN)
    assert b.metric("suffice_cost_usd") == pytest.approx(b.usd, rel=WITHIN)
    total = b.state()["total"]
    assert total["prompt_tokens"] == pytest.approx(prompt, rel=WITHIN)
    assert total["completion_tokens"] == pytest.approx(completion, rel=WITHIN)
    assert total["usd"] == pytest.approx(b.usd, rel=WITHIN)


def tools_wait(condition: Any) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def saved_of(cost: float, baseline: float) -> float:
    return 1.0 - cost / baseline


def test_a_certified_policy_is_held_against_its_baseline(
    tools: type[Tools], tmp_path: Path
) -> None:
    with books(tools, tmp_path) as b:
        for i in QUESTIONS:
            answer = b.ask("suffice/careful", f"question {i}", suffice=NUMBER)
            assert answer.json()["model"] == (LARGE if hard(i) else SMALL)
        spent = b.usd
        rows = b.rows(len(QUESTIONS))
        check_rows(b, rows)
        receipts = b.receipts()
        # What the operator would have paid today: the same questions, asked of the large model.
        prompts = {i: row["prompt_tokens"] for i, row in zip(QUESTIONS, rows, strict=True)}
        today = sum(
            PRICES.amount(LARGE, Usage(
                prompt_tokens=prompts[i] // (2 if hard(i) else 1), completion_tokens=drawn(LARGE, i)
            ))
            for i in QUESTIONS
        )  # fmt: skip
        truth = saved_of(spent, today)
        assert 0.2 < truth < 0.8
        costs = [(r["saving"]["cost"], r["saving"]["baseline_cost"]) for r in receipts]
        of_receipts = saved_of(sum(c for c, _ in costs), sum(b for _, b in costs))
        of_rows = saved_of(
            sum(r["compared_cost"] for r in rows), sum(r["baseline_cost"] for r in rows)
        )
        state = b.state()
        (arm,) = state["arms"]
        (one,) = state["certificates"]
        of_metrics = saved_of(
            b.metric("suffice_compared_cost", unit="usd"),
            b.metric("suffice_baseline_cost", unit="usd"),
        )
        for found in (of_receipts, of_rows, of_metrics, arm["saved"], one["seen"]["saved"],
                      state["total"]["saved"]):  # fmt: skip
            assert found == pytest.approx(truth, rel=WITHIN)
        bases = [receipt["saving"]["basis"] for receipt in receipts]
        assert bases == ["measured" if hard(i) else "recorded" for i in QUESTIONS]
        assert {receipt["saving"]["baseline"] for receipt in receipts} == {f"single@{LARGE}"}
        assert one["promised"] | {"saved": 0.5, "comparable": True} == one["promised"]
        assert receipts[0]["promised"] == one["promised"]
        printed = CliRunner().invoke(app, ["ledger", "stats", "--ledger", b.path]).output
        words = " ".join(printed.split())
        assert (
            f"{of_rows:.0%} saved on 40 requests against single@large; promised 50% saved" in words
        )


def test_receipts_headers_and_rows_say_the_same(tools: type[Tools], tmp_path: Path) -> None:
    with books(tools, tmp_path) as b:
        for i in range(8):
            b.ask("suffice/careful", f"question {i}", suffice=NUMBER)
        b.ask(SMALL, "question 5", suffice=NUMBER | {"policy": "self_consistency:samples=3"})
        b.ask("suffice/single", "a poem please", n=2)
        for answer, row in zip(b.answers, b.rows(10), strict=True):
            receipt, header = answer.json()["suffice"], answer.headers.get("x-suffice-saved")
            assert row["saved"] == receipt["saved"]
            assert header == (None if row["saved"] is None else f"{row['saved']:.4f}")
            assert (
                row["served_model"] == answer.json()["model"] == answer.headers["x-suffice-model"]
            )
            assert row["usd"] == receipt["cost"]["usd"]
            assert row["completion_tokens"] == answer.json()["usage"]["completion_tokens"]


def test_a_vote_costs_what_it_costs(tools: type[Tools], tmp_path: Path) -> None:
    """Against one call of the model asked for; its prompt is read once, then found in the cache."""
    with books(tools, tmp_path) as b:
        for i in QUESTIONS[:12]:
            b.ask(SMALL, f"question {i}", suffice=NUMBER | {"policy": "self_consistency:samples=4"})
        rows = b.rows(12)
        check_rows(b, rows)
        today = 0.0
        for row in rows:
            first = row["prompt_tokens"] // 4
            one = Usage(prompt_tokens=first, completion_tokens=row["completion_tokens"] // 4)
            today += PRICES.amount(SMALL, one)
        truth = saved_of(b.usd, today)
        assert truth < -1
        assert b.state()["total"]["saved"] == pytest.approx(truth, rel=WITHIN)
        for receipt in b.receipts():
            assert receipt["saving"]["basis"] == "measured"
            usage, own = receipt["usage"], receipt["accepted_usage"]
            assert usage["completion_tokens"] == 4 * own["completion_tokens"]
        printed = CliRunner().invoke(app, ["ledger", "stats", "--ledger", b.path]).output
        assert f"costs {1 - truth:.1f}x" in printed


def test_nothing_is_saved_where_the_baseline_would_have_done_the_same(
    tools: type[Tools], tmp_path: Path
) -> None:
    with books(tools, tmp_path, policy="careful") as b:
        for policy in (
            "suffice/adaptive_consistency",
            "suffice/self_consistency",
            "suffice/single",
        ):
            b.ask(policy, "write a poem")
        b.ask("suffice/auto", "write a poem")  # the certified policy: free-form is the baseline's
        b.ask(SMALL, "write a poem")  # passed through: the operator's policy would ask another
        b.ask(LARGE, "write a poem")
        rows = b.rows(6)
        check_rows(b, rows)
        assert [row["saved"] for row in rows] == [None] * 6
        assert [row["served_model"] for row in rows] == [SMALL] * 3 + [LARGE, SMALL, LARGE]
        assert all("x-suffice-saved" not in answer.headers for answer in b.answers)
        assert b.state()["total"]["saved"] is None
        printed = CliRunner().invoke(app, ["ledger", "stats", "--ledger", b.path]).output
        assert "nothing compared yet; promised 50% saved" in " ".join(printed.split())
        assert "%" not in printed.partition("certificate")[0] and "costs" not in printed


def test_what_never_reached_an_engine_costs_nothing(tools: type[Tools], tmp_path: Path) -> None:
    """Outages, capabilities that lack, refusals: the books stay empty, as the engines' do."""
    big = "word " * 8000
    with books(tools, tmp_path, talents={"prefill": None, "logprobs": False}) as b:
        b.ask("suffice/no_thinking:begin=yes", big)  # no such model
        b.ask(SMALL, big, suffice=NUMBER | {"policy": "no_thinking:begin=yes"})  # lacks prefill
        for policy in ("single", "self_consistency", "adaptive_consistency"):
            b.ask(SMALL, f"broken {big}", suffice=NUMBER | {"policy": policy})
        b.ask(SMALL, f"broken {big}")
        b.ask("suffice/careful", f"broken {big}", suffice=NUMBER)
        b.small.stop()
        for policy in ("single", "self_consistency", "adaptive_consistency"):
            b.ask(SMALL, big, suffice=NUMBER | {"policy": policy})
        b.ask(SMALL, big)
        rows = b.rows(11)
    assert {row["ending"] for row in rows} == {"failed"}
    assert [answer.status_code for answer in b.answers] == [
        404, 400, 500, 500, 500, 500, 500, 502, 502, 502, 502,
    ]  # fmt: skip
    assert b.usd == 0.0
    for row in rows:
        assert (row["prompt_tokens"] or 0, row["completion_tokens"] or 0) == (0, 0), row
        assert not row["usd"]


@pytest.mark.parametrize("way", ["passed through", "vote", "certified", "single"])
def test_who_left_has_taken_what_the_engine_gave(
    tools: type[Tools], tmp_path: Path, way: str
) -> None:
    asked: dict[str, Any] = {
        "passed through": {"model": SMALL},
        "vote": {"model": SMALL, "suffice": NUMBER | {"policy": "self_consistency:samples=3"}},
        "certified": {"model": "suffice/careful", "suffice": NUMBER},
        "single": {"model": "suffice/single"},
    }[way]
    messages = [{"role": "user", "content": "write a novel"}]
    with books(tools, tmp_path) as b:
        body = asked | {"messages": messages}
        if way in ("passed through", "single"):
            ask_raw(b.url, body | {"stream": True}, b"word ")
        else:
            with pytest.raises(httpx2.TimeoutException):
                httpx2.post(f"{b.url}/v1/chat/completions", json=body, timeout=1.5)
        (row,) = b.rows(1)
        tools.wait_for(lambda: b.small.seen.running == 0, 10)
        truth = b.truth[SMALL]
    assert row["ending"] == "left"
    assert row["saved"] is None
    assert row["prompt_tokens"] == truth.prompt_tokens
    # A token or two per sample may be on the wire when the client goes.
    samples = max(1, len(row["sample_rows"]))
    assert row["completion_tokens"] == pytest.approx(truth.completion_tokens, abs=3 * samples)


@pytest.mark.parametrize("told", [
    {"prompt_tokens": -80, "completion_tokens": -5},
    {"prompt_tokens": 10**15, "completion_tokens": 4},
    {"prompt_tokens": 5, "completion_tokens": 2.5}, "none of yours", [1],
])  # fmt: skip
def test_a_usage_that_cannot_be_is_replaced_and_counted(
    tools: type[Tools], tmp_path: Path, told: Any
) -> None:
    odd = lambda number, body: Reply(tokens=("it ", "is ", "4"), usage=told)  # noqa: E731
    url = str(tmp_path / "ledger.db")
    with FakeEngine(odd, talents=Talents(models=(SMALL,))) as engine:
        config = tools.config_for(
            engine.url, prices=PRICES, ledger=LedgerConfig(url=url, flush_s=0.05)
        )
        with tools.serving(config, hooks=serving_hooks(config)) as gateway:
            b = Books(gateway, engine, engine, url)
            b.ask(SMALL, "question 1")
            b.ask("suffice/single", "question 1")
            rows = b.rows(2)
            tools_wait(lambda: b.metric("suffice_upstream_errors", code="bad_usage") == 2)
    for row in rows:
        assert row["usage_source"] == "estimated"
        assert 1 <= row["prompt_tokens"] < 200
        assert 1 <= row["completion_tokens"] < 20
        assert 0.0 < row["usd"] < 1e-3


# --- models are what they are


def test_a_request_for_a_model_is_answered_by_it_alone(tools: type[Tools], tmp_path: Path) -> None:
    with books(tools, tmp_path, policy="careful") as b:
        for model in (SMALL, LARGE):
            answer = b.ask(model, "question 1")
            assert answer.json()["model"] == model
            assert answer.headers["x-suffice-arm"] == "bypass"
        refused = b.ask(SMALL, "question 1", suffice={"policy": "careful"})
        assert refused.status_code == 400
        assert "may_answer_for" in refused.json()["error"]["message"]
        rows = b.rows(3)
    assert [row["served_model"] for row in rows] == [SMALL, LARGE, None]


def test_the_operator_may_let_the_small_model_answer_for_the_large(
    tools: type[Tools], tmp_path: Path
) -> None:
    models = ModelsConfig(may_answer_for={SMALL: (LARGE,)})
    with books(tools, tmp_path, policy="careful", models=models) as b:
        answer = b.ask(LARGE, "question 0", suffice=NUMBER)
        assert answer.json()["model"] == SMALL  # and it says so
        assert answer.json()["suffice"]["saving"]["baseline"] == f"single@{LARGE}"
        stays = b.ask(SMALL, "question 0")
        assert stays.headers["x-suffice-arm"] == "bypass"  # nobody may answer for the small one


def test_a_stream_names_who_answers(tools: type[Tools], tmp_path: Path) -> None:
    with books(tools, tmp_path) as b:
        for i in (0, 3):
            answer = b.ask("suffice/careful", f"question {i}", suffice=NUMBER, stream=True)
            events = [json.loads(line[6:]) for line in answer.text.splitlines()
                      if line.startswith("data: {")]  # fmt: skip
            assert {event["model"] for event in events} == {LARGE if hard(i) else SMALL}
            assert events[-1]["suffice"]["model"] == events[0]["model"]


# --- the operator's own baseline


def test_the_operators_baseline_comes_first_and_says_what_it_is(
    tools: type[Tools], tmp_path: Path
) -> None:
    with books(tools, tmp_path, baseline=f"single@{SMALL}") as b:
        for i in range(4):
            b.ask("suffice/careful", f"question {i}", suffice=NUMBER)
        receipts = b.receipts()
        (one,) = (b.rows(4), b.state()["certificates"])[1]
    assert {receipt["saving"]["baseline"] for receipt in receipts} == {f"single@{SMALL}"}
    assert [receipt["saved"] is None for receipt in receipts] == [True, True, True, False]
    assert receipts[3]["saved"] < -1  # both were asked where the small one alone would have been
    assert one["promised"]["comparable"] is False


def test_without_prices_two_models_are_weighed_as_the_policy_file_says(
    tools: type[Tools], tmp_path: Path
) -> None:
    with books(tools, tmp_path, prices=Prices()) as b:
        for i in range(8):
            b.ask("suffice/careful", f"question {i}", suffice=NUMBER)
        receipts = b.receipts()
        rows = b.rows(8)
        printed = CliRunner().invoke(app, ["ledger", "stats", "--ledger", b.path]).output
    assert {receipt["saving"]["unit"] for receipt in receipts} == {"tokens"}
    assert {row["usd"] for row in rows} == {None}
    assert "no prices are set" in printed  # and no USD 0
    with books(tools, tmp_path / "two", prices=Prices()) as b:
        pair = f"single:accept=.99@{SMALL} > single@{LARGE}"
        answer = b.ask("suffice/auto", "question 0", suffice=NUMBER | {"policy": pair})
        assert answer.json()["suffice"]["saving"] is None  # nothing says what a token weighs


# --- streams that pass through without asking for usage


def test_the_gateway_asks_for_the_usage_of_streams_and_keeps_it(
    tools: type[Tools], tmp_path: Path
) -> None:
    quiet = {"tells_usage": "if_asked"}
    traffic = TrafficConfig(ask_usage=True)
    with books(tools, tmp_path, talents=quiet, traffic=traffic) as b:
        shown = [b.ask(SMALL, f"question {i}", stream=True).text for i in QUESTIONS[:5]]
        asked = b.ask(SMALL, "question 5", stream=True, stream_options={"include_usage": True})
        check_rows(b, b.rows(6))
        assert {row["usage_source"] for row in b.rows(6)} == {"engine"}
        sent = b.small.seen.bodies
    assert all(body["stream_options"]["include_usage"] for body in sent)
    assert not any('"usage": {' in text for text in shown)
    assert all(text.rstrip().endswith("data: [DONE]") for text in shown)
    assert '"usage": {' in asked.text  # who asks sees it


def test_a_server_that_refuses_to_be_asked_gets_the_clients_own_body(
    tools: type[Tools], tmp_path: Path
) -> None:
    """And is not asked again; what it gave is estimated, and says so."""

    def strict(number: int, body: dict[str, Any]) -> Reply:
        if "stream_options" in body:
            return Reply(status=400, error="unknown field stream_options")
        return Reply(tokens=("it ", "is ", "4"))

    url = str(tmp_path / "ledger.db")
    talents = Talents(models=(SMALL,), tells_usage="if_asked")
    with FakeEngine(strict, talents=talents) as engine:
        config = tools.config_for(
            engine.url, ledger=LedgerConfig(url=url, flush_s=0.05),
            traffic=TrafficConfig(ask_usage=True),
        )  # fmt: skip
        with tools.serving(config, hooks=serving_hooks(config)) as gateway:
            b = Books(gateway, engine, engine, url)
            for _ in range(3):
                assert b.ask(SMALL, "question 1", stream=True).status_code == 200
            rows = b.rows(3)
        assert ["stream_options" in body for body in engine.seen.bodies] == [
            True, False, False, False,
        ]  # fmt: skip
    assert [(row["usage_source"], row["completion_tokens"]) for row in rows] == [
        ("estimated", 3)
    ] * 3
