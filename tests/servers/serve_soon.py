"""`suffice serve` with shorter waits of its own: that they end is tested, not how long they are.

    python tests/servers/serve_soon.py serve --upstream …

Further ones come by name in the environment: SERVE_SOON='{"suffice.gateway.server.END_S": 5}'.
Workers read this file too, as it is their main module.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import uvicorn.server

SOON: dict[str, float] = {
    "suffice.gateway.connection.http_limits.LINGER_S": 0.3,
    "suffice.gateway.server.RESTART_S": 0.05,
    "suffice.gateway.observe.shared_totals.PUBLISH_S": 0.2,
}


class Hasty:
    """What uvicorn takes for asyncio: it looks for its end every 5 ms instead of every 100."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    @staticmethod
    async def sleep(delay_s: float) -> None:
        """Sleep a twentieth of that."""
        await asyncio.sleep(delay_s / 20)


def hasten() -> None:
    """Let servers of this process end at once."""
    vars(uvicorn.server)["asyncio"] = Hasty()


def command(*arguments: object) -> list[str]:
    """The command line for such a process."""
    return [sys.executable, str(Path(__file__)), *map(str, arguments)]


def environment(**limits: float) -> dict[str, str]:
    """The environment for one with further limits, as `module__NAME` of `suffice.gateway`."""
    named = {f"suffice.gateway.{name.replace('__', '.')}": value for name, value in limits.items()}
    return {**os.environ, "SERVE_SOON": json.dumps(named)}


if __name__ in ("__main__", "__mp_main__"):
    hasten()
    for path, value in {**SOON, **json.loads(os.environ.get("SERVE_SOON", "{}"))}.items():
        module, _, name = path.rpartition(".")
        assert isinstance(getattr(import_module(module), name), (int, float)), path
        setattr(import_module(module), name, value)

if __name__ == "__main__":
    from suffice.cli.main import main

    main()
