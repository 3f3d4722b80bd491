"""The model that ships, through the whole gateway: no torch, no other process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from suffice.backends.nano.backend import NAME, NanoBackend
from suffice.core.thinking import ModeTokens
from suffice.gateway.config import GatewayConfig
from suffice.tasks.puzzles import Mixture
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Talents
from tests.servers.test_gateway import votes
from tests.servers.tools import config_for, serving

PROBLEMS = {
    n: problems
    for (_, n), problems in Mixture().distinct(12, seed=5, split="held_out").items()
}  # fmt: skip
EASY, HARD = PROBLEMS[1][0], PROBLEMS[6][0]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    config = GatewayConfig(answer_format="number")
    with (
        serving(config, backends=[NanoBackend()]) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def ask(client: openai.OpenAI, prompt: str, model: str = NAME, **fields: Any) -> Any:
    extra = fields.pop("extra_body", {})
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}],
        **{"temperature": 0, "max_tokens": 48, **fields}, extra_body=extra,
    )  # fmt: skip


def receipt(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = (response.model_extra or {})["suffice"]
    return found


def test_it_is_listed_and_solves_what_it_was_trained_on(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:3] == [NAME, f"{NAME}-short", f"{NAME}-think"]
    assert "suffice/self_consistency" in names
    assert ask(client, EASY.prompt).choices[0].message.content == EASY.answer
    thought = ask(client, HARD.prompt, model=f"{NAME}-think")
    assert thought.choices[0].message.content == HARD.answer
    assert (thought.choices[0].message.model_extra or {})["reasoning"] == HARD.steps


def test_every_effort_is_on_the_receipt_and_moves_the_choice(client: openai.OpenAI) -> None:
    shares = {}
    prompts = [problem.prompt for n in (1, 2, 4) for problem in PROBLEMS[n]]
    for effort, nats in (("minimal", -8.0), ("medium", 0.0), ("xhigh", 8.0)):
        thought = 0
        for prompt in prompts:
            response = ask(client, prompt, reasoning_effort=effort)
            (sample,) = receipt(response)["samples"]
            assert sample["mode_bias_nats"] == nats
            thought += bool(response.usage.completion_tokens_details.reasoning_tokens)
        shares[effort] = thought / len(prompts)
    assert shares["minimal"] < shares["medium"] < shares["xhigh"]
    forced = ask(client, HARD.prompt, reasoning_effort="none")
    assert receipt(forced)["samples"][0]["mode_bias_nats"] is None
    assert not forced.usage.completion_tokens_details.reasoning_tokens


def test_streaming_logprobs_and_votes(client: openai.OpenAI) -> None:
    whole = ask(client, HARD.prompt, model=f"{NAME}-think", logprobs=True, top_logprobs=4)
    assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens
    text = ""
    for chunk in ask(client, HARD.prompt, model=f"{NAME}-think", stream=True):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    assert text == HARD.answer
    wishes = {"suffice": {"policy": "adaptive_consistency:max_samples=8"}}
    voted = ask(client, HARD.prompt, extra_body=wishes, temperature=1, seed=1)
    assert voted.choices[0].message.content == HARD.answer
    assert receipt(voted)["samples_run"] >= 3
    assert receipt(voted)["saved"] < -1  # three samples and more where one call is the baseline
    assert receipt(voted)["saving"]["baseline"] == f"single@{NAME}"


def test_a_cascade_names_modes_as_it_names_models(client: openai.OpenAI) -> None:
    wishes = {"suffice": {"policy": f"single:accept=.9@{NAME}-short > single@{NAME}-think"}}
    easy = receipt(ask(client, EASY.prompt, model="suffice/auto", extra_body=wishes))
    hard = receipt(ask(client, HARD.prompt, model="suffice/auto", extra_body=wishes))
    assert [sample["model"] for sample in easy["samples"]] == [f"{NAME}-short"]
    assert [sample["model"] for sample in hard["samples"]] == [f"{NAME}-short", f"{NAME}-think"]


def test_who_asks_for_a_model_is_not_answered_by_another(client: openai.OpenAI) -> None:
    wishes = {"suffice": {"policy": f"single:accept=.9@{NAME}-short > single@{NAME}-think"}}
    with pytest.raises(openai.BadRequestError, match="may_answer_for"):
        ask(client, EASY.prompt, extra_body=wishes)


def test_what_it_cannot_read_is_an_error_that_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="outside this model's alphabet"):
        ask(client, "What is 17 * 23?")
    with pytest.raises(openai.BadRequestError, match="a single user message"):
        client.chat.completions.create(
            model=NAME,
            messages=[{"role": "system", "content": "3"}, {"role": "user", "content": "3f"}],
        )


@pytest.mark.parametrize(
    ("effort", "sent"), [("low", {"6": -4.0}), ("xhigh", {"5": -8.0}), ("medium", None)]
)
@pytest.mark.parametrize("model", ["fake", "suffice/single"])
def test_an_upstream_gets_the_effort_as_a_logit_bias(model: str, effort: str, sent: Any) -> None:
    tokens = ModeTokens(think=6, short=5)
    with FakeEngine(votes("4"), talents=Talents(thinking_switch=True)) as engine:
        plain_config = config_for(engine.url)
        upstream = replace(plain_config.upstreams[0], mode_tokens=tokens)
        with (
            serving(replace(plain_config, upstreams=(upstream,))) as url,
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):
            response, plain = told(client, model, effort)
        bodies = engine.seen.bodies
    assert bodies[0].get("logit_bias") == sent
    assert "chat_template_kwargs" not in bodies[0]
    nats = {"low": -4.0, "xhigh": 8.0, "medium": 0.0}[effort]
    assert receipt(response)["samples"][0]["mode_bias_nats"] == nats
    # Without an effort the engine's own model is passed through as before.
    assert "logit_bias" not in bodies[1]
    assert "suffice" not in (plain.model_extra or {})


def told(client: openai.OpenAI, model: str, effort: str) -> tuple[Any, Any]:
    messages: Any = [{"role": "user", "content": "3fb"}]
    effort_given: Any = effort
    response = client.chat.completions.create(
        model=model, messages=messages, reasoning_effort=effort_given
    )
    return response, client.chat.completions.create(model="fake", messages=messages)
