"""Cancellation: the work for a client ends when the client leaves or the process stops."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from suffice.gateway.admission import TrafficConfig
from suffice.gateway.wire.errors import Refusal

if TYPE_CHECKING:
    from suffice.gateway.connection.client import Client

LOOK_S = 5.0


class Endable(Protocol):
    """Work that can be told to end."""

    def end(self, reason: Exception) -> None:
        """End it; it raises `reason`."""
        ...

    def look(self) -> None:
        """End it if its time is up; called every `LOOK_S`."""
        ...


class Shutdown:
    """Whether the process is about to end, and who has to be told."""

    def __init__(self) -> None:
        self.draining = False
        self.reached = False  # the time for what is in flight is over
        self._told: set[Endable] = set()
        self._timer: asyncio.TimerHandle | None = None  # one for all calls: each would cost 3 µs

    def drain(self) -> None:
        """Take no more calls."""
        self.draining = True

    def cut(self) -> None:
        """End what is still in flight."""
        self.draining = self.reached = True
        for attended in tuple(self._told):
            attended.end(stopping())

    def tell(self, attended: Endable) -> None:
        """Tell this one when it is time, and let it look at the clock."""
        self._told.add(attended)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for attended in tuple(self._told):
            attended.look()
        if self._told:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def forget(self, attended: Endable) -> None:
        """It has ended by itself."""
        self._told.discard(attended)


def stopping() -> Refusal:
    """What a call learns that comes too late, or takes too long, for an ending process."""
    return Refusal(
        "the gateway is shutting down: try again, another process will answer",
        status=503, code="shutting_down", kind="server_error", retry_after_s=1.0,
    )  # fmt: skip


class ClientConnection(Protocol):
    """The server's side of a connection, as far as a call needs it."""

    is_lost: bool
    is_whole: bool  # nothing of the last request is still to come
    fault: tuple[int, str, str] | None  # status, code and message, if the request was cut short
    others_leave: bool  # others have left their calls lately
    when_lost: Callable[[], None] | None

    def cut(self) -> None:
        """Close it at once."""
        ...


async def left_at_once(connection: ClientConnection | None) -> bool:
    """Whether a client left before its call began.

    Only looked at while others do so: it takes a turn of the event loop to see it, but a storm of
    clients that leave would otherwise make the others wait for work that nobody wants.
    """
    if connection is None or not connection.others_leave:
        return False
    await asyncio.sleep(0)
    return connection.is_lost


class CancelScope:
    """A block that is cancelled when nobody wants its result any more, and says why.

    Raises ClientDisconnect if the client left, Refusal if the call took too long or the process
    ends. The connection tells when it is lost; of a server that gives none, a task asks.
    """

    def __init__(
        self,
        client: Client,
        connection: ClientConnection | None,
        receive: Receive,
        ending: Shutdown,
        limits: TrafficConfig,
    ) -> None:
        self._client = client
        self._connection = connection
        self._receive = receive
        self._ending = ending
        self._total_s = math.inf if limits.total_s is None else limits.total_s
        self._stall_s = limits.stall_s
        self._reason: Exception | None = None
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        if self._ending.reached:
            raise stopping()
        self._task = asyncio.current_task()
        if self._connection is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
        elif self._connection.is_lost:
            raise ClientDisconnect
        else:
            self._connection.when_lost = self._left
        if self._total_s < LOOK_S or self._stall_s < LOOK_S:
            self.look()
        self._ending.tell(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._connection is not None and self._connection.when_lost == self._left:
            self._connection.when_lost = None  # else the next call on it has begun
        if self._reason is None:
            return
        assert self._task is not None
        left = self._task.uncancel()
        if kind is None:  # it ended in the same moment: the cancellation must not hit the next wait
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                return
        elif left == 0 and issubclass(kind, asyncio.CancelledError):
            raise self._reason from None

    def end(self, reason: Exception) -> None:
        """Cancel the block; it raises `reason`. What was sent whole is never taken back."""
        if self._client.ended:
            return
        if self._reason is None and self._task is not None:
            self._reason = reason
            self._task.cancel()

    def look(self) -> None:
        """End the block if it has taken too long, or its client takes nothing for too long."""
        elapsed_s = self._client.call.elapsed_s()
        since_s = self._client.sending_since_s
        if elapsed_s >= self._total_s:
            self.end(
                Refusal(
                    f"the call took longer than {self._total_s:g} s, the gateway's limit",
                    status=504, code="gateway_timeout", kind="server_error",
                )
            )  # fmt: skip
        elif since_s is not None and time.perf_counter() - since_s > self._stall_s:
            self._client.cut()
            self.end(ClientDisconnect())
        elif self._timer is None:
            wait_s = min(self._total_s - elapsed_s, self._stall_s)
            if wait_s < LOOK_S:  # before the next look at all of them
                self._timer = asyncio.get_running_loop().call_later(max(0.0, wait_s), self._again)

    def _again(self) -> None:
        self._timer = None
        self.look()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        self.end(ClientDisconnect())
