"""Write small sample sets: a table, verdicts, and logs by lm-evaluation-harness and inspect_ai.

    python scripts/make_eval_logs.py OUT      (needs lm_eval and inspect_ai; nothing is downloaded)

Two scripted models answer made-up sums: `small` knows nine of ten, `large` all but a few. Where a
tool is not installed its logs are left out. `examples/own_samples` was written by this script.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

QUESTIONS = 100
KNOWN = {"small": 0.88, "large": 0.98}  # share of questions that a model answers rightly


def question(number: int) -> tuple[str, int]:
    """A sum and its value."""
    a, b = 10 + number * 7 % 89, 3 + number * 11 % 47
    return f"What is {a} + {b}?", a + b


def is_known(model: str, asked: str) -> bool:
    """Whether a model knows the answer: the same in every run."""
    draw = int.from_bytes(hashlib.sha256(f"{model} {asked}".encode()).digest()[:4], "big") / 2**32
    return draw < KNOWN[model]


def reply(model: str, asked: str) -> str:
    """What a model says to a question."""
    a, b = (int(word.rstrip("?")) for word in asked.split()[2::2])
    value = a + b if is_known(model, asked) else a + b + 1
    return f"{a} + {b} makes {value}. The answer is {value}."


def lm_eval_logs(out: Path) -> None:
    """`--log_samples` output: a generated task, and one of multiple choice."""
    from lm_eval import simple_evaluate  # noqa: PLC0415
    from lm_eval.api.model import LM  # noqa: PLC0415
    from lm_eval.loggers import EvaluationTracker  # noqa: PLC0415
    from lm_eval.tasks import TaskManager  # noqa: PLC0415

    class Scripted(LM):
        """A model of which the replies are known."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> list[str]:
            """The reply to each question."""
            return [reply(self.name, request.args[0].strip()) for request in requests]

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            """The right continuation is likelier where the model knows it."""
            found = []
            for request in requests:
                asked = request.args[0].splitlines()[0]
                a, b = (int(word.rstrip("?")) for word in asked.split()[2::2])
                right = request.args[1].strip() == str(a + b)
                found.append((-1.0 if right == is_known(self.name, asked) else -2.0, False))
            return found

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:
            """Not asked for."""
            raise NotImplementedError

    with tempfile.TemporaryDirectory() as folder:
        tasks = Path(folder)
        rows = [question(number) for number in range(QUESTIONS)]
        (tasks / "sums.jsonl").write_text(
            "".join(
                json.dumps({"asked": asked, "value": value, "near": [str(value + 1), str(value)]})
                + "\n"
                for asked, value in rows
            )
        )
        data = {"test": str(tasks / "sums.jsonl")}
        common = {
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": data},
            "test_split": "test",
        }
        generated = common | {
            "task": "sums",
            "output_type": "generate_until",
            "doc_to_text": "{{asked}}",
            "doc_to_target": "{{value}}",
            "generation_kwargs": {"until": ["\n"]},
            "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
            "filter_list": [
                {
                    "name": "strict",
                    "filter": [
                        {"function": "regex", "regex_pattern": "The answer is (\\d+)"},
                        {"function": "take_first"},
                    ],
                },
            ],
        }
        choices = common | {
            "task": "nearby",
            "output_type": "multiple_choice",
            "doc_to_text": "{{asked}}\nAnswer:",
            "doc_to_choice": "{{near}}",
            "doc_to_target": 1,
            "metric_list": [{"metric": "acc", "aggregation": "mean"}],
        }
        for each in (generated, choices):
            (tasks / f"{each['task']}.yaml").write_text(json.dumps(each))  # JSON is YAML
        for model in KNOWN:
            tracker = EvaluationTracker(output_path=str(out))
            found = simple_evaluate(
                model=Scripted(model),
                model_args=f"model=made-up/{model}",
                tasks=["sums", "nearby"],
                task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
                log_samples=True,
                bootstrap_iters=0,
                evaluation_tracker=tracker,
            )
            samples = found.pop("samples")
            tracker.save_results_aggregated(results=found, samples=samples)
            for task in samples:
                tracker.save_results_samples(task_name=task, samples=samples[task])


def inspect_logs(out: Path) -> None:
    """`.eval` logs of one task by two models, two epochs each."""
    from inspect_ai import Task, eval  # noqa: PLC0415
    from inspect_ai.dataset import MemoryDataset, Sample  # noqa: PLC0415
    from inspect_ai.model import ModelOutput, ModelUsage, get_model  # noqa: PLC0415
    from inspect_ai.scorer import match  # noqa: PLC0415
    from inspect_ai.solver import generate  # noqa: PLC0415

    rows = [question(number) for number in range(QUESTIONS)]
    for model in KNOWN:

        def said(asked: Any, *_: Any, model: str = model) -> Any:
            text = reply(model, asked[-1].text)
            found = ModelOutput.from_content(model=f"mockllm/{model}", content=text)
            count = len(text.split())
            found.usage = ModelUsage(input_tokens=7, output_tokens=count, total_tokens=7 + count)
            return found

        dataset = MemoryDataset(
            [
                Sample(id=f"sum-{number}", input=asked, target=str(value))
                for number, (asked, value) in enumerate(rows)
            ],
            name="sums",
        )
        eval(
            Task(dataset=dataset, solver=generate(), scorer=match(numeric=True), name="sums"),
            model=get_model(f"mockllm/{model}", custom_outputs=said),
            log_dir=str(out),
            display="none",
        )


def tables(out: Path) -> None:
    """A table of samples, one row each, and a matrix of verdicts, one row a question."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "answers.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["question", "model", "response", "target", "input_tokens", "output_tokens"]
        )
        for number in range(QUESTIONS):
            asked, value = question(number)
            for model in KNOWN:
                said = reply(model, asked)
                writer.writerow([asked, model, said, value, 7, len(said.split())])
    with (out / "verdicts.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", *KNOWN])
        for number in range(QUESTIONS):
            asked = question(number)[0]
            writer.writerow([asked, *(int(is_known(model, asked)) for model in KNOWN)])


MAKERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "lm_eval": ("lm_eval", lm_eval_logs),
    "inspect": ("inspect_ai", inspect_logs),
}


def main() -> int:
    """Make what the installed tools can make."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=[*MAKERS])
    told = parser.parse_args()
    made = 0
    if told.only is None:
        tables(told.out)
    for name, (package, make) in MAKERS.items():
        if told.only in (None, name) and find_spec(package) is not None:
            make(told.out / name)
            made += 1
    if not made:
        print("neither lm_eval nor inspect_ai is installed: pip install lm_eval inspect_ai")
    return 0 if made else 1


if __name__ == "__main__":
    sys.exit(main())
