"""Another model answers, where the operator allows it by name, and the answer says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from suffice.core.errors import (
    InputError,
    MalformedStream,
    NoAnswer,
    UnknownName,
    UpstreamDisconnected,
    UpstreamRefused,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from suffice.gateway.config_errors import InvalidConfig
from suffice.gateway.config_file import load_config
from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.fallbacks import Fallback, failure_of
from suffice.gateway.observe.serving_hooks import open_hooks
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply, Talents
from tests.servers.tools import Tools

HI: Any = [{"role": "user", "content": "hi"}]
RULE = Fallback(model="large", to=("small",))


def ask(url: str, model: str = "large", **how: Any) -> Any:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(model=model, messages=HI, **how)
        if how.get("stream"):
            text = "".join(c.choices[0].delta.content or "" for c in raw.parse() if c.choices)
        else:
            text = raw.parse().choices[0].message.content
        return text, raw.headers


def engines(large: Reply, **how: Any) -> tuple[FakeEngine, FakeEngine]:
    return (
        FakeEngine(large, talents=Talents(models=("large",))),
        FakeEngine(Reply.saying("from the small one"), talents=Talents(models=("small",))),
    )


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["large", "suffice/single"])
def test_another_model_answers_and_is_named(tools: type[Tools], model: str, stream: bool) -> None:
    large, small = engines(Reply(status=500, error="out of memory"))
    with large, small:
        config = tools.config_for(large.url, small.url, fallback=(RULE,), model="large")
        with tools.serving(config) as url:
            text, headers = ask(url, model, stream=stream)
        assert text == "from the small one"
        if not (stream and model != "large"):  # a keep-alive may have taken the headers with it
            assert headers["x-suffice-fallback"] == "large -> small; server_error"
        assert small.seen.bodies[-1]["model"] == "small"


def test_without_a_rule_nobody_else_answers(tools: type[Tools]) -> None:
    large, small = engines(Reply(status=500, error="out of memory"))
    with (
        large,
        small,
        tools.serving(tools.config_for(large.url, small.url)) as url,
        pytest.raises(openai.InternalServerError, match="out of memory"),
    ):
        ask(url)
    assert small.seen.bodies == []


def test_only_after_the_failures_that_are_named(tools: type[Tools]) -> None:
    for status, on, falls in (
        (429, ("rate_limited",), True),
        (429, ("unavailable", "timeout", "server_error"), False),
        (400, ("rejected",), True),
        (400, ("server_error",), False),
    ):
        large, small = engines(Reply(status=status, error="no"))
        rule = Fallback(model="large", to=("small",), on=on)  # type: ignore[arg-type]
        with (
            large,
            small,
            tools.serving(tools.config_for(large.url, small.url, fallback=(rule,))) as url,
        ):
            if falls:
                assert ask(url)[0] == "from the small one"
            else:
                with pytest.raises(openai.APIStatusError) as caught:
                    ask(url)
                assert caught.value.status_code == status


def test_a_model_that_is_away_or_served_nowhere(tools: type[Tools]) -> None:
    large, small = engines(Reply())
    with large, small:
        config = tools.config_for(large.url, small.url, fallback=(RULE,))
        with tools.serving(config) as url:
            assert "x-suffice-fallback" not in ask(url)[1]
            large.stop()
            assert ask(url)[1]["x-suffice-fallback"] == "large -> small; unavailable"
    with small_alone() as engine:
        config = tools.config_for(engine.url, fallback=(RULE,))
        with tools.serving(config) as url:
            assert ask(url)[0] == "small"
            with pytest.raises(openai.NotFoundError):
                ask(url, "other")


def small_alone() -> FakeEngine:
    return FakeEngine(Reply.saying("small"), talents=Talents(models=("small",)))


def test_a_time_out(tools: type[Tools]) -> None:
    large, small = engines(Reply(delay_s=5.0))
    with large, small:
        config = tools.config_for(large.url, small.url, patience_s=0.5, fallback=(RULE,))
        with tools.serving(config) as url:
            assert ask(url)[1]["x-suffice-fallback"] == "large -> small; timeout"


def test_what_has_begun_stays_with_its_model(tools: type[Tools]) -> None:
    large, small = engines(Reply(tokens=("a", "b"), misdeed="cut", misdeed_after=1))
    with large, small:
        config = tools.config_for(large.url, small.url, fallback=(RULE,))
        with tools.serving(config) as url, pytest.raises(openai.APIError):
            ask(url, stream=True)
        assert small.seen.bodies == []


def test_if_all_fail_the_first_ones_words_are_told(tools: type[Tools]) -> None:
    large = FakeEngine(
        Reply(status=500, error="large is broken"), talents=Talents(models=("large",))
    )
    small = FakeEngine(Reply(status=500, error="small too"), talents=Talents(models=("small",)))
    with large, small:
        config = tools.config_for(large.url, small.url, fallback=(RULE,))
        with (
            tools.serving(config) as url,
            pytest.raises(openai.InternalServerError, match="large is broken") as caught,
        ):
            ask(url)
        assert "x-suffice-fallback" not in caught.value.response.headers


def test_the_ledger_says_who_answered(tools: type[Tools]) -> None:
    large, small = engines(Reply(status=503, error="full"))
    with large, small:
        config = tools.config_for(
            large.url, small.url, fallback=(RULE,), ledger=LedgerConfig(flush_s=0.01)
        )
        opened = open_hooks(config)
        with tools.serving(config, hooks=opened.in_order) as url:
            ask(url)
            query = "SELECT model, served_model FROM requests"
            tools.wait_for(lambda: bool(opened.reader.database.execute(query, ())))
            assert [tuple(r) for r in opened.reader.database.execute(query, ())] == [
                ("large", "small")
            ]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (UpstreamRefused("x"), "unavailable"),
        (UpstreamDisconnected("x"), "unavailable"),
        (UpstreamUnreachable("x"), "unavailable"),
        (UnknownName("x"), "unavailable"),
        (UpstreamTimeout("x"), "timeout"),
        (UpstreamRejected("x", status=429), "rate_limited"),
        (UpstreamRejected("x", status=404), "unavailable"),
        (UpstreamRejected("x", status=422), "rejected"),
        (UpstreamRejected("x", status=503), "server_error"),
        (MalformedStream("x"), "server_error"),
        (NoAnswer("x"), "server_error"),
        (InputError("x"), None),
    ],
)
def test_errors_have_names(error: Any, failure: str | None) -> None:
    assert failure_of(error) == failure


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "suffice.toml"
    head = '[[upstream]]\nurl = "http://localhost:8000"\n'
    path.write_text(f'{head}[[fallback]]\nmodel = "large"\nto = ["small"]\non = ["timeout"]\n')
    assert load_config(path).fallback == (Fallback(model="large", to=("small",), on=("timeout",)),)
    for wrong in (
        '[[fallback]]\nmodel = "large"\nto = []\n',
        '[[fallback]]\nmodel = "large"\nto = ["large"]\n',
        '[[fallback]]\nmodel = "a"\nto = ["b"]\n[[fallback]]\nmodel = "a"\nto = ["c"]\n',
        '[[fallback]]\nmodel = "a"\nto = ["b"]\non = ["sometimes"]\n',
        '[[fallback]]\nto = ["b"]\n',
    ):
        path.write_text(head + wrong)
        with pytest.raises(InvalidConfig):
            load_config(path)
