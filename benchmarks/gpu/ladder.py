"""Train the planned rungs on one GPU, as many as fit before a deadline.

    PYTHONPATH=src python3 benchmarks/gpu/ladder.py --plan results/ladder/gpu-plan.json \
        --carry .carry --out $OUT --deadline-s 500 --workers 6

Every finished run is appended to OUT/runs.jsonl at once. Runs that the committed store
(results/ladder/runs.jsonl) or OUT already holds are skipped, so that a second call goes on.
First a probe trains one rung a few steps in each mode (compiled with graphs, graphs, plain) in a
process of its own and takes the first that works and agrees with the plain one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from suffice.recipes.ladder.events import Events
from suffice.recipes.ladder.plan import Plan
from suffice.recipes.ladder.run import pooled, run_ladder
from suffice.training.pretrain.flops import training_flops
from suffice.training.pretrain.pool import PoolConfig, limit_threads
from suffice.training.pretrain.run_store import RunStore
from suffice.training.pretrain.trainer import Machine, load_training_data, train_rung

MODES = {
    "compiled+graph": {"compiled": True, "cuda_graph": True},
    "graph": {"compiled": False, "cuda_graph": True},
    "plain": {"compiled": False, "cuda_graph": False},
}


def unpack(carry: Path, folder: Path) -> None:
    """Shards from their compressed parts; the loader checks them against their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("data.json", "tokenizer.json"):
        (folder / name).write_bytes((carry / name).read_bytes())
    parts = sorted(carry.glob("*.bin.*.xz"))
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        contents = list(pool.map(_unpacked, parts))
    whole: dict[str, bytes] = {}
    for part, content in zip(parts, contents, strict=True):
        name = part.name.rsplit(".", 2)[0]
        whole[name] = whole.get(name, b"") + content
    for name, content in whole.items():
        (folder / name).write_bytes(content)


def _unpacked(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes())


