"""Several engines behind one gateway: where conversations go, and what is found while it runs."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import openai
import pytest

from suffice.backends.router import RoutingConfig
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply, Script, Talents
from tests.servers.tools import Tools


@contextmanager
def fleet(
    tools: type[Tools], script: Script | Reply, count: int = 3, **settings: Any
) -> Iterator[tuple[openai.OpenAI, list[FakeEngine]]]:
    with ExitStack() as stack:
        engines = [stack.enter_context(FakeEngine(script)) for _ in range(count)]
        config = tools.config_for(*(e.url for e in engines), patience_s=20.0, **settings)
        url = stack.enter_context(tools.serving(config))
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        yield stack.enter_context(client), engines


def counts(engines: list[FakeEngine]) -> list[int]:
    return [len(engine.seen.bodies) for engine in engines]


def test_twenty_conversations_of_six_turns(tools: type[Tools]) -> None:
    with fleet(tools, Reply.saying("well done")) as (client, engines):

        def converse(number: int) -> None:
            turns: list[Any] = [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": f"conversation {number}"},
            ]
            for turn in range(6):
                answer = client.chat.completions.create(model="fake", messages=turns)
                turns.append({"role": "assistant", "content": answer.choices[0].message.content})
                turns.append({"role": "user", "content": f"and turn {turn}?"})

        with ThreadPoolExecutor(20) as threads:
            list(threads.map(converse, range(20)))
        where: dict[str, Counter[int]] = {}
        for number, engine in enumerate(engines):
            for body in engine.seen.bodies:
                where.setdefault(body["messages"][1]["content"], Counter())[number] += 1
        assert sum(counts(engines)) == 120
        stayed = sum(seen.most_common(1)[0][1] for seen in where.values())
        assert stayed >= 0.95 * 120
        assert min(counts(engines)) > 0


@pytest.mark.parametrize("stream", [True, False])
def test_equal_prompts_at_once_are_spread(tools: type[Tools], stream: bool) -> None:
    with fleet(tools, Reply(tokens=("a",) * 20, delay_s=0.05)) as (client, engines):
        together = threading.Barrier(12)

        def ask(_: int) -> None:
            together.wait()
            asked = client.chat.completions.create(
                model="fake", messages=[{"role": "user", "content": "hot"}], stream=stream
            )
            if stream:
                list(asked)

        with ThreadPoolExecutor(12) as threads:
            list(threads.map(ask, range(12)))
        assert max(counts(engines)) <= math.ceil(1.25 * 12 / 3)


@pytest.mark.parametrize("named", ["header", "user", "prompt_cache_key"])
def test_a_session_that_is_named_stays_together(tools: type[Tools], named: str) -> None:
    how: dict[str, Any] = {
        "header": {"extra_headers": {"x-session-id": "s-1"}},
        "user": {"user": "s-1"},
        "prompt_cache_key": {"extra_body": {"prompt_cache_key": "s-1"}},
    }[named]
    with fleet(tools, Reply()) as (client, engines):
        for number in range(12):
            asked: Any = [{"role": "user", "content": f"another beginning {number}"}]
            client.chat.completions.create(model="fake", messages=asked, **how)
        assert sorted(counts(engines)) == [0, 0, 12]


def test_samples_of_a_request_go_together(tools: type[Tools]) -> None:
    with fleet(tools, Reply(delay_s=0.02), answer_format="number") as (client, engines):
        for number in range(6):
            before = counts(engines)
            client.chat.completions.create(
                model="suffice/self_consistency",
                messages=[{"role": "user", "content": f"question {number}"}],
            )
            after = counts(engines)
            assert sorted(b - a for a, b in zip(before, after, strict=True)) == [0, 0, 16]


def test_a_replica_that_dies_costs_no_answer(tools: type[Tools]) -> None:
    with fleet(tools, Reply()) as (client, engines):

        def ask(text: str) -> None:
            client.chat.completions.create(
                model="fake", messages=[{"role": "user", "content": text}]
            )

        for number in range(30):
            ask(f"before {number}")
        assert min(counts(engines)) > 0
        engines[0].stop()
        for number in range(30):
            ask(f"after {number}")
        assert sum(counts(engines)) == 60


def test_a_replica_that_hangs_is_avoided_within_a_second(tools: type[Tools]) -> None:
    slow, free = threading.Event(), threading.Event()

    def script_of(own: bool) -> Script:
        return lambda number, body: Reply(held=free if own and slow.is_set() else None)

    with ExitStack() as stack:
        engines = [stack.enter_context(FakeEngine(script_of(n == 0))) for n in range(3)]
        config = tools.config_for(*(e.url for e in engines), patience_s=20.0)
        url = stack.enter_context(tools.serving(config))
        client = stack.enter_context(
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        )

        def ask(text: str) -> None:
            asked: Any = [{"role": "user", "content": text}]
            client.chat.completions.create(model="fake", messages=asked)

        for number in range(30):
            ask(f"warm {number}")
        slow.set()
        with ThreadPoolExecutor(8) as threads:
            waits = [threads.submit(ask, f"slow {number}") for number in range(8)]
            tools.wait_for(lambda: sum(counts(engines)) >= 38)  # all have reached an engine
            time.sleep(1.0)  # what is stuck by now shows that the replica is slow
            before = len(engines[0].seen.bodies)
            assert engines[0].seen.running > 0
            for number in range(40):
                ask(f"new {number}")
            assert len(engines[0].seen.bodies) == before
            free.set()
        for wait in waits:
            wait.result()  # answered, however late


def test_a_busy_engine_is_passed_over(tools: type[Tools]) -> None:
    with fleet(tools, Reply(), routing=RoutingConfig(metrics_s=0.01)) as (client, engines):
        busy = "vllm:num_requests_running 64\nvllm:num_requests_waiting 9\n"
        idle = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
        for engine, page in zip(engines, (busy, idle, idle), strict=True):
            engine.talents = replace(engine.talents, metrics=page)

        def ask(number: int) -> None:
            client.chat.completions.create(
                model="fake", messages=[{"role": "user", "content": f"{number}"}]
            )

        ask(0)  # whereupon the engines are asked
        tools.wait_for(lambda: all("/metrics" in engine.seen.gets for engine in engines))
        time.sleep(0.1)
        before = counts(engines)
        for number in range(20):
            ask(number)
        assert counts(engines)[0] == before[0]


# --- what is served


def names(client: openai.OpenAI) -> set[str]:
    return {model.id for model in client.models.list() if not model.id.startswith("suffice/")}


def test_a_model_that_appears_later_is_served(tools: type[Tools]) -> None:
    with fleet(tools, Reply(), count=1) as (client, (engine,)):
        hello: Any = [{"role": "user", "content": "x"}]
        client.chat.completions.create(model="fake", messages=hello)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="new-lora", messages=hello)
        engine.talents = replace(engine.talents, models=("fake", "new-lora"))
        time.sleep(1.1)  # an unknown name makes it look once a second at most
        assert client.chat.completions.create(model="new-lora", messages=hello).model == "new-lora"
        assert names(client) == {"fake", "new-lora"}


def test_an_unknown_name_is_looked_up_once_a_second_at_most(tools: type[Tools]) -> None:
    with fleet(tools, Reply(), count=1) as (client, (engine,)):
        for _ in range(50):
            with pytest.raises(openai.NotFoundError):
                client.chat.completions.create(
                    model="nope", messages=[{"role": "user", "content": "x"}]
                )
        assert engine.seen.gets.count("/v1/models") < 20


def test_a_model_that_is_removed_disappears(tools: type[Tools]) -> None:
    with fleet(tools, Reply(), count=1) as (client, (engine,)):
        engine.talents = replace(engine.talents, models=("fake", "old"))
        assert names(client) == {"fake", "old"}
        engine.talents = replace(engine.talents, models=("fake",))
        time.sleep(1.1)
        assert names(client) == {"fake"}


def test_an_engine_that_restarts_with_another_model(tools: type[Tools]) -> None:
    first = FakeEngine(Reply(), talents=Talents(models=("one",)))
    with first, tools.serving(tools.config_for(first.url)) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        hello: Any = [{"role": "user", "content": "x"}]
        client.chat.completions.create(model="suffice/single", messages=hello)
        port = first.port
        first.stop()
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(model="suffice/single", messages=hello)
        talents = Talents(models=("two",), prefill=None, logprobs=False)
        with FakeEngine(Reply(), talents=talents, port=port) as second:
            time.sleep(1.1)
            answer = client.chat.completions.create(model="suffice/single", messages=hello)
            assert answer.suffice["model"] == "two"
            assert second.seen.probes  # what the first engine could do is forgotten
            assert names(client) == {"two"}


def test_nothing_is_probed_for_what_passes_through(tools: type[Tools]) -> None:
    with fleet(tools, Reply(), count=1) as (client, (engine,)):
        engine.talents = replace(engine.talents, models=("embedder", "fake"))
        hello: Any = [{"role": "user", "content": "x"}]
        client.chat.completions.create(model="fake", messages=hello)
        client.models.list()
        assert engine.seen.probes == []


def test_only_the_model_that_is_asked_for_is_probed(tools: type[Tools]) -> None:
    with fleet(tools, Reply(), count=1) as (client, (engine,)):
        engine.talents = replace(engine.talents, models=("first", "fake"))
        answer = client.chat.completions.create(
            model="suffice/single",
            messages=[{"role": "user", "content": "x"}],
            extra_body={"suffice": {"model": "fake"}},
        )
        assert answer.suffice["model"] == "fake"
        assert {probe["model"] for probe in engine.seen.probes} == {"fake"}


def test_an_embedding_model_listed_first_is_not_what_policies_run_on(tools: type[Tools]) -> None:
    with fleet(tools, Reply(), count=1) as (client, (engine,)):
        engine.talents = replace(engine.talents, models=("embedder", "fake"), no_chat=("embedder",))
        answer = client.chat.completions.create(
            model="suffice/single", messages=[{"role": "user", "content": "x"}]
        )
        assert answer.suffice["model"] == "fake"
