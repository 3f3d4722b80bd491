"""The ordinary commands that quickstart runs, and the settings file that it writes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from suffice.core.errors import SufficeError
from suffice.core.prices import Prices
from suffice.quickstart.config import QuickstartConfig


class StepFailed(SufficeError):
    """A command of quickstart ended with an error; it has said why."""


def shown(words: Sequence[str]) -> str:
    """A command as one types it."""
    return shlex.join(["suffice", *words])


def run_step(words: Sequence[str]) -> None:
    """Run `suffice WORDS` with its output where ours goes. Raises StepFailed."""
    command = [sys.executable, "-m", "suffice", *words]
    sys.stdout.flush()
    code = subprocess.run(command, check=False, stdout=_output()).returncode
    if code != 0:
        raise StepFailed(
            f"`{shown(words)}` ended with code {code}: see above; what it has written is kept, and "
            "quickstart goes on from there when it is called again"
        )


def _output() -> int | None:
    """Where our output goes, redirected or not; None (inherit) if that is no file."""
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError):  # in memory, in tests
        return None


def record_words(config: QuickstartConfig, models: Sequence[str]) -> list[str]:
    """Answers of every model to every question, into one file."""
    words = ["record", "--dataset", str(config.questions)]
    for upstream in config.upstreams:
        words += ["--upstream", upstream]
    for model in models:
        words += ["--model", model]
    words += ["--samples", str(config.samples), "--top-logprobs", "0"]
    if config.answer_format is not None:
        words += ["--checker", config.answer_format]
    return [*words, "--out", str(config.recording)]


def calibrate_words(config: QuickstartConfig, baseline: str, prices: Prices) -> list[str]:
    """Find the cheapest policy within the accuracy limit, and certify it."""
    words = ["calibrate", str(config.recording), "--baseline", f"single@{baseline}"]
    for model, price in prices.table().items():
        words += ["--price", f"{model}={price}"]
    words += ["--max-drop", f"{config.limit:g}%", "--confidence", f"{100 * config.confidence:g}%"]
    return [*words, "--out", str(config.policy_file), "--report", str(config.report)]


class Written(Protocol):
    """Whoever has written settings."""

    @property
    def settings(self) -> Path:
        """The file."""
        ...


def serve_words(config: Written) -> list[str]:
    """The gateway with what quickstart wrote."""
    return ["serve", "--config", str(config.settings)]


def settings_text(
    config: QuickstartConfig,
    baseline: str,
    prices: Prices,
    *,
    policies: Mapping[str, str] | None = None,
    answer_format: str | None = None,
) -> str:
    """suffice.toml: upstreams, baseline, prices, ledger, and the policy file.

    `policies` (TOML values by name) and `answer_format` stand in the place of the policy file.
    """
    policies = policies or {config.policy_file.stem: _quoted(config.policy_file.name)}
    lines = [
        "# Written by suffice quickstart; `suffice config init` shows every other key.",
        f"port = {config.port}",
        *([] if answer_format is None else [f"answer_format = {_quoted(answer_format)}"]),
        "",
        "[policies]",
        *(f"{name} = {value}" for name, value in policies.items()),
        "",
        "[baseline]  # what is run today: `saved` is measured against it",
        f"model = {_quoted(baseline)}",
        "",
        "[prices]  # USD per million tokens: prompt/completion",
        *(f"{_quoted(model)} = {_quoted(rates)}" for model, rates in prices.table().items()),
        "",
        "[ledger]",
        f"url = {_quoted(str((config.out / 'ledger.db').resolve()))}",
    ]
    for upstream in config.upstreams:
        lines += ["", "[[upstream]]", f"url = {_quoted(upstream)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
