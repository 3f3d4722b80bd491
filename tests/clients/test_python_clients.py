"""Python's clients: openai-agents (Responses by default), langchain-openai, pydantic-ai, LiteLLM.

`scripts/test-clients` has them all; a client that is not installed is skipped.
"""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest
from pydantic import BaseModel

from tests.clients.conftest import Stack

pytestmark = pytest.mark.filterwarnings("default")  # what others warn of is theirs


class Person(BaseModel):
    name: str
    age: int


ADA = Person(name="Ada", age=36)


# --- openai-agents


@pytest.mark.parametrize("stream", [True, False])
def test_openai_agents(stack: Stack, model: str, stream: bool) -> None:
    agents = pytest.importorskip("agents")
    import openai

    agents.set_tracing_disabled(True)
    called: list[str] = []

    @agents.function_tool
    def weather(city: str) -> str:
        """The weather of a city."""
        called.append(city)
        return "sunny"

    async def main() -> tuple[str, Any]:
        async with openai.AsyncOpenAI(base_url=stack.v1, api_key="none") as client:
            speaks = agents.OpenAIResponsesModel(model=model, openai_client=client)
            agent = agents.Agent(name="a", instructions="Be short.", model=speaks, tools=[weather])
            if stream:
                run = agents.Runner.run_streamed(agent, "what is the weather in Paris?")
                kinds = [event.type async for event in run.stream_events()]
                return run.final_output, kinds
            done = await agents.Runner.run(agent, "what is the weather in Paris?")
            return done.final_output, done.raw_responses[-1].usage

    output, more = asyncio.run(main())
    assert output == "it is sunny in Paris"
    assert called == ["Paris"]
    assert "raw_response_event" in more if stream else more.output_tokens == 5


def test_openai_agents_structured(stack: Stack, model: str) -> None:
    agents = pytest.importorskip("agents")
    import openai

    async def main() -> Any:
        async with openai.AsyncOpenAI(base_url=stack.v1, api_key="none") as client:
            speaks = agents.OpenAIResponsesModel(model=model, openai_client=client)
            agent = agents.Agent(name="a", model=speaks, output_type=Person)
            return (await agents.Runner.run(agent, "who is this person?")).final_output

    assert asyncio.run(main()) == ADA


# --- langchain-openai


def chat_of(stack: Stack, model: str, **how: Any) -> Any:
    langchain = pytest.importorskip("langchain_openai")
    return langchain.ChatOpenAI(
        base_url=stack.v1, api_key="none", model=model, max_retries=0, **how
    )


@pytest.mark.parametrize("responses", [True, False])
def test_langchain(stack: Stack, model: str, responses: bool) -> None:
    chat = chat_of(stack, model, use_responses_api=responses)
    answer = chat.invoke("what is 2+2?")
    assert answer.text == "it is 4"
    assert answer.usage_metadata["output_tokens"] == 3
    assert "".join(chunk.text for chunk in chat.stream("what is 2+2?")) == "it is 4"
    person = chat.with_structured_output(Person, method="json_schema").invoke("which person?")
    assert person == ADA


@pytest.mark.parametrize("responses", [True, False])
def test_langchain_tools(stack: Stack, model: str, responses: bool) -> None:
    chat = chat_of(stack, model, use_responses_api=responses)
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    @tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    asked: list[Any] = [HumanMessage("what is the weather?")]
    first = chat.bind_tools([weather]).invoke(asked)
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Paris"})
    asked += [first, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert chat.bind_tools([weather]).invoke(asked).text == "it is sunny in Paris"


def test_langchains_old_class(stack: Stack, model: str) -> None:
    langchain = pytest.importorskip("langchain_openai")
    old = langchain.OpenAI(base_url=stack.v1, api_key="none", model=model, max_retries=0)
    assert old.invoke("what is 2+2?") == "it is 4"


def test_langchain_embeddings(stack: Stack) -> None:
    langchain = pytest.importorskip("langchain_openai")
    embed = langchain.OpenAIEmbeddings(
        base_url=stack.v1, api_key="none", model="fake", check_embedding_ctx_length=False
    )
    assert embed.embed_documents(["a", "b"]) == [[0.5, -1.0], [0.5, -1.0]]


# --- pydantic-ai


def models_of(stack: Stack, model: str, kind: str) -> Any:
    pytest.importorskip("pydantic_ai")
    if kind == "anthropic":
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        provider = AnthropicProvider(base_url=stack.url, api_key="none")
        return AnthropicModel(model, provider=provider)
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    made = OpenAIChatModel if kind == "chat" else OpenAIResponsesModel
    return made(model, provider=OpenAIProvider(base_url=stack.v1, api_key="none"))


@pytest.mark.parametrize("kind", ["chat", "responses", "anthropic"])
def test_pydantic_ai(stack: Stack, model: str, kind: str) -> None:
    speaks = models_of(stack, model, kind)
    from pydantic_ai import Agent

    agent: Any = Agent(speaks, system_prompt="Be short.")
    called: list[str] = []

    @agent.tool_plain
    def weather(city: str) -> str:
        """The weather of a city."""
        called.append(city)
        return "sunny"

    async def main() -> tuple[str, str, Any]:
        done = await agent.run("what is the weather?")
        async with agent.run_stream("what is 2+2?") as streamed:
            pieces = [piece async for piece in streamed.stream_text(delta=True)]
        person = await Agent(speaks, output_type=Person).run("which person?")
        return done.output, "".join(pieces), person.output

    output, text, person = asyncio.run(main())
    assert (output, text, person) == ("it is sunny in Paris", "it is 4", ADA)
    assert called == ["Paris"]


# --- LiteLLM as a client


@pytest.mark.parametrize("prefix", ["openai", "hosted_vllm"])
def test_litellm(stack: Stack, model: str, prefix: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litellm = pytest.importorskip("litellm")
    how: dict[str, Any] = {
        "model": f"{prefix}/{model}", "api_base": stack.v1, "api_key": "none", "num_retries": 0,
        "messages": [{"role": "user", "content": "what is 2+2?"}],
    }  # fmt: skip
    answer = litellm.completion(**how)
    assert answer.choices[0].message.content == "it is 4"
    chunks = litellm.completion(**how, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "it is 4"
    how["messages"] = [{"role": "user", "content": "what is the weather?"}]
    tool = {"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}}}}  # fmt: skip
    called = litellm.completion(**how, tools=[tool]).choices[0].message.tool_calls[0]
    assert (called.function.name, called.function.arguments) == ("weather", '{"city": "Paris"}')


def test_litellm_in_other_protocols(stack: Stack, model: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        litellm = pytest.importorskip("litellm")
    response = litellm.responses(
        model=f"openai/{model}", input="what is 2+2?", api_base=stack.v1, api_key="none"
    )
    assert response.output[-1].content[0].text == "it is 4"
    message = litellm.completion(
        model=f"anthropic/{model}", api_base=stack.url, api_key="none", max_tokens=50,
        messages=[{"role": "user", "content": "what is 2+2?"}],
    )  # fmt: skip
    assert message.choices[0].message.content == "it is 4"
    embedded = litellm.embedding(
        model="openai/fake", input=["a", "b"], api_base=stack.v1, api_key="none"
    )
    assert len(embedded.data) == 2
