"""A live certificate end to end: two workers, 2,000 requests, two kills, books and labels checked.

    python benchmarks/gateway/live_end_to_end.py nano --out results/live/end-to-end-nano.json
    python benchmarks/gateway/live_end_to_end.py recorded --out results/live/end-to-end-recorded.json
    SUFFICE_VLLM_PYTHON=.venv-vllm/bin/python python benchmarks/gateway/live_end_to_end.py vllm \
        --out results/live/end-to-end-vllm.json

nano      suffice-nano behind another `suffice serve`: real weights, really run, too small for real
          questions. Safe: it always thinks; cheap: it chooses by its first token
recorded  recorded GSM8K answers of Llama-3.1-8B, gemma-2-9b and Llama-3.1-405B, played by an engine.
          Safe: the 405B; cheap: the two small ones agree, else the 405B
vllm      two sizes of our own (suffice-nano, data/models/efforts), each behind a vLLM on this CPU.
          Safe: the larger; cheap: the smaller. Tokens are those of vLLM's own /metrics. No real
          model that fits two CPU cores answers well enough to be worth a certificate

Clients ask the safe model by its name and send a question each. At a third and at two thirds every
process of the gateway is killed with SIGKILL and started again on the same ledger. In the end every
answer is judged by labels that nobody has seen, and the tokens that the engines counted are held
against requests and shadow runs in the ledger: stretch by stretch, as a kill loses what was with
the gateway, and nothing else may be missing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suffice.backends.nano.backend import shipped_folder
from suffice.core.completions import Completion, Usage
from suffice.core.files import write_json
from suffice.demo.engine import RecordedEngine
from suffice.demo.recorded import ANSWER_FORMATS, LARGE_MODEL, SMALL_MODELS, recorded_questions
from suffice.demo.run import PRICES
from suffice.evals.grading import check_of
from suffice.evals.statistics.binomial import clopper_pearson
from suffice.ledger.store import Store
from suffice.recipes.modes.items import ONE_DIGIT
from suffice.tasks.puzzles import Mixture

ROOT = Path(__file__).parents[2]
CLIENTS = 6
START_S = 900.0  # on a machine that does much else
VLLM_START_S = 1800.0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is asked, of whom, and how the engines count."""

    upstreams: tuple[str, ...]
    options: tuple[str, ...]
    model: str  # the safe one
    questions: tuple[tuple[str, str], ...]  # prompt and right answer
    answer_format: str
    counted: Callable[[], Counter[str]]  # tokens by kind and model, since the engines began


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def asked(url: str, body: Any = None, timeout_s: float = 60.0) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=timeout_s) as answer:
        return json.loads(answer.read())


def started(argv: list[str], base: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from suffice.cli.main import main; main()", "serve", *argv]
    process = subprocess.Popen(command, start_new_session=True)
    until = time.monotonic() + START_S
    while True:
        try:
            asked(f"{base}/v1/models", timeout_s=5)
            return process
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"error: `suffice serve {' '.join(argv)}` did not start") from None
            time.sleep(0.2)


def tokens_in(url: str) -> Counter[str]:
    """Tokens of requests and of shadow runs that a ledger holds."""
    store = Store(url)
    try:
        found: Counter[str] = Counter()
        for table in ("requests", "audits"):
            rows = store.database.execute(
                "SELECT COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0) "
                f"FROM {table}"
            )
            found["prompt"] += int(rows[0][0])
            found["completion"] += int(rows[0][1])
        return found
    finally:
        store.close()


