"""One worker that compares expressions, seen from the process that owns it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence

# Loading SymPy takes seconds; that is not the answer's fault.
START_S = 60.0
MEMORY_BYTES = 2**30
COMMAND = (sys.executable, "-P", "-m", "suffice.evals.math_worker")


class WorkerMissing(Exception):
    """The extra `math` is not installed."""


class WorkerLost(Exception):
    """The worker died or was too slow; it has been killed."""


class MathProcess:
    """A worker's process and the socket to it. It has been started, but may still be loading."""

    def __init__(
        self,
        *,
        limit_s: float,
        memory_bytes: int = MEMORY_BYTES,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """`limit_s` is for one comparison; beyond twice as much the worker ends itself."""
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [*command, f"{limit_s:g}", str(memory_bytes)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                close_fds=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.socket = ours

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def await_start(self, limit_s: float = START_S) -> None:
        """Wait until it has loaded. Raises WorkerMissing or WorkerLost."""
        self.check_start(self._line(limit_s))

    def check_start(self, line: bytes) -> None:
        """What its first line says. Raises WorkerMissing or WorkerLost."""
        if line != b"ready":
            self.kill()
            raise WorkerMissing if line == b"missing" else WorkerLost

    def compare(self, a: str, b: str, limit_s: float) -> bool:
        """Whether two expressions are equal. Raises WorkerLost."""
        self.socket.settimeout(limit_s)
        try:
            self.socket.sendall(question(a, b))
        except OSError:
            self.kill()
            raise WorkerLost from None
        return self._line(limit_s) == b"1"

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self.socket.close()

    def _line(self, limit_s: float) -> bytes:
        self.socket.settimeout(limit_s)
        try:
            said = self.socket.recv(64)
        except OSError:
            said = b""
        if not said:
            self.kill()
            raise WorkerLost
        return said.strip()


def question(a: str, b: str) -> bytes:
    """Two texts as a worker reads them."""
    return json.dumps([a, b]).encode() + b"\n"
