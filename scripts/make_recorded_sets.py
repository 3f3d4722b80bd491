"""Make the recorded sets that this repository ships from the folders of their sources.

    python scripts/make_recorded_sets.py FOLDER

FOLDER holds `zeroeval_matrix` (derived from WildEval/ZeroEval @ 8c1485ed: questions.jsonl.gz and
greedy_outputs.csv.gz), `routellm_gsm8k` and `routellm_mmlu` (lm-sys/RouteLLM @ 0b64fdaf), all
Apache-2.0. Written are `data/recorded` (matrices of verdicts, for benchmarks) and the extract of
three models that `suffice demo` plays. Texts of answers are left out; a token is four characters.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "data" / "recorded"
DEMO = ROOT / "src" / "suffice" / "demo" / "data" / "zeroeval.jsonl.gz"
SMALL = ("Meta-Llama-3.1-8B-Instruct", "gemma-2-9b-it")
LARGE = "Llama-3.1-405B-Instruct"
# The source asked one provider for GSM8K and another for CRUX, both in FP8.
LARGE_AT = {"gsm": "Llama-3.1-405B-Instruct-Turbo", "crux": "Llama-3.1-405B-Inst-fp8"}
CHARACTERS_PER_TOKEN = 4.0


def main(folder: Path) -> None:
    """Write all of them."""
    zeroeval(folder / "zeroeval_matrix")
    demo(folder / "zeroeval_matrix")
    routellm_gsm8k(folder / "routellm_gsm8k")
    routellm_mmlu(folder / "routellm_mmlu")


def zeroeval(source: Path) -> None:
    """The matrix as it is."""
    out = RECORDED / "zeroeval_matrix"
    out.mkdir(parents=True, exist_ok=True)
    for name in ("questions.jsonl.gz", "greedy_outputs.csv.gz", "LICENSE"):
        shutil.copyfile(source / name, out / name)


def demo(source: Path) -> None:
    """Questions of GSM8K and CRUX that the three models all have, a line each."""
    rows: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    with gzip.open(source / "greedy_outputs.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            large = LARGE_AT.get(row["task"])
            if large is not None and row["model"] in (*SMALL, large):
                model = LARGE if row["model"] == large else row["model"]
                rows[row["task"], row["item"]][model] = {
                    "answer": None if row["no_answer"] == "1" else row["answer"],
                    "correct": row["correct"] == "1",
                    "tokens": max(1, round(float(row["output_chars"]) / CHARACTERS_PER_TOKEN)),
                }
    lines = []
    with gzip.open(source / "questions.jsonl.gz", "rt", encoding="utf-8") as stream:
        for line in stream:
            asked = json.loads(line)
            answers = rows.get((asked["task"], str(asked["item"])), {})
            if len(answers) == len(SMALL) + 1:
                for said in answers.values():
                    if said["correct"]:  # in the reference's spelling: 'a' and a are one answer
                        said["answer"] = str(asked["gold"])
                lines.append(
                    {"task": asked["task"], "question": asked["question"], "gold": asked["gold"],
                     "answers": {model: answers[model] for model in (*SMALL, LARGE)}}
                )  # fmt: skip
    DEMO.parent.mkdir(parents=True, exist_ok=True)
    _gzip(DEMO, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def routellm_gsm8k(source: Path) -> None:
    """Prompt and both verdicts; the models' texts stay away."""
    out = RECORDED / "routellm_gsm8k"
    out.mkdir(parents=True, exist_ok=True)
    with (source / "gsm8k_responses.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept = [name for name in rows[0] if not name.endswith("_response")]
    with (out / "gsm8k_verdicts.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, kept, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    shutil.copyfile(source / "LICENSE", out / "LICENSE")


def routellm_mmlu(source: Path) -> None:
    """Verdicts only, a file a subject, as they are."""
    out = RECORDED / "routellm_mmlu"
    out.mkdir(parents=True, exist_ok=True)
    for file in (*sorted(source.glob("mmlu_*.csv")), source / "LICENSE"):
        shutil.copyfile(file, out / file.name)


def _gzip(path: Path, text: str) -> None:
    """Without a time stamp: the same input gives the same file."""
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9, mtime=0) as stream:
        stream.write(text.encode())
    path.write_bytes(raw.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
