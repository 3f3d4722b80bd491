"""Any running OpenAI-compatible endpoint, measured by GuideLLM (Apache-2.0), which makes the load.

The endpoint serves what it serves: the shape that is given only says which model that is. A
repeat keeps `batch` requests in flight until four times as many are done. TTFT and end-to-end
time are means over successful requests, with the wait for each other; TPOT is (e2e - TTFT) /
(n - 1), which is not GuideLLM's quantity of that name (it counts the first token).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from suffice.architecture.shape import Shape
from suffice.core.errors import InputError, MeasurementError, MissingExtra
from suffice.core.urls import checked_url
from suffice.throughput.engines.machine import Clock
from suffice.throughput.engines.protocol import (
    Ceilings,
    EngineName,
    Environment,
    Lengths,
    Method,
    Timing,
)

REQUESTS_PER_STREAM = 4
_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What a load generator saw, means over successful requests."""

    ttft_s: float
    e2e_s: float
    output_tokens: float
    successful: int
    failed: int


class LoadGenerator(Protocol):
    """Anything that can keep requests in flight against an endpoint."""

    def version(self) -> str:
        """Name and version, for the record."""

    def run(self, *, url: str, model: str, lengths: Lengths, streams: int, seed: int) -> LoadResult:
        """Keep `streams` requests in flight until enough are done."""


