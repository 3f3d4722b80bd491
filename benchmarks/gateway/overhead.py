"""What a gateway adds: the same load on the engine itself and through each gateway, in one run.

    python benchmarks/gateway/overhead.py [--out overhead.json] [--rounds 3]
        [--revision NAME=CHECKOUT/src …] [--litellm BIN/litellm] [--optillm BIN/optillm]
        [--only suffice …] [--append]

Every gateway stands in front of the same fake engine (upstream.py) on the same machine; engine,
load and gateway share its cores. `--revision` takes another checkout of this program along. Visits
alternate, so that a disturbance of the machine does not fall on one of them alone; a figure is the
median of all rounds, with its range, and what is added is taken against the engine in the same
round. `--append` adds rounds to those that the file has.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENGINE = "http://127.0.0.1:9100"
LITELLM_CONFIG = """
model_list:
  - model_name: fake
    litellm_params: {model: openai/fake, api_base: "http://127.0.0.1:9100/v1", api_key: none}
litellm_settings: {telemetry: false}
general_settings: {disable_spend_logs: true}
"""


@dataclass(frozen=True)
class Target:
    name: str
    url: str
    model: str
    command: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    most: int = 32  # requests at once; beyond it this server answers nothing more
    source: str | None = None  # where this program lies, if not here


def targets(options: argparse.Namespace) -> list[Target]:
    found = [Target("direct", ENGINE, "fake"), *ours("suffice", 9101, None, options)]
    for number, given in enumerate(options.revision):
        name, _, source = given.partition("=")
        found += ours(f"suffice {name}", 9110 + number, source, options)
    if options.litellm:
        config = Path(options.scratch) / "litellm.yaml"
        config.write_text(LITELLM_CONFIG)
        for workers in (1, 2):
            port = 9101 + workers
            where = ("--port", str(port), "--host", "127.0.0.1", "--num_workers", str(workers))
            command = (options.litellm, "--config", str(config), *where)
            name = f"LiteLLM proxy, {workers} worker{'s' * (workers > 1)}"
            found.append(Target(name, f"http://127.0.0.1:{port}", "fake", command))
    if options.optillm:
        where = ("--port", "9105", "--base-url", f"{ENGINE}/v1", "--approach", "none")
        command = (options.optillm, *where)
        found.append(Target("optillm", "http://127.0.0.1:9105", "fake", command, most=2))
    if options.only:
        found = [t for t in found if t.name == "direct" or any(o in t.name for o in options.only)]
    return found


def ours(name: str, port: int, source: str | None, options: argparse.Namespace) -> list[Target]:
    """This program: one gateway, asked in three ways."""
    ledger = str(Path(options.scratch) / f"ledger-{port}-{os.getpid()}.db")
    serve = (sys.executable, "-m", "suffice", "serve", "--quiet", "--upstream", ENGINE,
             "--ledger", ledger, "--port", str(port))  # fmt: skip
    url, number = f"http://127.0.0.1:{port}", ("--answer-format", "number")
    return [
        Target(f"{name}, passing through", url, "fake", serve, source=source),
        Target(f"{name}, single", url, "suffice/single", fields=number),
        Target(f"{name}, adaptive_consistency (4 samples)", url, "suffice/adaptive_consistency",
               fields=number),
    ]  # fmt: skip


SPIN = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Every core is kept busy by a process that gives way to anyone at once.

    A virtual core that fell asleep takes tenths of a millisecond to wake, which is the machine's.
    """
    spinning = [
        subprocess.Popen(["taskset", "-c", str(core), sys.executable, "-c", SPIN])
        for core in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(
    command: tuple[str, ...], url: str, log: Path, source: str | None = None
) -> Iterator[int]:
    environment = (
        os.environ
        | ({"PYTHONPATH": source} if source else {})
        | {
            "LITELLM_LOG": "ERROR",
            "OPENAI_API_KEY": "none",
            "OPTILLM_API_KEY": "",
            "NO_PROXY": "*",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
    )
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        wait_until_ready(url, process)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def log_of(scratch: Path, name: str) -> Path:
    return scratch / f"{name.split(',', maxsplit=1)[0].replace(' ', '-')}.log"


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    body = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "x"}]}).encode()
    headers = {"content-type": "application/json", "authorization": "Bearer none"}
    for _ in range(180):
        with contextlib.suppress(OSError):
            ask = urllib.request.Request(f"{url}/v1/chat/completions", body, headers)
            with urllib.request.urlopen(ask, timeout=10):
                return
        if process.poll() is not None:
            raise SystemExit(f"{url} ended with {process.returncode}")
        time.sleep(0.5)
    raise SystemExit(f"{url} did not come up")


