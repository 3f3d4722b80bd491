"""State of one gateway process as `/metrics`, the dashboard and other processes see it."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from suffice.gateway.calls import Call
from suffice.gateway.observe.counters import Counters
from suffice.ledger.writer import Health

# Live calls that one process shows to others.
SHOWN_LIVE = 50
# The workers of one gateway share this name; whoever starts several sets it before.
GROUP = "SUFFICE_GROUP"


class ProcessState:
    """Name, counters, calls in flight and ledger health of one process."""

    def __init__(self, counters: Counters, health: Health, *, show_answers: bool) -> None:
        """`show_answers`: what samples answered may be shown."""
        self.name = f"{socket.gethostname()}:{os.getpid()}:{int(time.time())}"
        self.group = os.environ.get(GROUP) or self.name
        self.began_s = time.time()
        self.live: dict[str, Call] = {}
        self._counters = counters
        self._health = health
        self._show_answers = show_answers

    def shown(self) -> dict[str, Any]:
        """This process as a JSON value."""
        health = self._health
        return {
            "name": self.name,
            "group": self.group,
            "began_s": self.began_s,
            "counters": self._counters.shown(),
            "running": len(self.live),
            "live": [self._call(call) for call in list(self.live.values())[-SHOWN_LIVE:]],
            "ledger": {
                "acknowledged": health.acknowledged,
                "dropped": health.dropped,
                "away": health.away_since_s is not None,
            },
        }

    def _call(self, call: Call) -> dict[str, Any]:
        samples = call.samples
        return {
            "id": call.id,
            "began_s": call.began_unix_s,
            "arm": call.arm,
            "model": call.target or call.model,
            "stream": call.stream,
            "pieces": call.pieces,
            "samples": [] if samples is None else samples.shown(answers=self._show_answers),
        }
