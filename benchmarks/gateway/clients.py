"""HTTP clients for the upstream side, against the fake engine: requests per second of one core.

python benchmarks/gateway/upstream.py & python benchmarks/gateway/clients.py --out FILE
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import httpx2
import uvloop

from suffice.backends.http_client import HttpClient

URL = "http://127.0.0.1:9100"
PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "x"}]}).encode()
HEADERS = {"content-type": "application/json"}
Ask = Callable[[], Awaitable[bytes]]


async def rate(ask: Ask, at_once: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and CPU microseconds of each."""
    until_s, count = time.perf_counter() + seconds, 0

    async def repeat() -> None:
        nonlocal count
        while time.perf_counter() < until_s:
            assert await ask()
            count += 1

    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(repeat() for _ in range(at_once)))
    used_s = time.process_time() - began_cpu_s
    return round(count / (time.perf_counter() - began_s)), round(used_s / count * 1e6, 1)


async def measure(seconds: float) -> dict[str, dict[str, tuple[float, float]]]:
    found: dict[str, dict[str, tuple[float, float]]] = {}

    async def both(name: str, ask: Ask) -> None:
        await rate(ask, 4, 0.3)
        found[name] = {f"{n} at once": await rate(ask, n, seconds) for n in (1, 32)}
        print(name, found[name], flush=True)

    ours = HttpClient(URL, name="engine", connect_s=5.0)

    async def ask_ours() -> bytes:
        response = await ours.send(PATH, BODY, first_byte_s=10.0)
        data = await response.read(10.0)
        response.close()
        return data

    await both("ours, on httptools", ask_ours)
    await ours.aclose()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask_aiohttp() -> bytes:
            async with session.post(URL + PATH, data=BODY, headers=HEADERS) as response:
                return await response.read()

        await both(f"aiohttp {aiohttp.__version__}", ask_aiohttp)
    async with httpx2.AsyncClient(trust_env=False) as client:

        async def ask_httpx() -> bytes:
            return (await client.post(URL + PATH, content=BODY, headers=HEADERS)).content

        await both(f"httpx2 {httpx2.__version__}", ask_httpx)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    found = uvloop.run(measure(options.seconds))
    options.out.write_text(json.dumps({"requests_per_s, cpu_us_each": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
