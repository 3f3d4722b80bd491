from __future__ import annotations

from contextlib import suppress
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.backends.address import Address
from suffice.core.errors import InputError
from suffice.gateway.answer_facts import usage_in
from suffice.gateway.cors import CorsConfig
from suffice.gateway.endpoints import Endpoint, endpoint_of, query_upstream
from suffice.gateway.wire.headers import UPSTREAM_ID, HeaderLists, HeadersConfig, request_id_of
from suffice.gateway.wire.multipart import fields_of, is_form

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (CHAT, Endpoint(path=CHAT, kind="chat")),
        (f"{CHAT}/", Endpoint(path=CHAT, kind="chat")),
        ("/chat/completions", Endpoint(path=CHAT, kind="chat")),
        ("/completions", Endpoint(path="/v1/completions", kind="completion")),
        ("/openai/v1/responses", Endpoint(path="/v1/responses", kind="responses")),
        (
            "/openai/deployments/gpt-4.1/chat/completions",
            Endpoint(path=CHAT, kind="chat", model="gpt-4.1"),
        ),
        ("/v1/messages", Endpoint(path="/v1/messages", kind="messages")),
        ("/v1/messages/count_tokens", Endpoint(path="/v1/messages/count_tokens")),
        ("/embeddings", Endpoint(path="/v1/embeddings")),
        ("/rerank", Endpoint(path="/rerank")),
        ("/v1/rerank", Endpoint(path="/v1/rerank")),
        ("/tokenize", Endpoint(path="/tokenize")),
        ("/v1/audio/transcriptions", Endpoint(path="/v1/audio/transcriptions")),
        ("/v1/something/new", Endpoint(path="/v1/something/new")),
    ],
)
def test_paths_that_go_to_an_engine(path: str, found: Endpoint) -> None:
    assert endpoint_of(path) == found


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/metrics", "/health", "/version", "/v1/files", "/v1/files/x/content",
        "/v1/fine_tuning/jobs", "/v1/batches", "/v1/models/x", "/v1/load_lora_adapter",
        "/v1/organization/usage", "/v1/../metrics", "/v1/./x", "/v1//x", "/v1/x y", "/v1/%2e%2e/x",
        "/admin/state", "/openai/deployments/x/../metrics", "/v1/.hidden", "/pause",
    ],
)  # fmt: skip
def test_paths_that_do_not(path: str) -> None:
    assert endpoint_of(path) is None


@given(st.text())
def test_no_path_leads_above_the_api(path: str) -> None:
    found = endpoint_of(path)
    if found is not None:
        assert ".." not in found.path.split("/")
        assert found.path.startswith("/")
        assert "//" not in found.path


@pytest.mark.parametrize(
    ("url", "chat", "tokenize", "name"),
    [
        ("http://h:8000", "/v1/chat/completions", "/tokenize", "h:8000"),
        ("http://h:8000/", "/v1/chat/completions", "/tokenize", "h:8000"),
        ("http://h:8000/v1", "/v1/chat/completions", "/tokenize", "h:8000"),
        ("http://h:8000/v1/", "/v1/chat/completions", "/tokenize", "h:8000"),
        ("https://h/llm", "/llm/v1/chat/completions", "/llm/tokenize", "h/llm"),
        ("https://h/openai/v1", "/openai/v1/chat/completions", "/openai/tokenize", "h/openai"),
        ("https://h/v1beta/openai", "/v1beta/openai/chat/completions", "/v1beta/openai/tokenize",
         "h/v1beta/openai"),
        ("https://h/api/paas/v4", "/api/paas/v4/chat/completions", "/api/paas/v4/tokenize",
         "h/api/paas/v4"),
        ("https://h/openai/deployments/x?api-version=2024-10-21",
         "/openai/deployments/x/chat/completions?api-version=2024-10-21",
         "/openai/deployments/x/tokenize?api-version=2024-10-21", "h/openai/deployments/x"),
    ],
)  # fmt: skip
def test_an_upstreams_paths(url: str, chat: str, tokenize: str, name: str) -> None:
    address = Address.of(url)
    assert address.path(CHAT) == chat
    assert address.path("/tokenize") == tokenize
    assert address.name == name


def test_a_base_path_is_taken_as_it_is() -> None:
    assert Address.of("https://h/x", base_path="/").path(CHAT) == "/chat/completions"
    assert Address.of("https://h", base_path="a/b/").path(CHAT) == "/a/b/chat/completions"
    assert Address.of("https://h?a=1").path(CHAT, "b=2") == "/chat/completions?a=1&b=2"


def test_a_clients_key_and_version_stay_here() -> None:
    assert query_upstream(b"beta=true&key=secret&API-Key=s&api-version=1") == "beta=true"
    assert query_upstream(b"") == ""


