"""What a gateway adds: the same load on the engine itself and through each gateway, in one run.

    python benchmarks/gateway/overhead.py --out results/gateway/overhead.json \
        [--litellm BIN/litellm] [--optillm BIN/optillm] [--only suffice …]

Every gateway stands in front of the same fake engine (upstream.py) on the same machine; engine,
load and gateway share its cores. Each figure is the best of `--rounds` visits, which alternate, so
that a disturbance of the machine does not fall on one of them alone.
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
from collections.abc import Iterator
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


def targets(options: argparse.Namespace) -> list[Target]:
    ledger = str(Path(options.scratch) / "ledger.db")
    serve = (sys.executable, "-m", "suffice", "serve", "--quiet", "--upstream", ENGINE,
             "--ledger", ledger, "--port", "9101")  # fmt: skip
    ours = "http://127.0.0.1:9101"
    number = ("--answer-format", "number")
    found = [
        Target("direct", ENGINE, "fake"),
        Target("suffice, passing through", ours, "fake", serve),
        Target("suffice, single", ours, "suffice/single", fields=number),
        Target("suffice, adaptive_consistency (4 samples)", ours,
               "suffice/adaptive_consistency", fields=number),
    ]  # fmt: skip
    if options.litellm:
        config = Path(options.scratch) / "litellm.yaml"
        config.write_text(LITELLM_CONFIG)
        where = ("--port", "9102", "--host", "127.0.0.1")
        command = (options.litellm, "--config", str(config), *where)
        found.append(Target("LiteLLM proxy", "http://127.0.0.1:9102", "fake", command))
    if options.optillm:
        command = (
            options.optillm,
            "--port",
            "9103",
            "--base-url",
            f"{ENGINE}/v1",
            "--approach",
            "none",
        )
        found.append(Target("optillm", "http://127.0.0.1:9103", "fake", command, most=2))
    if options.only:
        found = [t for t in found if t.name == "direct" or any(o in t.name for o in options.only)]
    return found


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
def running(command: tuple[str, ...], url: str, log: Path) -> Iterator[int]:
    environment = os.environ | {
        "OPENAI_API_KEY": "none",
        "OPTILLM_API_KEY": "",
        "NO_PROXY": "*",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
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
    return scratch / f"{name.split(maxsplit=1)[0]}.log"


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
    parser.add_argument("--scratch", default="/tmp")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
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
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(engine, ENGINE, scratch / "engine.log"))
        pids = {
            t.name: stack.enter_context(running(t.command, t.url, log_of(scratch, t.name)))
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
    best = write(options, cases, rows)
    print(paired(rows) if options.cases else table(best))


def write(options: argparse.Namespace, cases: Any, rows: Any) -> dict[str, Any]:
    """Write what has been measured so far; gives the best visits."""
    best = {
        name: {case: best_of(case, visits) for case, visits in by_case.items() if visits}
        for name, by_case in rows.items()
    }
    machine = {
        "cores": os.cpu_count(), "platform": platform.platform(),
        "python": platform.python_version(), "load_average": os.getloadavg(),
    }  # fmt: skip
    result = {
        "machine": machine, "seconds_per_visit": options.seconds, "rounds": options.rounds,
        "cases": {case: " ".join(arguments) for case, arguments in cases.items()},
        "best": best, "visits": rows,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    return best


def best_of(case: str, visits: list[dict[str, Any]]) -> dict[str, Any]:
    if case.startswith("saturated"):
        return max(visits, key=lambda visit: visit["requests_per_s"])
    return min(visits, key=lambda visit: visit["latency_ms"].get("p50", 1e9))


def paired(rows: dict[str, dict[str, list[Any]]]) -> str:
    """What each target adds to the engine itself, round by round."""
    lines = []
    for name, by_case in rows.items():
        for case, visits in by_case.items():
            for quantile in ("p50", "p99"):
                added = sorted(
                    there["latency_ms"][quantile] - here["latency_ms"][quantile]
                    for there, here in zip(visits, rows["direct"][case], strict=True)
                )
                if name != "direct":
                    shown = " ".join(f"{each:.2f}" for each in added)
                    middle = statistics.median(added)
                    lines.append(f"{name}, {case}: added {quantile} {middle:.2f} ms ({shown})")
    return "\n".join(lines)


def table(best: dict[str, dict[str, Any]]) -> str:
    direct = best["direct"]
    lines = [
        "| in front of the engine | added alone, p50 ms | added at 100/s, p50 / p99 ms "
        "| requests/s | streamed tokens/s |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in best.items():

        def added(case: str, quantile: str, row: dict[str, Any] = row) -> str:
            there = row[case]["latency_ms"].get(quantile)
            here = direct[case]["latency_ms"][quantile]
            return "–" if there is None else f"{there - here:.2f}"

        lines.append(
            f"| {name} | {added('alone', 'p50')} | {added('at 100 requests/s', 'p50')} / "
            f"{added('at 100 requests/s', 'p99')} | {row['saturated']['requests_per_s']:,.0f} | "
            f"{row['saturated, streaming']['tokens_per_s']:,.0f} |"
        )  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