class GuideLlm:
    """GuideLLM's command line; its JSON report is read."""

    def __init__(self, *, tokenizer: str | None, command: str | None = None) -> None:
        found = command or os.environ.get("SUFFICE_GUIDELLM") or _beside_python("guidellm")
        if found is None:
            raise MissingExtra.of("guidellm", "guidellm", "the openai engine")
        self.command, self.tokenizer = found, tokenizer

    def version(self) -> str:
        """GuideLLM's version."""
        answer = subprocess.run(
            [self.command, "--version"], capture_output=True, text=True, check=False, timeout=120
        )
        words = answer.stdout.split()
        return f"guidellm {words[-1]}" if words else "guidellm"

    def run(self, *, url: str, model: str, lengths: Lengths, streams: int, seed: int) -> LoadResult:
        """One benchmark at fixed concurrency."""
        with tempfile.TemporaryDirectory(prefix="suffice-guidellm-") as folder:
            report = Path(folder) / "report.json"
            arguments = self.arguments(
                url=url, model=model, lengths=lengths, streams=streams, seed=seed, report=report
            )
            try:
                done = subprocess.run(
                    [self.command, *arguments], capture_output=True, text=True, check=False,
                    timeout=_TIMEOUT_S,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise MeasurementError(
                    f"GuideLLM was not done after {_TIMEOUT_S:.0f} s at {url}"
                ) from None
            if done.returncode or not report.exists():
                raise MeasurementError(f"GuideLLM failed at {url}: {_last_line(done.stderr)}")
            return read_report(json.loads(report.read_text(encoding="utf-8")))

    def arguments(
        self, *, url: str, model: str, lengths: Lengths, streams: int, seed: int, report: Path
    ) -> list[str]:
        """Arguments of `guidellm run`, as 0.8 takes them."""
        tokenizer = self.tokenizer or model
        return [
            "run",
            "--backend",
            f"kind=openai_http,target={url},model={model},request_format=/v1/completions",
            "--profile", f"kind=concurrent,streams={streams}",
            "--constraint", f"kind=max_requests,count={streams * REQUESTS_PER_STREAM}",
            "--tokenizer", f"kind=huggingface_auto,model={tokenizer}",
            "--data", f"kind=synthetic_text,prompt_tokens={lengths.input_tokens},"
            f"output_tokens={lengths.output_tokens}",
            "--seed", f"kind=static,value={seed}",
            "--output", f"kind=json,path={report}",
            "--disable-console",
        ]  # fmt: skip


def read_report(report: Mapping[str, Any]) -> LoadResult:
    """Means of a GuideLLM report with one benchmark; raises MeasurementError if none succeeded."""
    try:
        metrics = report["benchmarks"][0]["metrics"]
        totals = metrics["request_totals"]
        successful = int(totals["successful"])
        failed = int(totals["errored"]) + int(totals["incomplete"])
        if not successful:
            raise MeasurementError(f"no request succeeded, {failed} failed")
        return LoadResult(
            ttft_s=float(metrics["time_to_first_token_ms"]["successful"]["mean"]) / 1e3,
            e2e_s=float(metrics["request_latency"]["successful"]["mean"]),
            output_tokens=float(metrics["output_token_count"]["successful"]["mean"]),
            successful=successful,
            failed=failed,
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise MeasurementError(
            f"GuideLLM's report has an unknown layout ({error!r}); 0.8 is known to work"
        ) from None


class OpenAIEngine:
    """Measures an endpoint that is already running."""

    name: EngineName = "openai"
    method: Method = "requests"
    clock: Clock = "wall"

    def __init__(
        self, *, url: str | None, model: str | None, load: LoadGenerator, seed: int = 0
    ) -> None:
        if not url or not model:
            raise InputError(
                "the openai engine needs --url http://HOST:PORT and --model NAME as the endpoint "
                "calls it"
            )
        self.url = (
            checked_url(url, what="endpoint", instead="none is sent")
            .rstrip("/")
            .removesuffix("/v1")
        )
        self.model = model
        self.load, self.seed = load, seed

    def environment(self) -> Environment:
        """The endpoint's address stands for its device, which it does not tell."""
        return Environment(
            engine="openai", engine_version=self.load.version(), device=self.url, driver=None,
            software={"model": self.model},
        )  # fmt: skip

    def ceilings(self) -> Ceilings | None:
        """None: the endpoint's device is out of reach."""
        return None

    def open(
        self, shapes: Sequence[Shape], lengths: Lengths, batches: Sequence[int]
    ) -> contextlib.AbstractContextManager[Sequence[EndpointSession]]:
        """The one shape that the endpoint serves."""
        if len(shapes) != 1:
            raise InputError(
                f"one endpoint serves one model, got {len(shapes)} shapes: measure them one by one"
            )
        session = EndpointSession(
            url=self.url, model=self.model, shape=shapes[0], lengths=lengths, load=self.load,
            seed=self.seed,
        )  # fmt: skip
        return contextlib.nullcontext([session])


class EndpointSession:
    """One model at one address."""

    def __init__(
        self, *, url: str, model: str, shape: Shape, lengths: Lengths, load: LoadGenerator,
        seed: int,
    ) -> None:  # fmt: skip
        self.url, self.model, self.shape, self.lengths = url, model, shape, lengths
        self.load, self.seed = load, seed

    def prepare(self, batch: int) -> None:
        """Nothing: GuideLLM asks the endpoint for its health, and an endpoint runs warm."""

    def measure(self, batch: int, *, prefill: bool) -> Timing:
        """One repeat, with prompts of its own: a prefix cache must not answer them."""
        self.seed += 1
        seen = self.load.run(
            url=self.url, model=self.model, lengths=self.lengths, streams=batch, seed=self.seed
        )
        wanted = self.lengths.output_tokens
        if abs(seen.output_tokens - wanted) > 0.02 * wanted:
            raise MeasurementError(
                f"requests ended after {seen.output_tokens:.1f} of {wanted} tokens: the endpoint "
                "ignores ignore_eos or limits the length"
            )
        if seen.failed:
            raise MeasurementError(
                f"{seen.failed} of {seen.failed + seen.successful} requests failed at batch {batch}"
            )
        decode_s = (seen.e2e_s - seen.ttft_s) * (wanted - 1) / (seen.output_tokens - 1)
        return Timing(ttft_s=seen.ttft_s if prefill else None, decode_s=decode_s, method="requests")

    def describe(self, batch: int) -> dict[str, str]:
        """How the load was made."""
        return {"load": f"{batch} streams, {batch * REQUESTS_PER_STREAM} requests"}


def _beside_python(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"