def test_headers_pass_by_a_list() -> None:
    lists = HeaderLists.of(HeadersConfig(to_upstream=("X-Tenant",), to_client=("X-Engine",)))
    sent = [
        (b"authorization", b"Bearer secret"), (b"x-api-key", b"secret"), (b"cookie", b"secret"),
        (b"connection", b"x-session-id"), (b"x-session-id", b"s-1"), (b"traceparent", b"00-a-b-01"),
        (b"x-tenant", b"t"), (b"x-request-id", b"theirs"), (b"x-unknown", b"u"),
    ]  # fmt: skip
    assert lists.upstream(sent, "r-1") == {
        "x-request-id": "r-1", "x-session-id": "s-1", "traceparent": "00-a-b-01", "x-tenant": "t",
    }  # fmt: skip
    answered = {
        "x-ratelimit-remaining-tokens": "7", "retry-after-ms": "20", "set-cookie": "secret",
        "openai-processing-ms": "12", "x-engine": "e", "server": "uvicorn", "x-request-id": "up-1",
        "connection": "keep-alive", "openai-version": "a\x01b",
    }  # fmt: skip
    assert lists.client(answered, "r-1") == {
        "x-ratelimit-remaining-tokens": "7", "retry-after-ms": "20", "openai-processing-ms": "12",
        "x-engine": "e", UPSTREAM_ID: "up-1",
    }  # fmt: skip
    assert UPSTREAM_ID not in lists.client({"x-request-id": "r-1"}, "r-1")


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "transfer-encoding", "cookie"])
def test_headers_that_never_pass_cannot_be_named(name: str) -> None:
    with pytest.raises(InputError, match="never passes"):
        HeadersConfig(to_upstream=(name,))
    with pytest.raises(InputError, match="is not the name"):
        HeadersConfig(to_client=("a b",))


def test_request_ids_are_kept_if_they_are_plain() -> None:
    assert request_id_of("0af7-651.9:16/cd") == "0af7-651.9:16/cd"
    for odd in (None, "", "a b", "-x", "x" * 129, "a\x7f", "é", 'a"b'):
        assert request_id_of(odd) is None


def test_origins_are_named_whole() -> None:
    CorsConfig(origins=("https://app.example", "http://localhost:3000"))
    for wrong in ("*", "app.example", "https://app.example/path", "ftp://x"):
        with pytest.raises(InputError, match="is not an origin"):
            CorsConfig(origins=(wrong,))


# --- forms

names = st.text(st.characters(categories=["Ll", "Lu", "Nd"]), min_size=1, max_size=8)


def form(fields: dict[str, str], file: bytes = b"", boundary: str = "b0undary") -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    )
    parts.insert(len(parts) // 2, head.encode() + file + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


@given(
    st.dictionaries(names, st.text(max_size=40).map(lambda t: t.replace("\r", " "))),
    st.binary(max_size=200),
)
def test_a_forms_fields_are_what_a_library_finds(fields: dict[str, str], file: bytes) -> None:
    body = form(fields, file)
    kind = "multipart/form-data; boundary=b0undary"
    found = fields_of(body, kind)
    assert found == fields
    message = BytesParser(EmailMessage, policy=HTTP).parsebytes(
        f"content-type: {kind}\r\n\r\n".encode() + form({"model": "whisper"}, b"x")
    )
    (model,) = [
        part.get_payload(decode=True)
        for part in message.iter_parts()
        if part.get_param("name", header="content-disposition") == "model"
    ]
    assert model == fields_of(form({"model": "whisper"}, b"x"), kind)["model"].encode()


def test_forms_that_are_none() -> None:
    assert is_form('Multipart/Form-Data; boundary="x"')
    assert not is_form("application/json")
    for kind, body in (
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"nothing"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=a"),
    ):
        with pytest.raises(InputError, match="form"):
            fields_of(body, kind)


def test_a_file_named_like_a_field_is_none() -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n'
    assert fields_of(head + b"evil\r\n--x--", "multipart/form-data; boundary=x") == {}


@given(st.binary(max_size=400))
def test_any_body_can_be_a_form(body: bytes) -> None:
    with suppress(InputError):
        fields_of(b"--x" + body, "multipart/form-data; boundary=x")


# --- usage


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 5}}, (3, 5, None, None)),
        ({"usage": {"prompt_tokens": 3, "total_tokens": 3}}, (3, 0, None, None)),
        (
            {"usage": {"input_tokens": 3, "output_tokens": 5,
                       "input_tokens_details": {"cached_tokens": 2},
                       "output_tokens_details": {"reasoning_tokens": 4}}},
            (3, 5, 2, 4),
        ),
        (
            {"usage": {"input_tokens": 3, "output_tokens": 5, "cache_read_input_tokens": 10,
                       "cache_creation_input_tokens": 20}},
            (33, 5, 10, None),
        ),
        ({"response": {"usage": {"input_tokens": 1, "output_tokens": 2}}}, (1, 2, None, None)),
        ({"message": {"usage": {"input_tokens": 1, "output_tokens": 0}}}, (1, 0, None, None)),
        ({"usage": {"total_tokens": 9}}, (9, 0, None, None)),
        ({"meta": {"billed_units": {"input_tokens": 4}}}, (4, 0, None, None)),
        ({"meta": {"billed_units": {"search_units": 1}}}, None),
        ({"usage": {"type": "duration", "seconds": 3}}, None),
        ({"usage": None}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_usage_in_every_form(value: dict[str, object], found: tuple[object, ...] | None) -> None:
    usage = usage_in(value)
    if found is None:
        assert usage is None
    else:
        assert usage is not None
        counted = (usage.prompt_tokens, usage.completion_tokens)
        assert (*counted, usage.cached_tokens, usage.reasoning_tokens) == found
