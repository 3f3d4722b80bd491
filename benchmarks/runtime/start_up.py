"""How long each verb takes to start: CPU time of `suffice VERB --help` and of cheap real runs.

    python benchmarks/runtime/start_up.py [--against OTHER/TREE] [--rounds 5] [--out results/start_up.json]
    python benchmarks/runtime/start_up.py --modules --against OTHER/TREE --out results/start_up_modules.json

With `--against` the same commands run from another checkout in turn (this one, that one, this one,
…), so that a loaded machine slows both. CPU time, user and system, of the whole process; the least
of the rounds, because what else the machine does only adds to it. `--modules` counts the modules that
each command imports instead: the same on any machine, however busy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import typer

from suffice.cli.main import app

HERE = Path(__file__).resolve().parents[2]
# Real runs that end in a moment: what they do costs little beside the start.
RUNS = (
    "policies", "laws", "hardware", "shapes Llama-3.2-1B", "predict --law bian2025-80m-297m",
    "size --model meta-llama/Llama-3.1-8B --hardware h100", "config show none.toml",
    "doctor", "ledger stats --ledger none.sqlite", "traces show none.parquet",
    "frontier none.parquet", "calibrate none.parquet", "serve --policy none",
)  # fmt: skip


def commands() -> list[str]:
    """Every verb's help, then the runs."""
    verbs = typer.main.get_command(app).list_commands(None)
    return ["--help", *(f"{verb} --help" for verb in sorted(verbs)), *RUNS]


def run(tree: Path, command: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """One process that runs `command` from `tree`, under `options` of the interpreter."""
    verb = not command.startswith("import ")
    code = ["-m", "suffice", *command.split()] if verb else ["-c", command]
    environment = os.environ | {
        "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *options, *code], env=environment, cwd=tree, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def modules(tree: Path, command: str) -> int:
    """Modules that `command` imports."""
    lines = run(tree, command, "-X", "importtime").stderr.splitlines()
    return sum(each.startswith(b"import time:") for each in lines) - 1  # the heading


def cpu_s(tree: Path, command: str) -> float:
    """CPU seconds, user and system, of one process that runs `command` from `tree`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(tree, command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(trees: list[Path], rounds: int) -> dict[str, list[list[float]]]:
    """Command -> tree -> CPU milliseconds of each round, the trees in turn."""
    found = {}
    for command in ["import sys", "import suffice", *commands()]:
        times: list[list[float]] = [[] for _ in trees]
        for _ in range(rounds):
            for tree, kept in zip(trees, times, strict=True):
                kept.append(round(1e3 * cpu_s(tree, command), 1))
        found[command] = times
        print(line(command, times), flush=True)
    return found


def line(command: str, times: list[list[float]]) -> str:
    """A row: the least of each tree, and the ratio of the first to the other."""
    least = [min(of_tree) for of_tree in times]
    ratio = f"  {least[0] / least[1]:5.2f}" if len(least) > 1 else ""
    return f"{command:56s}" + "".join(f"{ms:9.0f} ms" for ms in least) + ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modules", action="store_true", help="count modules, once each")
    parser.add_argument("--out", type=Path, help="JSON file of all rounds")
    asked = parser.parse_args()
    trees = [HERE] + ([asked.against.resolve()] if asked.against else [])
    names = ["this", "other"][: len(trees)]
    if asked.modules:
        counts = {each: [modules(tree, each) for tree in trees] for each in commands()}
        for each, of_trees in counts.items():
            print(f"{each:56s}" + "".join(f"{count:9d}" for count in of_trees))
        told: dict[str, object] = {"unit": "modules", "trees": names, "counts": counts}
    else:
        told = {"unit": "CPU ms", "trees": names, "rounds": measured(trees, asked.rounds)}
    if asked.out:
        asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
