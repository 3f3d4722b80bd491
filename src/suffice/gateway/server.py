"""The gateway as one or several processes: bounded connections, an end that loses nothing.

SIGTERM (or Ctrl-C): no new calls; what is in flight has `drain_s` to finish, and what has not by
then gets an error of its own. A second signal ends the waiting. SIGHUP reads the settings anew.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from suffice.backends.protocol import Backend
from suffice.core.errors import InputError, SufficeError
from suffice.gateway.app import Gateway, create_app
from suffice.gateway.calls import Hook
from suffice.gateway.config import GatewayConfig
from suffice.gateway.journal import logging_settings

logger = logging.getLogger("suffice.gateway")

# What hooks a process has; a function of a module, so that other processes can find it.
Hooks = Callable[[GatewayConfig], Sequence[Hook]]
# Reads the settings anew.
Reload = Callable[[], GatewayConfig]

# Clients keep idle connections for seconds to minutes; closing first makes them fail.
KEEP_ALIVE_S = 75
# After the time for calls in flight is over: to send what they learn.
GRACE_S = 5.0
# How long the ledger's thread may hold up an answer; Python's own 5 ms are seen at the 99th
# percentile.
SWITCH_S = 0.0005
# A worker that dies at once is not started again faster than this.
RESTART_S = 1.0


def no_hooks(config: GatewayConfig) -> Sequence[Hook]:
    """A gateway without keys, ledger and metrics."""
    del config
    return ()


def run(
    settings: GatewayConfig,
    *,
    backends: Sequence[Backend] | None = None,
    hooks: Hooks = no_hooks,
    reload: Reload | None = None,
    quiet: bool = False,
) -> None:
    """Serve until a signal comes, with `settings.workers` processes."""
    if settings.workers == 1:
        server_of(settings, backends=backends, hooks=hooks, reload=reload, quiet=quiet).run()
        return
    if backends is not None:
        raise InputError("a model in this process is served by one worker: leave --workers out")
    Supervisor(settings, hooks=hooks, reload=reload, quiet=quiet).run()


def server_of(
    settings: GatewayConfig,
    *,
    backends: Sequence[Backend] | None = None,
    hooks: Hooks = no_hooks,
    reload: Reload | None = None,
    quiet: bool = False,
) -> Server:
    """One process's server, not yet running."""
    app = create_app(settings, backends=backends, hooks=hooks(settings))
    return Server(_uvicorn_config(app, settings, quiet), app.state.gateway, reload=reload)


def _uvicorn_config(app: Any, settings: GatewayConfig, quiet: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol_of(settings),
        ws="none",
        lifespan="on",
        log_config=logging_settings(settings.log, quiet=quiet),
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.traffic.drain_s + GRACE_S) + 1,
    )


class Server(uvicorn.Server):
    """A server that tells the gateway when it is about to end."""

    def __init__(
        self, config: uvicorn.Config, gateway: Gateway, *, reload: Reload | None = None
    ) -> None:
        super().__init__(config)
        self.gateway = gateway
        self._reload = reload

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve in a process that has nothing else to do."""
        sys.setswitchinterval(SWITCH_S)
        super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end; a second one hurries it."""
        ending = self.gateway.ending
        if ending.draining:
            ending.cut()
        ending.drain()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and mind SIGHUP."""
        await super().startup(sockets)
        for server in self.servers:
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                logger.info("running on http://%s:%d (Ctrl+C ends it)", shown, port)
        if self._reload is not None and threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self.reload)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let calls in flight finish, then end the rest."""
        ending = self.gateway.ending
        ending.drain()
        drain_s = self.gateway.service.config.traffic.drain_s
        timer = asyncio.get_running_loop().call_later(drain_s, ending.cut)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    def reload(self) -> None:
        """Take over new settings if they are valid; else say what is wrong and go on."""
        assert self._reload is not None
        try:
            self.gateway.apply(self._reload())
        except SufficeError as error:
            logger.error("settings unchanged: %s", error)
        else:
            logger.info("settings read anew")


