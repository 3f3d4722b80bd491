"""A gateway in a thread, on a free loopback port, for clients to talk to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import uvicorn

from suffice.backends.protocol import Backend
from suffice.gateway.app import create_app
from suffice.gateway.calls import Hook
from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.gateway.server import Hooks, no_hooks, server_of


@contextmanager
def running(server_for: Callable[[], uvicorn.Server]) -> Iterator[str]:
    """Base URL of a server in a thread of its own until the block ends."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        server = server_for()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


def serving(
    config: GatewayConfig,
    backends: Sequence[Backend] | None = None,
    hooks: Sequence[Hook] = (),
) -> AbstractContextManager[str]:
    """A gateway behind a plain uvicorn."""

    def server_for() -> uvicorn.Server:
        app = create_app(config, backends=backends, hooks=hooks)
        # uvicorn's own 5 s are over on a busy machine before a client sends its next request.
        return uvicorn.Server(
            uvicorn.Config(app, log_level="error", ws="none", timeout_keep_alive=75)
        )

    return running(server_for)


def serving_bounded(
    config: GatewayConfig, backends: Sequence[Backend] | None = None, hooks: Hooks = no_hooks
) -> AbstractContextManager[str]:
    """The same with the product's own server, which bounds connections and drains."""
    return running(lambda: server_of(config, backends=backends, hooks=hooks, quiet=True))


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.005)


def config_for(*urls: str, patience_s: float = 20.0, **settings: Any) -> GatewayConfig:
    settings.setdefault("keep_alive_s", 0.1)
    upstreams = tuple(
        UpstreamConfig(
            url=url,
            connect_s=min(5.0, patience_s),
            first_byte_s=patience_s,
            silence_s=patience_s,
            answer_s=patience_s,
        )
        for url in urls
    )
    return GatewayConfig(upstreams=upstreams, **settings)


class Tools:
    """What the tests of this folder share."""

    serving = staticmethod(serving)
    config_for = staticmethod(config_for)
    serving_bounded = staticmethod(serving_bounded)
    wait_for = staticmethod(wait_for)