@contextmanager
def nano(folder: Path, count: int, seed: int) -> Iterator[Setting]:
    port, ledger = free_port(), str(folder / "engine.db")
    base = f"http://127.0.0.1:{port}"
    engine = started(
        ["--embedded", "nano", "--port", str(port), "--ledger", ledger, "--quiet"], base
    )
    mixture = Mixture(tasks=("chain",), difficulties=(1, 2, 3))
    cells = mixture.distinct(120, seed=seed, split="held_out").values()
    problems = [(each.prompt, each.answer) for cell in cells for each in cell]
    chooser = random.Random(seed)
    safe = "suffice-nano-think"
    try:
        yield Setting(
            upstreams=(f"{base}/v1",),
            options=("--safe", f"single@{safe}", "--cheap", "single@suffice-nano",
                     "--target", "5%", "--answer-format", ONE_DIGIT),
            model=safe,
            questions=tuple(chooser.choice(problems) for _ in range(count)),
            answer_format=ONE_DIGIT,
            counted=lambda: _settled(ledger),
        )  # fmt: skip
    finally:
        os.killpg(engine.pid, signal.SIGTERM)
        engine.wait()


def _settled(ledger: str) -> Counter[str]:
    time.sleep(1.0)  # the engine's own ledger writes in batches
    return tokens_in(ledger)


SIZES = {"nano-large": shipped_folder(), "nano-small": ROOT / "data" / "models" / "efforts"}
COUNTERS = {"vllm:prompt_tokens_total": "prompt", "vllm:generation_tokens_total": "completion"}


@contextmanager
def vllm(folder: Path, count: int, seed: int) -> Iterator[Setting]:
    python = os.environ.get("SUFFICE_VLLM_PYTHON")
    if python is None:
        raise SystemExit("error: SUFFICE_VLLM_PYTHON must name an interpreter with vLLM "
                         "(scripts/test-vllm makes one)")  # fmt: skip
    chooser = random.Random(seed)
    cells = Mixture(tasks=("chain",), difficulties=(1, 2, 3, 4)).distinct(
        120, seed=seed, split="held_out"
    )
    problems = [(each.prompt, each.answer) for cell in cells.values() for each in cell]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(vllm_of(python, model, name, folder / f"{name}.log"))
            for name, model in SIZES.items()
        ]
        urls = [url for url, _ in servers]
        for url, process in servers:  # both start at once: that takes minutes on a busy machine
            wait_until_up(url, process, folder)
        prices = itertools.chain.from_iterable(
            ("--price", f"{name}={(size := parameters(model) / 1e6)}/{size}")
            for name, model in SIZES.items()
        )
        settings = folder / "priority.toml"
        settings.write_text("[live]\nshadow_priority = 1000\n")
        yield Setting(
            upstreams=tuple(f"{url}/v1" for url in urls),
            options=("--config", str(settings), "--safe", "single@nano-large", "--cheap", "single@nano-small",
                     "--target", "5%", "--answer-format", "number", *prices),
            model="nano-large",
            questions=tuple(chooser.choice(problems) for _ in range(count)),
            answer_format="number",
            counted=lambda: counted_by(urls),
        )  # fmt: skip


