"""Free text under a live certificate: a judge says which answer is worse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from suffice.cli.main import app
from suffice.core.errors import InputError
from suffice.evals.text_judge import KindCount, MeasuredJudge, write_judge
from suffice.gateway.certificates.live_control import LiveControl
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_check import checked_config
from suffice.gateway.config_sections import LedgerConfig, LiveConfig
from suffice.gateway.observe.serving_hooks import open_hooks
from suffice.gateway.policy_router import PolicyRouter
from suffice.ledger.store import Store
from suffice.testing.fake_engine import FakeEngine, Reply, Talents
from tests.servers.test_live_certificate import Stack

GOOD, BAD = "Light of short waves is scattered more.", "Because it mirrors the sea."


def script(small: str) -> Any:
    """An engine of three models; the judge prefers GOOD, wherever it stands."""

    def reply(number: int, body: dict[str, Any]) -> Reply:
        if body["model"] != "judge":
            return Reply.saying(small if body["model"] == "small" else GOOD)
        text = body["messages"][1]["content"]
        a, b = (f"<answer_{place}>\n{GOOD}" in text for place in "AB")
        return Reply.saying("[[C]]" if a == b else "[[A]]" if a else "[[B]]")

    return reply


def judge_file(path: Path, worse: int = 200) -> str:
    judge = MeasuredJudge(model="judge", noticed={"other": KindCount(n=200, worse=worse)})
    write_judge(path / "judge.json", judge)
    return str(path / "judge.json")


def live_of(path: Path, **more: Any) -> LiveConfig:
    return LiveConfig(
        safe="single@large", cheap=("single@small",), target=0.2, share=1.0, share_after=1.0,
        judge=judge_file(path), **more,
    )  # fmt: skip


def run(tools: Any, path: Path, small: str, requests: int, **body: Any) -> tuple[Stack, Any, Any]:
    """Answers to `requests` questions of one gateway, and what its books say."""
    with FakeEngine(script(small), talents=Talents(models=("small", "large", "judge"))) as engine:
        config = tools.config_for(
            engine.url, ledger=LedgerConfig(url=str(path / "l.db"), flush_s=0.05),
            live=live_of(path), patience_s=5.0,
        )  # fmt: skip
        opened = open_hooks(config)
        with tools.serving(config, hooks=opened.in_order) as url:
            stack = Stack(url, engine, opened, str(path / "l.db"))
            models = []
            for number in range(requests):
                models.append(stack.ask("why is the sky blue?", **body)["model"])
                stack.settled(number + 1)
            shown = stack.control.shown()
        return stack, models, shown


def test_free_text_that_is_worse_is_never_switched_on_and_its_judging_is_booked(
    tools: Any, tmp_path: Path
) -> None:
    stack, models, shown = run(tools, tmp_path, BAD, 40)
    assert set(models) == {"large"}
    assert shown["candidates"][0]["differ"] == 1.0
    store = Store(stack.path)
    asked = store.database.execute("SELECT SUM(prompt_tokens) FROM requests")[0][0]
    shadowed = store.database.execute("SELECT SUM(prompt_tokens) FROM audits")[0][0]
    store.close()
    assert asked + shadowed == stack.engine.seen.took().prompt_tokens  # the judge's are in it
    assert stack.asked("judge") == 80  # both places


def test_free_text_that_is_as_good_is_switched_on(tools: Any, tmp_path: Path) -> None:
    stack, models, shown = run(tools, tmp_path, f"{GOOD} Indeed.", 40)
    assert models[0] == "large" and models[-1] == "small"
    assert shown["candidates"][0]["differ"] == 0.0
    assert stack.asked("judge") == 80  # both places, each time


def test_the_same_text_needs_no_judge(tools: Any, tmp_path: Path) -> None:
    stack, models, shown = run(tools, tmp_path, GOOD, 40)
    assert stack.asked("judge") == 0
    assert models[0] == "large" and models[-1] == "small"
    assert shown["target"] == 0.2 and shown["judge"]["needed"] < 0.2
    assert "worse" in shown["events"][0]["said"]


def test_what_was_misread_is_carried_into_the_rule(tmp_path: Path) -> None:
    config = GatewayConfig(live=live_of(tmp_path))
    (control,) = _controls(config)
    assert control.promise.target == 0.2 and control.rule.confidence == pytest.approx(0.96)
    assert control.rule.target == pytest.approx(0.2 * 0.01 ** (1 / 200))  # n of n noticed
    judge_file(tmp_path, worse=160)
    (weaker,) = _controls(config)
    assert weaker.rule.target < 0.2 * 0.8
    assert weaker.certificate != control.certificate  # another judge is another promise


def _controls(config: GatewayConfig) -> tuple[LiveControl]:
    policy: Any = dict(PolicyRouter(config).named())["live"]
    return (policy.control,)


def test_a_judge_that_notices_little_is_refused(tmp_path: Path) -> None:
    config = GatewayConfig(live=live_of(tmp_path))
    judge_file(tmp_path, worse=90)
    with pytest.raises(InputError, match="only known to notice"):
        PolicyRouter(config)
    with pytest.raises(InputError, match="judge"):
        PolicyRouter(GatewayConfig(live=LiveConfig(
            safe="single@a", cheap=("single@b",), judge=str(tmp_path / "none.json"))))  # fmt: skip


def test_pictures_are_not_judged(tools: Any, tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    with FakeEngine(script(GOOD), talents=Talents(models=("small", "large", "judge"))) as engine:
        config = tools.config_for(
            engine.url, ledger=LedgerConfig(url=str(tmp_path / "l.db")), live=live_of(tmp_path)
        )
        opened = open_hooks(config)
        with tools.serving(config, hooks=opened.in_order) as url:
            stack = Stack(url, engine, opened, "")
            seen = stack.ask(messages=[{"role": "user", "content": [picture]}])
            assert seen["suffice"]["certificate"]["status"] == "not covered"
            stack.ask()
            stack.settled(1)
            assert stack.asked("small") == 1


def test_tool_calls_are_compared_by_value_and_not_judged(tools: Any, tmp_path: Path) -> None:
    said = {"large": '{"q": 1, "k": "a"}', "small": '{"k":"a","q":1}', "judge": "{}"}

    def calls(number: int, body: dict[str, Any]) -> Reply:
        call = ("f", said[body["model"]])
        return Reply(tokens=(), tool_call=call, finish_reason="tool_calls")

    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with FakeEngine(calls, talents=Talents(models=tuple(said))) as engine:
        config = tools.config_for(
            engine.url, ledger=LedgerConfig(url=str(tmp_path / "l.db"), flush_s=0.05),
            live=live_of(tmp_path, tools=True),
        )  # fmt: skip
        opened = open_hooks(config)
        with tools.serving(config, hooks=opened.in_order) as url:
            stack = Stack(url, engine, opened, "")
            stack.ask(tools=[tool])
            stack.settled(1)
            assert (stack.asked("small"), stack.asked("judge")) == (1, 0)
            assert stack.control.state.arms[0].evidence.total == 0.0  # keys in another order
            said["small"] = '{"k": "a", "q": 2}'
            stack.ask(tools=[tool])
            stack.settled(2)
            assert stack.control.state.arms[0].evidence.total == 1.0


def test_the_files_place_is_beside_the_settings(tmp_path: Path) -> None:
    judge_file(tmp_path)
    path = tmp_path / "suffice.toml"
    path.write_text(
        '[[upstream]]\nurl = "http://127.0.0.1:1/v1"\n[live]\nsafe = "single@a"\n'
        'cheap = ["single@b"]\njudge = "judge.json"\n'
    )
    assert checked_config(path).live.judge == str(tmp_path / "judge.json")


def test_live_judge_measures_and_writes(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"why {n}?", "safe": GOOD, "cheap": f"{BAD} {n}", "worse": True}
        for n in range(30)
    ]
    rows.append({"prompt": "why?", "safe": "because", "cheap": "so", "worse": False})
    pairs.write_text("\n".join(json.dumps(row) for row in rows))
    out = tmp_path / "judge.json"
    with FakeEngine(script(GOOD), talents=Talents(models=("judge",))) as engine:
        done = CliRunner().invoke(
            app,
            ["live", "judge", str(pairs), "--model", "judge", "--upstream", engine.url, "--out",
             str(out)],
        )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "given: 30 of 30 worse answers noticed" in done.output
    assert "alike: 0 of 1 blamed" in done.output
    assert f"--judge {out}" in done.output.replace("\n", "")
    nothing = lambda number, body: Reply.saying("[[C]]")  # noqa: E731 - it notices nothing
    with FakeEngine(nothing, talents=Talents(models=("judge",))) as engine:
        asked = ["live", "judge", str(pairs), "--upstream", engine.url, "--out"]
        blind = CliRunner().invoke(app, [*asked, str(tmp_path / "b.json"), "--model", "judge"])
        typo = CliRunner().invoke(app, [*asked, str(tmp_path / "t.json"), "--model", "jduge"])
    # A model that is not there has noticed nothing either.
    assert typo.exit_code != 0 and not (tmp_path / "t.json").exists()
    assert "too little" in blind.output and "--judge" not in blind.output
    written = json.loads(out.read_text())
    assert written["noticed"] == {"given": {"n": 30, "worse": 30}}
