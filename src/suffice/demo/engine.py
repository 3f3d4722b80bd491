"""A local engine that answers with what a real model once said, over OpenAI's API.

Any prompt that was not recorded gets "I do not know". It counts the tokens of its own answers, so
that whoever reports a cost can be held against it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from suffice.core.errors import SufficeError
from suffice.demo.recorded import RecordedQuestion

START_S = 60.0
UNKNOWN = "I do not know"
CONTEXT_TOKENS = 8192


@dataclass(slots=True)
class Counted:
    """What the engine has done since it started."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class RecordedEngine:
    """`with RecordedEngine(model, questions) as engine:` serves `model` at `engine.url`."""

    def __init__(self, model: str, questions: Iterable[RecordedQuestion]) -> None:
        self.model = model
        self.counted = Counted()
        self._by_prompt = {question.prompt: question for question in questions}
        self._listener = socket.socket()
        app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ]
        )
        settings = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True
        )

    @property
    def url(self) -> str:
        """Base URL with /v1."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._listener.bind(("127.0.0.1", 0))
        self._thread.start()
        until_s = time.monotonic() + START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until_s:
                raise SufficeError(f"the engine of {self.model} did not start")
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(START_S)
        self._listener.close()

    async def _models(self, request: Request) -> Response:
        del request
        card = {"id": self.model, "object": "model", "owned_by": "recorded", "created": 0,
                "max_model_len": CONTEXT_TOKENS}  # fmt: skip
        return JSONResponse({"object": "list", "data": [card]})

    async def _chat(self, request: Request) -> Response:
        asked = await request.json()
        fault = self._fault(asked)
        if fault is not None:
            return _refused(fault)
        text, usage = self._answer(asked)
        self.counted.requests += 1
        self.counted.prompt_tokens += usage["prompt_tokens"]
        self.counted.completion_tokens += usage["completion_tokens"]
        head = {"id": "chatcmpl-recorded", "created": int(time.time()), "model": self.model}
        if asked.get("stream"):
            events = _events(head, text, usage)
            return StreamingResponse(events, media_type="text/event-stream")
        choice = {"index": 0, "finish_reason": "stop",
                  "message": {"role": "assistant", "content": text}}  # fmt: skip
        whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        return JSONResponse(whole)

    def _fault(self, asked: dict[str, Any]) -> str | None:
        if asked.get("model") != self.model:
            return f"the model {asked.get('model')!r} does not exist"
        if asked.get("logprobs"):
            return "logprobs were not recorded"
        if asked.get("priority") is not None:
            return "priority is not supported"
        return None

    def _answer(self, asked: dict[str, Any]) -> tuple[str, dict[str, int]]:
        """The recorded reply to the last turn, and what it takes."""
        said = asked["messages"][-1].get("content")
        prompt = said if isinstance(said, str) else "".join(p.get("text", "") for p in said or ())
        question = self._by_prompt.get(prompt)
        if question is None:
            text, prompt_tokens, drawn = UNKNOWN, max(1, len(prompt) // 4), 4
        else:
            text, prompt_tokens = question.text_of(self.model), question.prompt_tokens
            drawn = question.answers[self.model].completion_tokens
        return text, {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": drawn,
            "total_tokens": prompt_tokens + drawn,
        }


def _refused(message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status_code=400)


async def _events(head: dict[str, Any], text: str, usage: dict[str, int]) -> Any:
    """One chunk with the text, one with the reason, one with the usage."""
    head = {**head, "object": "chat.completion.chunk"}
    said = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    ended = {"index": 0, "delta": {}, "finish_reason": "stop"}
    for choices, used in (([said], None), ([ended], None), ([], usage)):
        yield f"data: {json.dumps({**head, 'choices': choices, 'usage': used})}\n\n"
        await asyncio.sleep(0)
    yield "data: [DONE]\n\n"
