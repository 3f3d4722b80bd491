"""OpenAI's own clients against the gateway: every documented feature works or is refused.

Nothing is accepted and ignored: a field that a policy cannot honour is either passed to the
upstream, whose verdict comes back, or refused with OpenAI's error object.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest

from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply, Talents
from tests.servers.tools import Tools

MESSAGES: Any = [{"role": "user", "content": "2+2"}]
MODELS = ["fake", "suffice/single", "suffice/adaptive_consistency"]
TOOLS: Any = [{"type": "function", "function": {
    "name": "add", "description": "adds", "strict": True, "parameters": {
        "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
        "additionalProperties": False}}}]  # fmt: skip


@contextmanager
def stack(
    tools: type[Tools], reply: Any, talents: Talents | None = None, **settings: Any
) -> Iterator[tuple[openai.OpenAI, FakeEngine]]:
    with (
        FakeEngine(reply, talents=talents) as engine,
        tools.serving(tools.config_for(engine.url, patience_s=5.0, **settings)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client, engine


# What an engine reads beside model, messages and stream: every field of the documented request
# that is not about OpenAI's own storage or audio.
FIELDS: dict[str, Any] = {
    "frequency_penalty": 0.5, "logit_bias": {"42": -100}, "logprobs": True, "max_tokens": 7,
    "metadata": {"a": "b"}, "modalities": ["text"], "n": 2, "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "4"}, "presence_penalty": 0.25,
    "prompt_cache_key": "k", "response_format": {"type": "json_object"}, "safety_identifier": "s",
    "seed": 3, "service_tier": "auto", "stop": ["END", "STOP"], "store": False, "temperature": 0.5,
    "tool_choice": "auto", "tools": TOOLS, "top_logprobs": 2, "top_p": 0.9, "user": "u",
    "verbosity": "low", "web_search_options": {},
}  # fmt: skip
# How a policy sends a field where it differs: choices become runs, each with a seed of its own.
OURS = {"n": None, "seed": 3}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_field_reaches_the_engine(shared_stack: Any, model: str, field: str) -> None:
    client, engine = shared_stack
    before = len(engine.seen.bodies)
    fields = {field: FIELDS[field]}
    if field == "top_logprobs":
        fields["logprobs"] = True
    if field in ("tool_choice", "parallel_tool_calls"):
        fields["tools"] = TOOLS
    client.chat.completions.create(model=model, messages=MESSAGES, **fields)
    bodies = engine.seen.bodies[before:]
    if model == "fake":
        assert [body.get(field) for body in bodies] == [FIELDS[field]]
    elif field == "n":
        assert len(bodies) == 2  # two runs
    elif field == "seed":
        assert sorted(body["seed"] for body in bodies) == [3 + i for i in range(len(bodies))]
    else:
        assert bodies
        assert all(body.get(field) == FIELDS[field] for body in bodies)


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[Any]:
    with stack(Tools, Reply.saying("it is 4")) as found:
        yield found


@pytest.mark.parametrize("model", MODELS)
def test_answers_are_openais_objects(tools: type[Tools], model: str) -> None:
    with stack(tools, Reply.saying("it is 4")) as (client, _):
        answer = client.chat.completions.create(
            model=model, messages=MESSAGES, n=2, logprobs=True, top_logprobs=1
        )
        assert answer.object == "chat.completion"
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert {choice.finish_reason for choice in answer.choices} == {"stop"}
        assert answer.usage is not None
        for choice in answer.choices:
            assert choice.message.content == "it is 4"
            assert choice.logprobs is not None
            assert choice.logprobs.content is not None
            assert [len(token.top_logprobs) for token in choice.logprobs.content] == [1, 1, 1]
        raw = client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES)
        assert raw.headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize("model", MODELS)
def test_streams_are_openais_chunks(tools: type[Tools], model: str) -> None:
    with stack(tools, Reply.saying("it is 4")) as (client, _):
        chunks = list(client.chat.completions.create(
            model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ))  # fmt: skip
        assert len({chunk.id for chunk in chunks}) == 1
        assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
        assert chunks[-1].usage is not None
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert said == "it is 4"
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        with client.chat.completions.stream(model=model, messages=MESSAGES) as helper:
            assert helper.get_final_completion().choices[0].message.content == "it is 4"


@pytest.mark.parametrize("model", MODELS)
def test_tools_go_there_and_back(tools: type[Tools], model: str) -> None:
    reply = Reply(tokens=(), tool_call=("add", '{"a": 1}'), finish_reason="tool_calls")
    turns: Any = [
        {"role": "developer", "content": "be brief"},
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]  # fmt: skip
    with stack(tools, reply) as (client, engine):
        with client.chat.completions.stream(model=model, messages=turns, tools=TOOLS) as helper:
            choice = helper.get_final_completion().choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls is not None
        assert json.loads(choice.message.tool_calls[0].function.arguments) == {"a": 1}
        sent = engine.seen.bodies[-1]["messages"]
        assert [turn["role"] for turn in sent] == ["developer", "user", "assistant", "tool"]
        assert sent[3]["tool_call_id"] == "c1"
        assert sent[2]["tool_calls"][0]["function"]["name"] == "add"


class Sum(pydantic.BaseModel):
    total: int


@pytest.mark.parametrize("model", MODELS)
def test_structured_answers(tools: type[Tools], model: str) -> None:
    with stack(tools, Reply(tokens=('{"total":', " 4}"))) as (client, engine):
        found = client.chat.completions.parse(model=model, messages=MESSAGES, response_format=Sum)
        assert found.choices[0].message.parsed == Sum(total=4)
        assert engine.seen.bodies[-1]["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("model", MODELS)
def test_text_completions(tools: type[Tools], model: str) -> None:
    with stack(tools, Reply.saying("it is 4")) as (client, engine):
        answer = client.completions.create(model=model, prompt="2+2=", max_tokens=9, echo=False)
        assert answer.choices[0].text == "it is 4"
        assert engine.seen.bodies[-1]["max_tokens"] == 9
        pieces = client.completions.create(model=model, prompt="2+2=", stream=True)
        assert "".join(p.choices[0].text for p in pieces if p.choices) == "it is 4"


def test_lists_of_prompts_pass_through_and_are_refused_by_policies(tools: type[Tools]) -> None:
    with (
        stack(tools, Reply()) as (client, _),
        pytest.raises(openai.BadRequestError, match="prompt must be one string"),
    ):
        client.completions.create(model="suffice/single", prompt=["a", "b"])


def test_models(tools: type[Tools]) -> None:
    with stack(tools, Reply()) as (client, _):
        assert {"fake", "suffice/auto"} <= {card.id for card in client.models.list()}


REFUSED: list[tuple[dict[str, Any], type[openai.APIStatusError]]] = [
    ({"model": "nobody"}, openai.NotFoundError),
    ({"model": "suffice/nothing"}, openai.NotFoundError),
    ({"messages": []}, openai.BadRequestError),
    ({"temperature": -1}, openai.BadRequestError),
    ({"n": 0}, openai.BadRequestError),
    ({"n": 1000}, openai.BadRequestError),
    ({"top_logprobs": 99, "logprobs": True}, openai.BadRequestError),
    ({"top_logprobs": 2}, openai.BadRequestError),
    ({"extra_body": {"suffice": {"policy": "bypass", "target": 0.9}}}, openai.BadRequestError),
    ({"extra_body": {"suffice": {"unknown": 1}}}, openai.BadRequestError),
    ({"reasoning_effort": "enormous"}, openai.BadRequestError),
]


@pytest.mark.parametrize(("changes", "error"), REFUSED, ids=lambda value: str(value)[:40])
def test_refusals_are_openais_errors(shared_stack: Any, changes: Any, error: Any) -> None:
    client, _ = shared_stack
    asked = {"model": "suffice/single", "messages": MESSAGES, **changes}
    with pytest.raises(error) as caught:
        client.chat.completions.create(**asked)
    assert caught.value.body is not None
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_completions_refuse_what_a_policy_cannot_honour(shared_stack: Any) -> None:
    client, _ = shared_stack
    for refused in ({"best_of": 3}, {"extra_body": {"suffice": {"effort": "low"}}}):
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="suffice/single", prompt="2+2=", **refused)
    assert client.completions.create(model="suffice/single", prompt="2+2=", best_of=1).choices


def test_a_wish_for_an_answer_format_is_not_passed_by(shared_stack: Any) -> None:
    """The upstream's own model without a policy: one sample, whose answer is on the receipt."""
    client, _ = shared_stack
    answer = client.chat.completions.create(
        model="fake", messages=MESSAGES, extra_body={"suffice": {"answer_format": "number"}}
    )
    assert answer.suffice["arm"] == "single"
    assert answer.suffice["samples"][0]["answer"] == "4"


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.files.list(),
        lambda client: client.files.create(file=b"x", purpose="batch"),
        lambda client: client.fine_tuning.jobs.create(model="fake", training_file="x"),
        lambda client: client.vector_stores.create(name="x"),
        lambda client: client.chat.completions.list(),
    ],
)
def test_what_is_not_served_says_so(shared_stack: Any, call: Any) -> None:
    client, _ = shared_stack
    with pytest.raises(openai.APIStatusError) as caught:
        call(client)
    assert caught.value.status_code in (404, 405)
    assert caught.value.body["code"] == "not_found"


