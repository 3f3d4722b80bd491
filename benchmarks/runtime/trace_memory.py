"""How much memory it takes to read and show a large trace file, and to replay it.

    python benchmarks/runtime/trace_memory.py [--rows 200000] [--characters 1000] [--out FOLDER]

Writes a file of made-up samples, then reads it in fresh processes: the peak of each is the
operating system's (ru_maxrss). Bytes a row are those of the arrays that a set keeps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from suffice.evals.traces.columns import TraceInformation
from suffice.evals.traces.files import write_traces
from suffice.evals.traces.trace_set import Question, Trace, messages_json

SAMPLES = 40  # of each question under each of two models

# Linux's own peak of this program: ru_maxrss begins at that of the process that started it.
PEAK = """
import json, sys
from pathlib import Path
def peak_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
"""
READ = (
    PEAK
    + """
import pyarrow.parquet
from suffice.evals.traces.files import read_traces
before = peak_mb()
found = read_traces(Path(sys.argv[1]))
arrays = [getattr(found, name) for name in found.__slots__]
arrays += [found.logprobs.offsets, found.confidences.offsets]
kept = sum(array.nbytes for array in arrays if hasattr(array, "nbytes"))
told = {"before_mb": before, "peak_mb": peak_mb(), "bytes_per_row": kept / len(found)}
print(json.dumps(told))
"""
)
SHOW = (
    PEAK
    + """
import contextlib, io
from suffice.cli.main import main
sys.argv = ["suffice", "traces", "show", sys.argv[1]]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print(json.dumps({"peak_mb": peak_mb()}))
"""
)


def rows(count: int, characters: int) -> Iterator[Trace]:
    """Made-up samples of two models."""
    for number in range(count):
        question, sample = divmod(number // 2, SAMPLES)
        yield Trace(
            question=Question(
                dataset="made up",
                name=str(question),
                messages_json=messages_json(f"Question {question}: " + "word " * 40),
                reference=str(question % 97),
                answer_format="number",
            ),
            model=("small", "large")[number % 2],
            sample=sample,
            text=f"{number} " + "x" * characters if characters else "",
            prompt_tokens=60,
            completion_tokens=100 + number % 50,
            answer=str(question % 97),
            correct=number % 5 > 0,
        )


def measured(code: str, path: Path) -> dict[str, float]:
    """What a fresh process says of itself."""
    said = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure with and without texts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--characters", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = told.out or Path(folder)
        for characters in (told.characters, 0):
            path = place / f"rows-{told.rows}-{characters}.parquet"
            write_traces(path, rows(told.rows, characters), TraceInformation())
            read, show = measured(READ, path), measured(SHOW, path)
            print(
                f"{told.rows} rows of {characters} characters: read {read['peak_mb']:.0f} MB "
                f"(before {read['before_mb']:.0f}), {read['bytes_per_row']:.0f} bytes a row kept, "
                f"show {show['peak_mb']:.0f} MB"
            )


if __name__ == "__main__":
    main()
