"""What engines say of themselves at /metrics: how many requests run and wait, how full the KV is.

Asked only where several upstreams serve a model and while requests come, in the background, at most
every `metrics_s`. One that has no such page, or another one, is not asked again for a minute.
Prometheus' text format; vLLM, SGLang, llama.cpp server and TGI are read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from suffice.backends.openai import OpenAIBackend
from suffice.backends.protocol import Backend
from suffice.backends.router import EngineLoad, Router
from suffice.core.errors import BackendError

TIMEOUT_S = 1.0
NOT_AGAIN_S = 60.0
LARGEST_BYTES = 2 * 2**20

_RUNNING = (
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "llamacpp:requests_processing",
    "tgi_batch_current_size",
)
_WAITING = (
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "llamacpp:requests_deferred",
    "tgi_queue_size",
)
_KV = (
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "sglang:token_usage",
    "llamacpp:kv_cache_usage_ratio",
)
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{[^\n]*\})?[ \t]+([^ \t\n]+)", re.MULTILINE)


def engine_load(text: str) -> EngineLoad | None:
    """What a /metrics page says, summed over the engines behind it; None if it is another's."""
    found: dict[str, list[float]] = {}
    wanted = {*_RUNNING, *_WAITING, *_KV}
    for name, value in _SAMPLE.findall(text):
        if name in wanted:
            try:
                found.setdefault(name, []).append(float(value))
            except ValueError:
                continue  # not a number: not a page of theirs
    running = _first(found, _RUNNING)
    if running is None:
        return None
    kv = _first(found, _KV)
    return EngineLoad(
        running=_count(running),
        waiting=_count(_first(found, _WAITING) or []),
        kv_usage=max(kv) if kv else None,
    )


def _first(found: dict[str, list[float]], names: Sequence[str]) -> list[float] | None:
    return next((found[name] for name in names if name in found), None)


def _count(values: Sequence[float]) -> int:
    """A sum as a count; what is no count is none."""
    total = sum(values)
    return int(total) if 0 <= total < 2**31 else 0


class EngineMetrics:
    """Asks engines, and tells the router."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._every_s = router.config.metrics_s
        self._not_before_s: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def look(self, backends: Sequence[Backend]) -> None:
        """Ask those that have not been asked lately; nobody waits for it."""
        now_s = asyncio.get_running_loop().time()
        for backend in backends:
            name = backend.name
            if now_s >= self._not_before_s.get(name, 0.0) and isinstance(backend, OpenAIBackend):
                self._not_before_s[name] = now_s + self._every_s
                if name not in self._asking or self._asking[name].done():
                    self._asking[name] = asyncio.create_task(self._ask(backend))

    async def aclose(self) -> None:
        """Stop asking."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _ask(self, backend: OpenAIBackend) -> None:
        load = None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                text = await backend.metrics(most_bytes=LARGEST_BYTES)
                load = None if text is None else engine_load(text)
        except (BackendError, TimeoutError):
            text = ""  # it is away, or busy: the next look may be luckier
        self._router.reported(backend.name, load)
        if load is None and text != "":
            self._not_before_s[backend.name] = asyncio.get_running_loop().time() + NOT_AGAIN_S
