"""vLLM's HTTP server with random weights: what an endpoint costs beyond the engine in it.

One server per shape, started through the module entry point (the `vllm` command is missing in the
CPU distribution), measured by the load generator of the openai engine.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from suffice.architecture.shape import Shape
from suffice.core.errors import InputError, MeasurementError
from suffice.throughput.engines.machine import Clock
from suffice.throughput.engines.openai_engine import EndpointSession, LoadGenerator
from suffice.throughput.engines.protocol import (
    Ceilings,
    EngineName,
    Environment,
    Lengths,
    Method,
)
from suffice.throughput.engines.vllm_engine import DTYPES, VllmEngine, write_config

_START_TIMEOUT_S = 600.0


class VllmServerEngine:
    """Starts a server per shape and keeps requests in flight against it."""

    name: EngineName = "vllm"
    method: Method = "requests"
    clock: Clock = "wall"

    def __init__(self, engine: VllmEngine, load: LoadGenerator, *, tokenizer: str | None) -> None:
        if not tokenizer:
            raise InputError(
                "server mode sends text: name a tokenizer folder with --tokenizer; any will do "
                "whose vocabulary is no larger than the shape's"
            )
        if engine.clock != "wall":
            raise InputError("server mode measures wall time: leave --clock cpu out")
        self.engine, self.load, self.tokenizer = engine, load, tokenizer

    def environment(self) -> Environment:
        """The engine's environment, with the load generator's version."""
        found = self.engine.environment()
        return Environment(
            engine="vllm", engine_version=found.engine_version, device=found.device,
            driver=found.driver, software=found.software | {"load": self.load.version()},
        )  # fmt: skip

    def ceilings(self) -> Ceilings | None:
        """The device's ceilings, measured before any server runs."""
        return self.engine.ceilings()

    @contextlib.contextmanager
    def open(
        self, shapes: Sequence[Shape], lengths: Lengths, batches: Sequence[int]
    ) -> Iterator[Sequence[EndpointSession]]:
        """Servers for all shapes; leaving the context ends them."""
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="suffice-vllm-")))
            yield [
                self._session(stack, folder / str(index), shape, lengths, max(batches))
                for index, shape in enumerate(shapes)
            ]

    def _session(
        self, stack: contextlib.ExitStack, folder: Path, shape: Shape, lengths: Lengths, batch: int
    ) -> EndpointSession:
        write_config(folder, shape, lengths)
        port = _free_port()
        log = stack.enter_context((folder / "log").open("w+", encoding="utf-8"))
        process = subprocess.Popen(
            self.command(folder, shape, lengths, batch, port), stdout=log,
            stderr=subprocess.STDOUT, env=self.engine.process_environment() | _SERVER_SETTINGS,
        )  # fmt: skip
        stack.callback(_end, process)
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, folder / "log")
        return EndpointSession(
            url=url, model="shape", shape=shape, lengths=lengths, load=self.load,
            seed=self.engine.seed,
        )  # fmt: skip

    def command(
        self, folder: Path, shape: Shape, lengths: Lengths, batch: int, port: int
    ) -> list[str]:
        """The server's command line."""
        engine = self.engine
        command = [
            engine.python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1",
            "--port", str(port), "--model", str(folder), "--served-model-name", "shape",
            "--tokenizer", self.tokenizer, "--load-format", "dummy",
            "--dtype", DTYPES[engine.dtype_name],
            "--max-model-len", str(int(1.1 * (lengths.input_tokens + lengths.output_tokens)) + 64),
            "--max-num-seqs", str(batch), "--seed", str(engine.seed),
            "--max-num-batched-tokens", str(max(engine.max_batched_tokens, batch)),
            "--kv-cache-memory-bytes", str(engine.cache_bytes(shape, lengths, 2 * batch)),
        ]  # fmt: skip
        return command + (["--enforce-eager"] if engine.on_cpu else [])


_SERVER_SETTINGS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    stop_at = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < stop_at:
        if process.poll() is not None:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            last = lines[-1].strip()[:300] if lines else "it printed nothing"
            raise MeasurementError(
                f"the vLLM server ended with exit code {process.returncode}: {last}"
            )
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise MeasurementError(f"the vLLM server was not up after {_START_TIMEOUT_S:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