def test_one_model(shared_stack: Any) -> None:
    client, _ = shared_stack
    assert client.models.retrieve("fake").id == "fake"
    assert client.models.retrieve("fake").max_model_len == 4096  # the engine's card is whole
    assert client.models.retrieve("suffice/auto").owned_by == "suffice"
    with pytest.raises(openai.NotFoundError, match="did you mean fake"):
        client.models.retrieve("fake/x")


def test_cancelling_a_stream_reaches_the_engine(tools: type[Tools]) -> None:
    reply = Reply(tokens=("4",) * 500, delay_s=0.02)
    with stack(tools, reply) as (client, engine):
        for model in ("fake", "suffice/single"):
            before = engine.seen.aborted
            stream = client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
            next(iter(stream))
            stream.close()
            tools.wait_for(lambda before=before: engine.seen.aborted == before + 1)


NODE = """
const OpenAI = require('openai').default || require('openai');
const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'none', maxRetries: 0 });
const messages = [{ role: 'user', content: '2+2' }];
const ask = (fields) => client.chat.completions.create({ messages, ...fields });
const tools = [{ type: 'function', function: { name: 'add', parameters: { type: 'object' } } }];
async function told(call) {
  try { await call(); return null; }
  catch (error) { return [error.constructor.name, error.status ?? null, error.code ?? null]; }
}
(async () => {
  const found = { models: (await client.models.list()).data.map((card) => card.id) };
  for (const model of ['fake', 'suffice/single', 'suffice/adaptive_consistency']) {
    const whole = await ask({ model });
    let text = '', usage = null;
    const options = { stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await ask({ model, ...options })) {
      text += chunk.choices[0]?.delta?.content ?? '';
      usage = chunk.usage ?? usage;
    }
    const two = await ask({ model, n: 2 });
    found[model] = {
      text: [whole.choices[0].message.content, text],
      finish: whole.choices[0].finish_reason,
      usage: [whole.usage.completion_tokens > 0, usage.completion_tokens > 0],
      receipt: whole.suffice?.arm ?? null,
      choices: two.choices.map((choice) => choice.index),
      legacy: (await client.completions.create({ model, prompt: '2+2' })).choices[0].text,
    };
    const broken = async () => {
      for await (const _ of await ask({ model, user: 'die', stream: true }));
    };
    found[model].broken = await told(broken);
    found[model].call = (await ask({ model, user: 'call', tools })).choices[0].message.tool_calls
      ?.map((call) => [call.function.name, call.function.arguments]);
  }
  found.unknown = await told(() => ask({ model: 'nobody' }));
  found.wrong = await told(() => ask({ model: 'suffice/single', suffice: { polcy: 'esc' } }));
  const vote = { policy: 'adaptive_consistency', answer_format: 'number' };
  found.vote = (await ask({ model: 'fake', suffice: vote })).suffice.samples_run;
  const left = await ask({ model: 'suffice/single', user: 'slow', stream: true });
  for await (const _ of left) break;  // the client closes the connection
  console.log(JSON.stringify(found));
})();
"""