def protocol_of(settings: GatewayConfig) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with headers bounded in size and time."""
    limits = settings.traffic
    return type(
        "BoundedProtocol",
        (_Bounded,),
        {"most_bytes": limits.max_header_bytes, "limit_s": limits.header_s},
    )


class _Bounded(HttpToolsProtocol):
    """Headers come within `limit_s` and `most_bytes`, or the connection is closed with a reason."""

    most_bytes: int
    limit_s: float

    is_lost = False
    when_lost: Callable[[], None] | None = None  # of the call that is being answered

    _head_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _head_size = 0
    _refused = False
    _asked = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _Gathered(transport, self.loop)))
        self._head_timer = self.loop.call_later(self.limit_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._cancel_head_timer()
        super().connection_lost(exc)
        if self.when_lost is not None:
            self.when_lost()

    def cut(self) -> None:
        """Close without another word."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._head_size = self._head_size + len(data) if self._in_head else len(data)
        super().data_received(data)
        if self._in_head and not self._refused:
            if self._head_size > self.most_bytes:
                self._refuse(
                    431, "headers_too_large", f"the headers exceed {self.most_bytes} bytes"
                )
            elif self._head_timer is None and self._head_size:
                self._head_timer = self.loop.call_later(self.limit_s, self._too_slow)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()
        self.scope["suffice.connection"] = self  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._asked = True
        self._cancel_head_timer()
        if self._head_size > self.most_bytes and self._size_of_head() > self.most_bytes:
            self._refuse(431, "headers_too_large", f"the headers exceed {self.most_bytes} bytes")
            return
        super().on_headers_complete()

    def _size_of_head(self) -> int:
        """Without the piece of the body that came with it."""
        return sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url)

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_size = 0
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        # The answer leaves before anything is written down about it.
        cast("_Gathered", self.transport).flush()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "invalid_http", msg)

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._in_head and not self._refused:
            if self._head_size:
                message = f"the headers did not come within {self.limit_s:g} s"
                self._refuse(408, "request_timeout", message)
            elif not self._asked:
                self.transport.close()  # it has never said anything

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer in the form that clients expect, without a request to answer."""
        self._refused = True
        self._cancel_head_timer()
        busy = self.cycle is not None and not self.cycle.response_complete
        if not busy and self.transport is not None and not self.transport.is_closing():
            body = (
                f'{{"error":{{"message":"{message}","type":"invalid_request_error",'
                f'"param":null,"code":"{code}"}}}}'
            ).encode()
            self.transport.write(
                f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
                + body
            )
        if self.transport is not None:
            self.transport.close()

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Gathered:
    """A transport that hands over what was written in one turn of the event loop together.

    An answer's head and body, and all events that one read from the upstream brought, become one
    call of the system instead of one each; those calls are what a gateway's time goes into.
    Whoever knows that nothing follows calls `flush`.
    """

    __slots__ = ("_loop", "_pieces", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def flush(self) -> None:
        """Write what has been gathered."""
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Supervisor:
    """Several processes that accept on one socket; one that dies is replaced."""

    def __init__(
        self, settings: GatewayConfig, *, hooks: Hooks, reload: Reload | None, quiet: bool
    ) -> None:
        self._settings = settings
        self._hooks = hooks
        self._reload = reload
        self._quiet = quiet
        self._spawn = multiprocessing.get_context("spawn")
        self._ending = threading.Event()
        self._processes: list[Any] = []

    def run(self) -> None:
        """Serve until a signal comes."""
        config = _uvicorn_config(None, self._settings, self._quiet)
        listener = config.bind_socket()
        listener.set_inheritable(True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, self._pass_on)
        try:
            self._processes = [self._start(listener) for _ in range(self._settings.workers)]
            while not self._ending.wait(0.2):
                self._replace_dead(listener)
        finally:
            listener.close()
            self._end()

    def _start(self, listener: socket.socket) -> Any:
        process = self._spawn.Process(
            target=_work,
            args=(self._settings, listener, self._hooks, self._reload, self._quiet),
            daemon=False,
        )
        process.start()
        return process

    def _replace_dead(self, listener: socket.socket) -> None:
        for place, process in enumerate(self._processes):
            if not process.is_alive():
                logger.error("worker %d died (%s): starting another", process.pid, process.exitcode)
                if self._ending.wait(RESTART_S):
                    return
                self._processes[place] = self._start(listener)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._ending.set()
        for process in self._processes:
            if process.is_alive():
                os.kill(process.pid, number)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        for process in self._processes:
            if process.is_alive():
                os.kill(process.pid, number)

    def _end(self) -> None:
        until_s = time.monotonic() + self._settings.traffic.drain_s + 2 * GRACE_S
        for process in self._processes:
            # Also where a signal was passed on: one that started meanwhile has not had it.
            if process.is_alive():
                process.terminate()
        for process in self._processes:
            process.join(max(0.1, until_s - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _work(
    settings: GatewayConfig,
    listener: socket.socket,
    hooks: Hooks,
    reload: Reload | None,
    quiet: bool,
) -> None:
    """One worker's process."""
    settings = replace(settings, workers=1)
    server = server_of(settings, hooks=hooks, reload=reload, quiet=quiet)
    threading.Thread(target=_end_with_the_supervisor, name="suffice-orphan", daemon=True).start()
    server.run(sockets=[listener])


def _end_with_the_supervisor() -> None:
    """A supervisor that was killed leaves nobody behind on its port."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        multiprocessing.connection.wait([supervisor.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
