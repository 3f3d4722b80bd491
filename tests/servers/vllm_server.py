"""A vLLM server on a free loopback port, started and ended by a test module."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

START_TIMEOUT_S = 240.0


@contextmanager
def vllm_server(
    model: str, name: str, options: Sequence[str], log: Path, *, at: str | None = None
) -> Iterator[str]:
    """Base URL of vLLM serving the folder `model` as `name`; `at`, if one is running there.

    Skips the test without SUFFICE_VLLM_PYTHON, an interpreter that has vLLM.
    """
    if at:
        yield at.rstrip("/")
        return
    python = os.environ.get("SUFFICE_VLLM_PYTHON")
    if not python:
        pytest.skip("scripts/test-vllm sets SUFFICE_VLLM_PYTHON")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1",
        "--port", str(port), "--model", model, "--served-model-name", name, "--enforce-eager",
        *options,
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            _wait_until_up(f"http://127.0.0.1:{port}", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # our own session: the engine is its child
            process.wait(30)


def _wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if httpx2.get(f"{url}/health").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        assert process.poll() is None, f"vLLM ended: {log.read_text()[-2000:]}"
        assert time.monotonic() < until, f"vLLM did not start: {log.read_text()[-2000:]}"
        time.sleep(0.5)
