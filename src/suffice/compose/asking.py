"""The gateway in this process with a client beside it: one request at a time, and what it took."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.backends.nano.backend import NanoBackend
from suffice.backends.openai import OpenAIBackend
from suffice.backends.protocol import Backend
from suffice.compose.config import Arm, ComposeConfig
from suffice.compose.model_clock import ModelClock
from suffice.core.completions import Completion, Usage
from suffice.core.errors import InputError, SufficeError, UpstreamRejected
from suffice.evals.datasets import Item
from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.gateway.config_sections import NO_LEDGER, LedgerConfig
from suffice.gateway.server import server_of

CHAT = "/v1/chat/completions"
START_S = 30.0
# Requests of each arm before any is counted: imports, first connections, probes of a server.
UNCOUNTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question by one arm. `cpu_s` is of client, gateway and the models in this process."""

    right: bool
    tokens: int  # completion tokens of everything that was drawn
    cpu_s: float
    model_cpu_s: float  # of the models in this process alone
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Seconds: CPU time of this process, and the wall's."""

    cpu: Callable[[], float] = time.process_time
    wall: Callable[[], float] = time.perf_counter


CLOCKS = Clocks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A gateway that listens at `url`, and the clocks of the models in this process."""

    url: str
    models: tuple[ModelClock, ...]

    def model_cpu_s(self) -> float:
        """CPU time of all of them so far."""
        return sum(model.spent_s for model in self.models)


@contextmanager
def serving(config: ComposeConfig) -> Iterator[Served]:
    """The gateway in a thread of this process, on a free port of loopback."""
    models = tuple(
        ModelClock(NanoBackend(_folder(path), name=name)) for name, path in config.models.items()
    )
    backends: Sequence[Backend] | None = models or None
    settings = GatewayConfig(
        host="127.0.0.1", port=0, ledger=LedgerConfig(url=NO_LEDGER),
        upstreams=tuple(UpstreamConfig(url=url) for url in config.upstreams),
    )  # fmt: skip
    server = server_of(settings, backends=backends, quiet=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            until_s = time.monotonic() + START_S
            while not server.started:
                if not thread.is_alive() or time.monotonic() > until_s:
                    raise SufficeError("the gateway did not start: run suffice serve to see why")
                time.sleep(0.01)
            port = listener.getsockname()[1]
            yield Served(url=f"http://127.0.0.1:{port}", models=models)
        finally:
            server.should_exit = True
            thread.join(START_S)


def _folder(path: str) -> Path:
    if not Path(path).is_dir():
        raise InputError(f"{path!r} is no folder: give one that suffice train wrote")
    return Path(path)


def ask_all(
    config: ComposeConfig,
    items: Sequence[Item],
    served: Served,
    *,
    tell: Callable[[str], None],
    clocks: Clocks = CLOCKS,
) -> list[list[Asked]]:
    """Every question by every arm, by arm and in the questions' order; one request at a time.

    Arms take turns, so that a machine that becomes slower does so for all of them, and they stand
    at different questions, so that none finds a prompt in a cache that another has filled.
    """
    return asyncio.run(_ask_all(config, items, served, tell, clocks))


async def _ask_all(
    config: ComposeConfig,
    items: Sequence[Item],
    served: Served,
    tell: Callable[[str], None],
    clocks: Clocks,
) -> list[list[Asked]]:
    n, arms = len(items), config.arms
    found: list[dict[int, Asked]] = [{} for _ in arms]
    backend = OpenAIBackend(served.url)
    try:
        for arm in arms:
            for number in range(min(UNCOUNTED, n)):
                await _ask(backend, config, arm, items[number], number)
        for turn in range(n):
            for place, arm in enumerate(arms):
                number = (turn + place * n // len(arms)) % n
                cpu_s, model_s, wall_s = clocks.cpu(), served.model_cpu_s(), clocks.wall()
                answer = await _ask(backend, config, arm, items[number], number)
                found[place][number] = Asked(
                    right=_is_right(items[number], answer),
                    tokens=int(answer["suffice"]["usage"]["completion_tokens"]),
                    cpu_s=clocks.cpu() - cpu_s,
                    model_cpu_s=served.model_cpu_s() - model_s,
                    wall_s=clocks.wall() - wall_s,
                )
            if (turn + 1) % 100 == 0:
                tell(f"{turn + 1} of {n} questions")
    finally:
        await backend.aclose()
    return [[one[number] for number in range(n)] for one in found]


async def _ask(
    backend: OpenAIBackend, config: ComposeConfig, arm: Arm, item: Item, number: int
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": "suffice/single",
        "messages": json.loads(item.question.messages_json),
        "suffice": {"policy": arm.policy},
        "temperature": config.temperature,
        "seed": config.seed * 1_000_003 + number,
    }
    if item.question.answer_format is not None:
        body["suffice"]["answer_format"] = item.question.answer_format
    if config.max_tokens is not None:
        body["max_tokens"] = config.max_tokens
    status, answer = await backend.post(CHAT, body)
    if status != 200:
        said = (answer.get("error") or {}).get("message") or answer
        raise UpstreamRejected(f"arm {arm.name!r} was answered {status}: {said}", status=status)
    return answer


def _is_right(item: Item, answer: dict[str, Any]) -> bool:
    text = answer["choices"][0]["message"].get("content") or ""
    verdict = item.check(Completion(text=text, finish_reason="stop", usage=Usage()))
    return bool(verdict.correct)
