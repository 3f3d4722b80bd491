"""Requests made from our own description, good and bad: no crash, nothing undocumented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from suffice.backends.openai import OpenAIBackend
from suffice.gateway.app import create_app
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_sections import LedgerConfig
from suffice.gateway.observe.serving_hooks import open_hooks, serving_hooks
from suffice.gateway.wire.openapi import description
from suffice.testing.fake_engine import FakeEngine
from suffice.testing.fake_replies import Reply

MODELS = st.sampled_from(["fake", "suffice/single", "suffice/auto", "suffice/esc", "nobody"])
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_schema_conformance,
]  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from tests.servers.tools import config_for, serving

    url = str(tmp_path_factory.mktemp("openapi") / "ledger.db")
    with FakeEngine(Reply.saying("it is 4")) as engine:
        ledger = LedgerConfig(url=url, flush_s=0.01)
        config = config_for(engine.url, patience_s=5.0, max_choices=3, ledger=ledger)
        with serving(config, hooks=serving_hooks(config)) as served:
            yield served


QUIETLY = settings(
    max_examples=12, deadline=None, database=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.mark.parametrize("kind", list(GenerationMode))
def test_what_the_description_allows_and_forbids(gateway: str, kind: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{gateway}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    described = set(description()["paths"]) - {"/openapi.json"}
    assert described <= {operation.path for operation in operations}
    for operation in operations:
        if kind is GenerationMode.POSITIVE and operation.path == "/admin/keys":
            continue  # the first key that is made would shut this test out
        try:
            cases = operation.as_strategy(generation_mode=kind)
            check_all(cases)
        except Unsatisfiable:
            continue  # a GET without parameters has no wrong form


def test_every_route_is_described() -> None:
    config = GatewayConfig(upstreams=(), ledger=LedgerConfig(url=None))
    opened = open_hooks(config)
    app = create_app(config, backends=(OpenAIBackend("http://127.0.0.1:1"),), hooks=opened.in_order)
    served = {
        (route.path.replace(":path}", "}"), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    found = description([opened.administration.described()])["paths"]
    described = {(path, m) for path, item in found.items() for m in item if m != "parameters"}
    assert described == served
    assert "/metrics" not in description()["paths"]  # nobody serves it without a opened
    opened.store.close()


def check_all(cases: Any) -> None:
    @given(case=cases)
    @QUIETLY
    def check(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    check()


FIELDS = sorted(description()["components"]["schemas"]["ChatBody"]["properties"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]) | JSON, "content": JSON},
    optional={"tool_calls": JSON, "name": JSON, "tool_call_id": JSON},
)
FUNCTION = st.fixed_dictionaries({"name": JSON, "arguments": JSON})
CALLS = st.fixed_dictionaries({"type": st.just("function"), "function": FUNCTION})
WISHES = st.dictionaries(
    st.sampled_from(["policy", "budget", "effort", "target", "answer_format"]), JSON
)
BODIES = st.fixed_dictionaries(
    {"model": MODELS, "messages": st.lists(MESSAGE, min_size=1, max_size=2) | JSON},
    optional={"tools": st.lists(CALLS, max_size=2) | JSON, "suffice": WISHES},
)


@given(body=BODIES, more=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3))
@settings(QUIETLY, max_examples=60)
def test_no_body_breaks_the_gateway(
    gateway: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    body = {**more, **body}
    try:
        answer = httpx2.post(f"{gateway}/v1/chat/completions", json=body, timeout=20.0)
    except ValueError:
        return  # our own client cannot write it
    if answer.status_code != 200:
        assert 400 <= answer.status_code < 500, answer.text
        assert set(answer.json()["error"]) >= {"message"}
    elif not body.get("stream"):
        assert answer.json()["choices"]
    else:
        assert answer.text.rstrip().endswith("[DONE]") or '"error"' in answer.text
