"""A bounded Python: programs of a model, in a process with limits on time, memory and output."""

from __future__ import annotations

import threading

from suffice.tools.code_sandbox import Runner
from suffice.tools.functions import FunctionTools, tool_hints

LIMIT_S = 5.0
MEMORY_BYTES = 512 << 20
MOST_CHARS = 20_000


def server(*, limit_s: float = LIMIT_S) -> PythonServer:
    """The sandbox as a tool server."""
    return PythonServer(limit_s=limit_s)


class PythonServer(FunctionTools):
    """One program at a time; each starts with nothing of the ones before."""

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        runner = Runner(limit_s=limit_s, memory_bytes=MEMORY_BYTES)
        lock = threading.Lock()

        # Programs leave nothing behind, so that the same one twice changes nothing more.
        @tool_hints(read_only=True, idempotent=True, open_world=False)
        def run_python(code: str) -> str:
            """Run a Python program and give what it prints. No network, no files, a few seconds."""
            with lock:
                ran = runner.run(code)
            said = ran.output[:MOST_CHARS]
            if ran.late:
                raise TimeoutError(
                    f"the program took longer than {limit_s:g} s; it printed: {said}"
                )
            if not ran.passed:
                raise RuntimeError(f"the program failed: {said or 'it printed nothing'}")
            return said or "the program printed nothing"

        super().__init__([run_python], name="python")
        self._runner = runner

    async def aclose(self) -> None:
        """End the process."""
        self._runner.close()