def probe(arguments: argparse.Namespace) -> None:
    """In a process of its own: a few steps of the middle rung, as one line of JSON."""
    limit_threads(2)
    recipe, rungs = read_plan(arguments.plan)
    rung = sorted(rungs, key=lambda r: r.tokens)[len(rungs) // 2]
    steps = 60
    batch_tokens = recipe.batch_sequences(rung.tokens) * recipe.sequence_length
    # The batch of the real rung, for few steps.
    short = replace(
        recipe, aimed_steps=steps, evaluation_sequences=256,
        min_batch_sequences=recipe.batch_sequences(rung.tokens),
    )  # fmt: skip
    rung = replace(rung, tokens=steps * batch_tokens)
    data = load_training_data(arguments.data, arguments.device)
    machine = Machine(
        device=arguments.device, micro_batch_sequences=arguments.micro_batch,
        **MODES[arguments.probe],
    )  # fmt: skip
    times: list[tuple[int, float]] = []
    began = time.perf_counter()
    record = train_rung(
        rung, short, data, machine, tick=lambda t: times.append((t.step, time.perf_counter()))
    )
    (first, start), (last, end) = times[0], times[-1]
    rate = (last - first) * batch_tokens / max(end - start, 1e-9)
    peak = torch.cuda.max_memory_allocated() / 2**30 if arguments.device != "cpu" else 0.0
    flops_per_token = training_flops(rung, short) / short.trained_tokens(rung.tokens)
    print(
        json.dumps({
            "mode": arguments.probe, "loss": record.loss, "train_loss": record.train_loss,
            "tokens_per_s": rate, "flops_per_s": rate * flops_per_token,
            "start_s": start - began, "gib": peak, "n": rung.parameters,
        })
    )  # fmt: skip


def choose_mode(arguments: argparse.Namespace) -> dict[str, Any]:
    """The first mode whose loss agrees with the plain one's; a given mode and speed are taken."""
    if arguments.mode and arguments.flops_per_s:
        return {"mode": arguments.mode, "flops_per_s": arguments.flops_per_s}
    found: dict[str, dict[str, Any]] = {}
    wanted = [arguments.mode] if arguments.mode else list(MODES)
    running = {
        mode: subprocess.Popen(
            [sys.executable, __file__, "--probe", mode, "--plan", str(arguments.plan),
             "--data", str(arguments.data), "--device", arguments.device,
             "--micro-batch", str(arguments.micro_batch)],
            stdout=subprocess.PIPE, text=True,
        )
        for mode in {*wanted, "plain"}
    }  # fmt: skip
    end = time.monotonic() + arguments.probe_s
    for mode, process in running.items():
        try:
            output, _ = process.communicate(timeout=max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            print(f"probe {mode}: no answer", flush=True)
            continue
        if process.returncode == 0:
            found[mode] = json.loads(output.splitlines()[-1])
            print(f"probe {found[mode]}", flush=True)
        else:
            print(f"probe {mode}: exit code {process.returncode}", flush=True)
    for mode in wanted:
        agrees = mode in found and (
            "plain" not in found or abs(found[mode]["loss"] - found["plain"]["loss"]) < 0.1
        )
        if agrees:
            return found[mode]
    sys.exit("no mode works on this machine")


def read_plan(path: Path):
    plan = Plan.load(path)
    return plan.recipe, plan.rungs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("/tmp/ladder-data"))
    parser.add_argument("--carry", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--store", type=Path, default=Path("results/ladder/runs.jsonl"))
    parser.add_argument("--deadline-s", type=float, default=500.0)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--micro-batch", type=int, default=128)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--mode", choices=list(MODES))
    parser.add_argument("--flops-per-s", type=float, help="with --mode: skips the probe")
    parser.add_argument("--probe-s", type=float, default=100.0)
    parser.add_argument("--probe", choices=list(MODES))
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    if arguments.probe:
        probe(arguments)
        return
    began = time.monotonic()
    if arguments.carry:
        unpack(arguments.carry, arguments.data)
        print(f"unpacked in {time.monotonic() - began:.1f} s", flush=True)
    run(arguments, began)


def run(arguments: argparse.Namespace, began: float) -> None:
    plan = Plan.load(arguments.plan)
    mode = choose_mode(arguments)
    machine = Machine(
        device=arguments.device, micro_batch_sequences=arguments.micro_batch,
        work=Path("/tmp/ladder-work"), checkpoint_every_s=1e9, **MODES[str(mode["mode"])],
    )  # fmt: skip
    config = PoolConfig(
        workers=arguments.workers,
        devices=(arguments.device,),
        threads_per_worker=2,
        deadline_s=arguments.deadline_s - (time.monotonic() - began),
        flops_per_s=0.8 * mode["flops_per_s"] / arguments.workers,
        start_s=20.0,
    )
    done = []

    def on_record(record) -> None:
        done.append(record)
        loss = "none" if record.loss is None else f"{record.loss:.4f}"
        print(
            f"{time.monotonic() - began:6.1f} s {len(done):3d} {record.status} {record.purpose} "
            f"N {record.non_embedding_parameters} D {record.tokens} x {record.x:.3f} "
            f"r {record.r:.2f} kv {record.kv_share:.2f} L {record.num_hidden_layers} "
            f"seed {record.seed} lr {record.learning_rate_factor:g} loss {loss} "
            f"{record.tokens_per_s / 1e6:.2f} Mtok/s {record.wall_s:.1f} s {record.error or ''}",
            flush=True,
        )

    events = Events(say=lambda text: print(text, flush=True), record=on_record)
    outcome = run_ladder(
        plan, arguments.data, RunStore(arguments.out / "runs.jsonl"),
        pooled(arguments.data, machine, config, events=events),
        events=events, also_done=RunStore(arguments.store).read(),
    )  # fmt: skip
    seconds = time.monotonic() - began
    flops = sum(r.model_flops for r in outcome.made if r.status == "finished")
    summary = {
        "mode": mode, "recipe": asdict(outcome.recipe), "finished": len(outcome.made),
        "left": len(outcome.left), "seconds": seconds, "model_flops": flops,
        "flops_per_s": flops / seconds, "workers": config.workers,
        "plan_sha256": hashlib.sha256(arguments.plan.read_bytes()).hexdigest(),
    }  # fmt: skip
    with (arguments.out / "calls.jsonl").open("a") as stream:
        stream.write(json.dumps(summary) + "\n")
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