def parameters(model: Path) -> int:
    """Weights in a folder's safetensors file, from its header."""
    with (model / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__")


def wait_until_up(url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + VLLM_START_S
    while True:
        try:
            asked(f"{url}/v1/models", timeout_s=5)
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                said = "".join(log.read_text()[-1500:] for log in folder.glob("*.log"))
                raise SystemExit(f"error: vLLM did not start: {said}") from None
            time.sleep(0.5)


@contextmanager
def vllm_of(
    python: str, model: Path, name: str, log: Path
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port",
        str(port), "--model", str(model), "--served-model-name", name, "--enforce-eager",
        "--dtype", "float32", "--max-model-len", "128", "--scheduling-policy", "priority",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
                   "OMP_NUM_THREADS": "1"}  # fmt: skip
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            yield url, process
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # our own session: the engine is its child
            process.wait(120)


def counted_by(urls: Sequence[str]) -> Counter[str]:
    time.sleep(1.0)  # its counters follow its steps
    found: Counter[str] = Counter(prompt=0, completion=0)
    for url in urls:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10.0) as answer:
            for line in answer.read().decode().splitlines():
                name = line.partition("{")[0]
                if name in COUNTERS:
                    found[COUNTERS[name]] += round(float(line.rpartition(" ")[2]))
    return found


@contextmanager
def recorded(folder: Path, count: int, seed: int) -> Iterator[Setting]:
    del folder
    questions = recorded_questions("gsm")
    chooser = random.Random(seed)
    with ExitStack() as stack:
        models = (*SMALL_MODELS, LARGE_MODEL)
        engines = [stack.enter_context(RecordedEngine(model, questions)) for model in models]

        def counted() -> Counter[str]:
            return Counter(
                prompt=sum(engine.counted.prompt_tokens for engine in engines),
                completion=sum(engine.counted.completion_tokens for engine in engines),
            )

        prices = itertools.chain.from_iterable(
            ("--price", f"{model}={price.prompt_usd}/{price.completion_usd}")
            for model, price in PRICES.by_model
        )
        cheap = f"agreement:models={'+'.join(SMALL_MODELS)} > single@{LARGE_MODEL}"
        yield Setting(
            upstreams=tuple(engine.url for engine in engines),
            options=("--safe", f"single@{LARGE_MODEL}", "--cheap", cheap, "--target", "8%",
                     "--answer-format", "number", *prices),
            model=LARGE_MODEL,
            questions=tuple(
                (each.prompt, each.reference)
                for each in (chooser.choice(questions) for _ in range(count))
            ),
            answer_format=ANSWER_FORMATS["gsm"],
            counted=counted,
        )  # fmt: skip


@dataclass
class Answers:
    """By question: what a client got, from whom and under which standing; None while it has not."""

    of: list[tuple[str, str, str] | None]
    failed: int = 0
    resumed: threading.Event = field(default_factory=threading.Event)  # cleared while it is down
    lock: threading.Lock = field(default_factory=threading.Lock)


def ask_all(base: str, setting: Setting, answers: Answers, numbers: Iterator[int]) -> None:
    """Ask what is left of `numbers`; whoever is refused asks again."""
    for number in numbers:
        prompt = setting.questions[number][0]
        body = {"model": setting.model, "messages": [{"role": "user", "content": prompt}],
                "temperature": 0}  # fmt: skip
        while True:
            answers.resumed.wait()
            try:
                found = asked(f"{base}/v1/chat/completions", body)
                break
            except (OSError, ValueError):
                with answers.lock:
                    answers.failed += 1
                time.sleep(0.05)
        text = found["choices"][0]["message"]["content"] or ""
        standing = (found["suffice"]["certificate"] or {}).get("status", "")
        answers.of[number] = (text, found["model"], standing)


def run(setting: Setting, folder: Path, kills: int) -> dict[str, Any]:
    ledger, port = str(folder / "gateway.db"), free_port()
    base = f"http://127.0.0.1:{port}"
    argv = ["--port", str(port), "--ledger", ledger, "--workers", "2", *setting.options]
    for url in setting.upstreams:
        argv += ["--upstream", url]
    gateway = started(argv, base)
    before = setting.counted()
    count = len(setting.questions)
    answers = Answers([None] * count)
    answers.resumed.set()
    balances: list[dict[str, int]] = []

    def balance() -> None:
        """What the engines counted since the last balance, less what was booked since."""
        now, booked = setting.counted(), tokens_in(ledger)
        apart = {name: now[name] - before[name] - booked[name] for name in booked}
        known = {name: sum(each[name] for each in balances) for name in booked}
        balances.append({name: apart[name] - known[name] for name in booked})

    events: list[dict[str, Any]] = []
    numbers = iter(range(count))
    guard = threading.Lock()

    def taken() -> Iterator[int]:
        while True:
            with guard:
                number = next(numbers, None)
            if number is None:
                return
            yield number

    began = time.monotonic()
    threads = [
        threading.Thread(target=ask_all, args=(base, setting, answers, taken()))
        for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for kill in range(kills):
        while sum(each is not None for each in answers.of) < count * (kill + 1) / (kills + 1):
            time.sleep(0.05)
        state = asked(f"{base}/admin/state")["live_certificates"][0]
        os.killpg(gateway.pid, signal.SIGKILL)
        answers.resumed.clear()
        gateway.wait()
        time.sleep(1.0)
        balance()
        gateway = started(argv, base)
        answers.resumed.set()
        again = asked(f"{base}/admin/state")["live_certificates"][0]
        events.append({"killed_at": sum(each is not None for each in answers.of),
                       "shadowed_before": state["shadowed"], "shadowed_after": again["shadowed"],
                       "answering_before": state["answering"],
                       "answering_after": again["answering"]})  # fmt: skip
        print(json.dumps(events[-1]), flush=True)
    for thread in threads:
        thread.join()
    elapsed_s = time.monotonic() - began
    time.sleep(3.0)  # shadow runs end, rows are written
    state = asked(f"{base}/admin/state")
    os.killpg(gateway.pid, signal.SIGTERM)
    gateway.wait()
    balance()
    engine = setting.counted()
    engine.subtract(before)
    return _judged(setting, answers, state, events) | {
        "elapsed_s": elapsed_s, "refused_and_asked_again": answers.failed,
        "books": _books(ledger, engine) | {"not_booked_by_stretch": balances},
    }  # fmt: skip


def _books(ledger: str, engine: Counter[str]) -> dict[str, Any]:
    booked = tokens_in(ledger)
    store = Store(ledger)
    rows = store.database.execute(
        "SELECT (SELECT COUNT(*) FROM shadows), (SELECT COUNT(DISTINCT request_id) FROM shadows), "
        "(SELECT COUNT(*) FROM requests), (SELECT COUNT(*) FROM audits), "
        "(SELECT COALESCE(SUM(prompt_tokens + completion_tokens), 0) FROM audits)"
    )
    store.close()
    return {
        "engine": dict(engine), "booked": dict(booked),
        "not_booked": {name: engine[name] - booked[name] for name in engine},
        **dict(zip(("shadowed", "distinct", "requests", "runs", "shadow_tokens"), rows[0],
                   strict=True)),
    }  # fmt: skip


def _judged(
    setting: Setting, answers: Answers, state: dict[str, Any], events: list[dict[str, Any]]
) -> dict[str, Any]:
    by_standing: dict[str, list[int]] = {}
    for (_, reference), found in zip(setting.questions, answers.of, strict=True):
        assert found is not None
        text, _, standing = found
        completion = Completion(text=text, finish_reason="stop", usage=Usage())
        right = bool(check_of(setting.answer_format, reference)(completion).correct)
        by_standing.setdefault(standing, []).append(right)
    one = state["live_certificates"][0]
    rates = {}
    for standing, right in by_standing.items():
        rate = clopper_pearson(sum(right), len(right), 0.95)
        rates[standing] = {"answers": len(right), "right": rate.estimate,
                           "interval": [rate.low, rate.high]}  # fmt: skip
    return {
        "requests": len(setting.questions), "kills": events, "safe": one["safe"],
        "cheap": [each["policy"] for each in one["candidates"]], "target": one["target"],
        "certified_after": [e["n"] for e in one["events"] if e["happened"] == "promoted"],
        "events": [event["said"] for event in one["events"]], "shadowed": one["shadowed"],
        "differ": [each["differ"] for each in one["candidates"]],
        "answers": rates, "saved": state["total"]["saved"],
        "compared_cost": state["total"].get("compared_cost_usd"),
        "baseline_cost": state["total"].get("baseline_cost_usd"),
        "by_model": dict(Counter(found[1] for found in answers.of if found)),
    }  # fmt: skip


ENGINES = {"nano": nano, "recorded": recorded, "vllm": vllm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("engine", choices=tuple(ENGINES))
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    setting_of = ENGINES[given.engine]
    with (
        tempfile.TemporaryDirectory() as name,
        setting_of(Path(name), given.requests, given.seed) as setting,
    ):
        found = run(setting, Path(name), given.kills)
    print(json.dumps(found, indent=1))
    if given.out is not None:
        write_json(given.out, found)


if __name__ == "__main__":
    main()
