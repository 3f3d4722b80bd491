"""The gateway as one or several processes: bounded connections, an end that loses nothing.

SIGTERM (or Ctrl-C): no new calls; what is in flight has `drain_s` to finish, and what has not by
then gets an error of its own. A second signal ends the waiting. SIGHUP reads the settings anew.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import uvicorn

from suffice.backends.protocol import Backend
from suffice.core.errors import InputError, SufficeError
from suffice.gateway.app import Gateway, create_app
from suffice.gateway.calls import Hook
from suffice.gateway.config import GatewayConfig
from suffice.gateway.connection.connections import Connections, most_connections
from suffice.gateway.connection.http_limits import KEEP_ALIVE_S, HttpConnection, protocol_of
from suffice.gateway.observe.logs import logging_settings

logger = logging.getLogger("suffice.gateway")

# What hooks a process has; a function of a module, so that other processes can find it.
Hooks = Callable[[GatewayConfig], Sequence[Hook]]
# Reads the settings anew.
Reload = Callable[[], GatewayConfig]

# After the time for calls in flight is over: to send what they learn.
GRACE_S = 5.0
# And for all that follows, the ledger's last rows included; what hangs then is not waited for.
END_S = 25.0
# How long the ledger's thread may hold up an answer; Python's own 5 ms are seen at the 99th
# percentile.
SWITCH_S = 0.0005
# Objects between two looks for garbage in circles, and such looks between two at older objects. A
# call makes some hundred objects and hardly any circle: Python's own 700 looks through the calls
# in flight every few calls.
GARBAGE = (10_000, 20, 20)
# Nobody needs more files than this; some systems allow a billion, and pay for each.
MOST_FILES = 65_536
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
    connections = Connections(
        settings.traffic, most_connections(settings.traffic, raised_file_limit())
    )
    config = _uvicorn_config(app, settings, quiet, protocol_of(connections))
    return Server(config, app.state.gateway, connections, reload=reload)


def raised_file_limit() -> int:
    """Files that this process may have open, after asking for as many as it is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MOST_FILES if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _uvicorn_config(
    app: Any, settings: GatewayConfig, quiet: bool, protocol: type[HttpConnection] | None = None
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol or "auto",
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
        self,
        config: uvicorn.Config,
        gateway: Gateway,
        connections: Connections,
        *,
        reload: Reload | None = None,
    ) -> None:
        super().__init__(config)
        self.gateway = gateway
        self.connections = connections
        self._reload = reload

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve in a process that has nothing else to do."""
        sys.setswitchinterval(SWITCH_S)
        if threading.current_thread() is threading.main_thread():
            # What was made before the first request stays: looking through it again and again costs
            # milliseconds, in the midst of calls.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GARBAGE)
        super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, which has an end; a second one hurries it."""
        ending = self.gateway.ending
        if ending.draining:
            ending.cut()
        else:
            LastResort(self.gateway.service.config.traffic.drain_s + END_S).start()
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
            if self.force_exit:  # uvicorn leaves this out then, and rows would be lost
                await self.lifespan.shutdown()
        finally:
            timer.cancel()

    def reload(self) -> None:
        """Take over new settings if they are valid; else say what is wrong and go on."""
        assert self._reload is not None
        try:
            settings = self._reload()
            self.gateway.apply(settings)
        except SufficeError as error:
            logger.error("settings unchanged: %s", error)
        else:
            self.connections.limits = settings.traffic
            self.connections.most = most_connections(settings.traffic, raised_file_limit())
            logger.info("settings read anew")


class LastResort(threading.Thread):
    """Ends the process if it has not ended by itself in time, and shows what it hangs on."""

    def __init__(self, after_s: float) -> None:
        super().__init__(name="suffice-last-resort", daemon=True)
        self._after_s = after_s

    def run(self) -> None:
        """Wait; a process that ends in time ends this thread too."""
        time.sleep(self._after_s)
        logger.critical(
            "not ended %g s after the signal: it is ended now, the threads' stacks follow",
            self._after_s,
        )
        faulthandler.dump_traceback(all_threads=True)
        sys.stderr.flush()
        os._exit(1)


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
        until_s = time.monotonic() + self._settings.traffic.drain_s + END_S + GRACE_S
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
    # First: opening the ledger and the rest takes seconds on a busy machine, and a supervisor that
    # is killed meanwhile must not leave anybody behind either.
    threading.Thread(target=_end_with_the_supervisor, name="suffice-orphan", daemon=True).start()
    server = server_of(settings, hooks=hooks, reload=reload, quiet=quiet)
    server.run(sockets=[listener])


def _end_with_the_supervisor() -> None:
    """A supervisor that was killed leaves nobody behind on its port."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        multiprocessing.connection.wait([supervisor.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