def load(target: Target, seconds: float, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "load.py"), target.url, "--model", target.model,
               "--seconds", str(seconds), "--warm-s", "0.5", "--timeout-s", "10"]  # fmt: skip
    command += target.fields
    for name, value in pairwise([*arguments, ""]):
        if name == "--concurrency":
            command += [name, str(min(int(value), target.most))]
        elif name.startswith("--"):
            command += [name] if value.startswith("--") or not value else [name, value]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--litellm")
    parser.add_argument("--optillm")
    parser.add_argument("--out", type=Path, default=Path("overhead.json"))
    parser.add_argument("--revision", nargs="*", default=[], help="NAME=CHECKOUT/src")
    parser.add_argument("--append", action="store_true", help="add rounds to those in the file")
    parser.add_argument("--scratch", default="/tmp")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--awake", action="store_true", help="keep the cores from sleeping")
    parser.add_argument("--cases", nargs="*", help="alone, at, saturated …: by how they begin")
    options = parser.parse_args()
    found = targets(options)
    scratch = Path(options.scratch)
    engine = (sys.executable, str(HERE / "upstream.py"), "--port", "9100")
    cases = {
        "alone": ("--concurrency", "1"),
        "at 100 requests/s": ("--rate", "100"),
        "saturated": ("--concurrency", "32"),
        "saturated, streaming": ("--concurrency", "16", "--stream", "--max-tokens", "200"),
    }
    if options.cases:
        cases = {
            name: each for name, each in cases.items() if name.startswith(tuple(options.cases))
        }
    rows: dict[str, dict[str, list[Any]]] = {t.name: {case: [] for case in cases} for t in found}
    if options.append and options.out.exists():
        for name, by_case in json.loads(options.out.read_text())["visits"].items():
            for case, visits in by_case.items():
                if name in rows and case in rows[name]:
                    rows[name][case] = visits
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(engine, ENGINE, scratch / "engine.log"))
        pids = {
            t.name: stack.enter_context(
                running(t.command, t.url, log_of(scratch, t.name), t.source)
            )
            for t in found if t.command
        }  # fmt: skip
        print("pids", pids, flush=True)
        if options.awake:
            stack.enter_context(awake())
        for _ in range(options.rounds):
            for case, arguments in cases.items():
                for target in found:
                    rows[target.name][case].append(load(target, options.seconds, *arguments))
                    write(options, cases, rows)
                    print(case, target.name, json.dumps(rows[target.name][case][-1]), flush=True)
    print(table(rows))


def write(options: argparse.Namespace, cases: Any, rows: Any) -> None:
    """Write every visit so far."""
    machine = {
        "cores": os.cpu_count(), "platform": platform.platform(),
        "python": platform.python_version(), "load_average": os.getloadavg(),
    }  # fmt: skip
    result = {
        "machine": machine, "seconds_per_visit": options.seconds,
        "cases": {case: " ".join(arguments) for case, arguments in cases.items()},
        "visits": rows,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


Rows = dict[str, dict[str, list[Any]]]


def added_ms(rows: Rows, name: str, case: str, quantile: str) -> list[float]:
    """What a target adds to the engine itself, round by round; nothing where it failed."""
    return [
        there["latency_ms"][quantile] - here["latency_ms"][quantile]
        for there, here in zip(rows[name][case], rows["direct"][case], strict=True)
        if there["latency_ms"]
    ]


def shown(values: list[float], digits: int) -> str:
    """The median, and the range in parentheses."""
    if not values:
        return "–"
    low, middle, high = min(values), statistics.median(values), max(values)
    if high == 0 or len(values) == 1:
        return f"{middle:,.{digits}f}" if high else "–"
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def table(rows: Rows) -> str:
    """A row for each target; the median of all rounds, with its range."""
    columns: dict[str, Callable[[str], str]] = {
        "added alone, p50 ms": lambda name: shown(added_ms(rows, name, "alone", "p50"), 2),
        "added at 100/s, p50 ms": lambda name: shown(
            added_ms(rows, name, "at 100 requests/s", "p50"), 2
        ),
        "added at 100/s, p99 ms": lambda name: shown(
            added_ms(rows, name, "at 100 requests/s", "p99"), 1
        ),
        "requests/s": lambda name: shown(
            [visit["requests_per_s"] for visit in rows[name]["saturated"]], 0
        ),
        "streamed tokens/s": lambda name: shown(
            [visit["tokens_per_s"] for visit in rows[name]["saturated, streaming"]], 0
        ),
    }
    cases = rows["direct"]
    kept = {
        column: cell
        for column, cell in columns.items()
        if any(case in cases for case in CASE_OF[column])
    }
    lines = [
        "| " + " | ".join(["in front of the engine", *kept]) + " |",
        "|---|" + "--:|" * len(kept),
    ]
    lines += [
        "| " + " | ".join([name, *(cell(name) for cell in kept.values())]) + " |" for name in rows
    ]
    return "\n".join(lines)


CASE_OF = {
    "added alone, p50 ms": ("alone",),
    "added at 100/s, p50 ms": ("at 100 requests/s",),
    "added at 100/s, p99 ms": ("at 100 requests/s",),
    "requests/s": ("saturated",),
    "streamed tokens/s": ("saturated, streaming",),
}


if __name__ == "__main__":
    main()