def answers_node(number: int, body: dict[str, Any]) -> Reply:
    match body.get("user"):
        case "die":
            return Reply(tokens=("it", " is", " 4"), misdeed="cut", misdeed_after=2)
        case "call":
            return Reply(tokens=(), tool_call=("add", '{"a": 2}'), finish_reason="tool_calls")
        case "slow":
            return Reply(tokens=("4",) * 500, delay_s=0.02)
        case _:
            return Reply.saying("it is 4")


def node_path() -> str | None:
    """Where Node's `openai` package is: in NODE_PATH, here, or installed globally."""
    places = [*os.environ.get("NODE_PATH", "").split(os.pathsep), "node_modules"]
    npm = shutil.which("npm")
    if npm is not None:
        asked = [npm, "root", "-g"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        places.append(done.stdout.strip())
    known = [place for place in places if place and (Path(place) / "openai").is_dir()]
    return str(Path(known[0]).resolve()) if known else None


def test_nodes_client(tools: type[Tools], tmp_path: Path) -> None:
    node, path = shutil.which("node"), node_path()
    if node is None:
        pytest.skip("no node here")
    if path is None:
        pytest.skip("node has no openai package: npm install openai, or set NODE_PATH")
    script = tmp_path / "ask.js"
    script.write_text(NODE)
    with stack(tools, answers_node) as (client, engine):
        done = subprocess.run(
            [node, str(script), str(client.base_url)], capture_output=True, text=True, timeout=60,
            env={**os.environ, "NODE_PATH": path}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        tools.wait_for(lambda: engine.seen.running == 0)
        assert engine.seen.tokens < 400  # the one that was left did not run on
    found = json.loads(done.stdout)
    assert {"fake", "suffice/auto", "suffice/single"} <= set(found["models"])
    for model, arm in (("fake", None), *((name, name.split("/")[-1]) for name in MODELS[1:])):
        assert found[model] == {
            "text": ["it is 4", "it is 4"],
            "finish": "stop",
            "usage": [True, True],
            "receipt": arm,
            "choices": [0, 1],
            "legacy": "it is 4",
            "broken": ["APIError", None, "upstream_disconnected"],
            "call": [["add", '{"a": 2}']],
        }
    assert found["unknown"] == ["NotFoundError", 404, "model_not_found"]
    assert found["wrong"] == ["BadRequestError", 400, "invalid_value"]
    assert found["vote"] >= 3
