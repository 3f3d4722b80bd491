"""How many connections of clients a process holds, and which one makes room for a new one."""

from __future__ import annotations

import logging
import math
from typing import Protocol

from suffice.gateway.admission import TrafficConfig

logger = logging.getLogger("suffice.gateway")

# The log says this often that connections are refused.
TELL_S = 10.0
# Files that are neither clients' nor upstreams': the ledger, the log, libraries.
RESERVED_FILES = 64


class Waiting(Protocol):
    """A connection that waits for its client."""

    def make_room(self) -> None:
        """Another one needs its place."""
        ...


class Connections:
    """All connections of a process: their limits, and how many there may be at once.

    One that is too many takes the place of the one that has waited longest for its client.
    """

    def __init__(self, limits: TrafficConfig, most: int) -> None:
        self.limits = limits
        self.most = most
        self.open = 0
        self.refused = 0  # connections that were closed, or not taken, for want of room
        self.left_s = -math.inf  # when a client last left its call, on the loop's clock
        self._waiting: dict[Waiting, None] = {}  # in the order in which they began to wait
        self._told_s = -math.inf

    def opened(self, connection: Waiting, now_s: float) -> bool:
        """Count a connection; False if there is no room for it, not even by closing another."""
        self.open += 1
        if self.open > self.most:
            oldest = next(iter(self._waiting), None)
            self.refused += 1
            self._tell(oldest is None, now_s)
            if oldest is None:
                return False
            oldest.make_room()
        self.waits(connection)
        return True

    def _tell(self, new: bool, now_s: float) -> None:
        if now_s - self._told_s < TELL_S:
            return
        self._told_s = now_s
        logger.warning(
            "%d connections are open, as many as may be (traffic.max_connections, ulimit -n): %s "
            "(%d so far)",
            self.most,
            "a new one is refused" if new else "one that waits for its client is closed",
            self.refused,
        )

    def closed(self, connection: Waiting) -> None:
        """It is gone."""
        self.open -= 1
        self._waiting.pop(connection, None)

    def waits(self, connection: Waiting) -> None:
        """It waits for its client."""
        self._waiting[connection] = None

    def answers(self, connection: Waiting) -> None:
        """Its request is whole: someone works for it."""
        self._waiting.pop(connection, None)


def most_connections(limits: TrafficConfig, open_files: float) -> int:
    """Connections of clients that a process can hold; half its files are for upstreams."""
    return min(limits.max_connections, max(8, int(open_files // 2) - RESERVED_FILES))
