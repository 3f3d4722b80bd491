"""Published sample sets as traces: `suffice traces import NAME PATH --out FILE`.

Each importer reads a folder (or file) as its publisher laid it out. Token counts that a set lacks
are estimated from the text at four characters per token, and its description says so.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suffice.core.completions import Completion, Usage
from suffice.core.errors import InputError, MissingExtra, UnknownName
from suffice.core.files import read_json
from suffice.evals.extract import canonical_number, number
from suffice.evals.traces.columns import TraceInformation
from suffice.evals.traces.trace_set import Question, Trace, messages_json

CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """How to read one published set."""

    read: Callable[[Path], Iterator[Trace]]
    summary: str
    information: TraceInformation


def importer(name: str) -> Importer:
    """The importer of a set; raises UnknownName."""
    if name not in IMPORTERS:
        raise UnknownName.of("trace set", name, IMPORTERS, f"(known: {', '.join(IMPORTERS)})")
    return IMPORTERS[name]


def _tokens(characters: int) -> int:
    return max(1, round(characters / CHARACTERS_PER_TOKEN))


def _zeroeval(path: Path) -> Iterator[Trace]:
    """One greedy answer per model and question; texts were not kept."""
    asked = {}
    for row in _jsonl(path / "questions.jsonl.gz"):
        asked[row["task"], str(row["item"])] = Question(
            dataset=f"zeroeval {row['task']}",
            name=str(row["item"]),
            messages_json=messages_json(row["question"]),
            reference=str(row["gold"]),
            answer_format="number" if row["task"] == "gsm" else "text",
        )
    for row in _csv(path / "greedy_outputs.csv.gz"):
        question = asked.get((row["task"], row["item"]))
        if question is None:
            raise InputError(f"{path}: answer to {row['item']!r}, which is not among the questions")
        found = comparable(row["answer"]) if row["no_answer"] == "0" else None
        yield Trace(
            question=question,
            model=row["model"],
            sample=0,
            prompt_tokens=_tokens(len(question.prompt)),
            completion_tokens=_tokens(int(row["output_chars"])),
            answer=found,
            correct=row["correct"] == "1",
        )


def comparable(answer: str) -> str | None:
    """One spelling per answer, by the rule that the matrix was scored with.

    Lower case, no commas and final dot, numbers by value.
    """
    plain = answer.strip().lower().replace(",", "").removesuffix(".")
    try:
        value = float(plain)
    except ValueError:
        return plain or None
    return canonical_number(plain) or repr(value)


def _routellm(path: Path) -> Iterator[Trace]:
    """Two models' answers to each prompt (GSM8K: one file with texts; MMLU: one file a subject)."""
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{str(path)!r} holds no CSV file")
    for file in files:
        subject = file.stem.removeprefix("mmlu_")
        is_mmlu = file.stem.startswith("mmlu_")
        for number_, row in enumerate(_csv(file)):
            models = [name for name in row if name != "prompt" and not name.endswith("_response")]
            question = Question(
                dataset="routellm mmlu" if is_mmlu else "routellm gsm8k",
                name=f"{subject}-{number_}" if is_mmlu else str(number_),
                messages_json=messages_json(row["prompt"]),
                answer_format="choice" if is_mmlu else "number",
                category=subject if is_mmlu else None,
            )
            for model in models:
                text = row.get(f"{model}_response") or ""
                yield Trace(
                    question=question,
                    model=model,
                    sample=0,
                    text=text,
                    prompt_tokens=_tokens(len(row["prompt"])),
                    completion_tokens=_tokens(len(text)) if text else None,
                    answer=number(_said(text)) if text else None,
                    correct=row[model].strip().lower() == "true",
                )


def _game24(path: Path) -> Iterator[Trace]:
    """100 samples of each of 100 puzzles, with (cot) and without (standard) reasoning."""
    puzzles = [row["Puzzles"] for row in _csv(path / "24.csv")]
    for mode in ("cot", "standard"):
        file = path / f"gpt-4_0.7_naive_{mode}_sample_100_start900_end1000.json"
        spent_before = 0
        for row in read_json(file, what="game of 24 samples"):
            puzzle = puzzles[int(row["idx"])]
            question = Question(
                dataset="game24",
                name=str(row["idx"]),
                messages_json=messages_json(f"Use numbers and + - * / to obtain 24. {puzzle}"),
                answer_format=r"regex:(?i)answer:\s*(.*)",
            )
            right = [bool(info["r"]) for info in row["infos"]] if "infos" in row else row["accs"]
            used = row["usage_so_far"]["completion_tokens"]
            # The log counts tokens over all samples so far: each sample gets its share by length.
            texts = row["ys"]
            per_character = (used - spent_before) / max(1, sum(map(len, texts)))
            spent_before = used
            for sample, (text, correct) in enumerate(zip(texts, right, strict=True)):
                yield Trace(
                    question=question,
                    model="gpt-4",
                    mode="think" if mode == "cot" else "answer",
                    sample=sample,
                    text=text,
                    completion_tokens=max(1, round(len(text) * per_character)),
                    answer=_last_line(text),
                    correct=bool(correct),
                    score=float(correct),
                )


def _gsm8k_solutions(path: Path) -> Iterator[Trace]:
    """One solution of each of four GPT-3 variants."""
    file = path / "example_model_solutions.jsonl" if path.is_dir() else path
    for at, row in enumerate(_jsonl(file)):
        gold = row["ground_truth"].rpartition("A:")[2].strip()
        question = Question(
            dataset="gsm8k",
            name=str(at),
            messages_json=messages_json(row["question"]),
            reference=canonical_number(gold) or gold,
            answer_format="number",
        )
        for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            text = row[model]["solution"]
            yield Trace(
                question=question,
                model=model,
                sample=0,
                text=text,
                prompt_tokens=_tokens(len(row["question"])),
                completion_tokens=_tokens(len(text)),
                answer=number(_said(text.rpartition("A:")[2])),
                correct=bool(row[model]["is_correct"]),
            )


def _reflexion_mbpp(path: Path) -> Iterator[Trace]:
    """One program for each of 397 problems: at once, and after up to four reflections."""
    for mode, pattern in (("answer", "*_simple_*.jsonl"), ("reflexion", "*_reflexion_*.jsonl")):
        files = sorted(path.glob(pattern))
        if not files:
            raise InputError(f"{str(path)!r} holds no {pattern}")
        for row in _jsonl(files[0]):
            text = row.get("solution") or ""
            yield Trace(
                question=Question(
                    dataset="mbpp",
                    name=row["name"],
                    messages_json=messages_json(row["prompt"]),
                ),
                model="gpt-4",
                mode=mode,
                sample=0,
                text=text,
                prompt_tokens=_tokens(len(row["prompt"])),
                completion_tokens=_tokens(len(text)) if text else None,
                correct=bool(row["is_solved"]),
            )


def _routerarena(path: Path) -> Iterator[Trace]:
    """Two models' answers to 809 mixed questions, with token counts and scores."""
    for file in sorted(path.glob("*.jsonl")):
        for row in _jsonl(file):
            found = row["evaluation_result"] or {}
            score = found.get("score")
            usage = row["token_usage"] or {}
            yield Trace(
                question=Question(
                    dataset="routerarena",
                    name=row["global_index"],
                    messages_json=messages_json(row["question"]),
                    category=row["global_index"].rpartition("_")[0],
                ),
                model=row["llm_selected"],
                sample=0,
                text=row["generated_answer"] or "",
                prompt_tokens=usage.get("input_tokens"),
                completion_tokens=usage.get("output_tokens"),
                correct=None if score is None else score >= 1.0,
                score=score,
            )


def _humaneval(path: Path) -> Iterator[Trace]:
    """100 programs for each of 164 problems; not run, so right or wrong is not known here."""
    problems = _jsonl(path / "HumanEval_for_code_generation.jsonl")
    tasks = {row["prompt"]: row["task_id"] for row in problems}
    for row in _jsonl(
        path / "HumanEval_codegen16B_temp0.8_topp0.95_num100_max300_code_solution.jsonl.zst"
    ):
        question = Question(
            dataset="humaneval",
            name=tasks[row["prompt"]],
            messages_json=messages_json(row["prompt"]),
        )
        for sample, text in enumerate(row["samples"]):
            yield Trace(
                question=question,
                model="codegen-16b-mono",
                sample=sample,
                text=text,
                prompt_tokens=_tokens(len(row["prompt"])),
                completion_tokens=_tokens(len(text)),
            )


def _last_line(text: str) -> str | None:
    return text.strip().rsplit("\n", 1)[-1].removeprefix("Answer:").replace(" ", "") or None


def _said(text: str) -> Completion:
    return Completion(text=text, finish_reason="stop", usage=Usage())


def _open(path: Path) -> io.TextIOBase:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        try:
            import zstandard  # noqa: PLC0415
        except ImportError:
            raise MissingExtra.of("zstandard", "tasks", "a compressed trace set") from None
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return io.StringIO(data.decode("utf-8"))


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    for at, line in enumerate(_open(path), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{str(path)!r}, line {at}: not JSON ({error.msg})") from None


def _csv(path: Path) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(_open(path))


def _described(
    source: str, licence: str, tokens: str = "estimated", **more: Any
) -> TraceInformation:
    return TraceInformation.model_validate(
        {"source": source, "licence": licence, "token_counts": tokens, **more}
    )


IMPORTERS: dict[str, Importer] = {
    "zeroeval_matrix": Importer(
        read=_zeroeval,
        summary="greedy answers of 44 to 51 models to GSM8K, MATH level 5 and CRUX",
        information=_described("WildEval/ZeroEval @ 8c1485ed", "Apache-2.0"),
    ),
    "routellm_gsm8k": Importer(
        read=_routellm,
        summary="Mixtral-8x7B and GPT-4 on GSM8K, with texts",
        information=_described("lm-sys/RouteLLM @ 0b64fdaf (2406.18665)", "Apache-2.0"),
    ),
    "routellm_mmlu": Importer(
        read=_routellm,
        summary="Mixtral-8x7B and GPT-4 on MMLU, right or wrong only",
        information=_described("lm-sys/RouteLLM @ 0b64fdaf (2406.18665)", "Apache-2.0"),
    ),
    "tot_game24": Importer(
        read=_game24,
        summary="100 GPT-4 samples of each of 100 Games of 24, with and without reasoning",
        information=_described(
            "princeton-nlp/tree-of-thought-llm @ ab400345 (2305.10601)",
            "MIT",
            modes={"think": "asked to reason step by step", "answer": "asked for the answer"},
        ),
    ),
    "gsm8k_openai": Importer(
        read=_gsm8k_solutions,
        summary="solutions of GPT-3 6B and 175B, fine-tuned or picked by a verifier",
        information=_described("openai/grade-school-math @ 3101c7d5 (2110.14168)", "MIT"),
    ),
    "reflexion_trials": Importer(
        read=_reflexion_mbpp,
        summary="GPT-4 on MBPP: one try, and with reflections",
        information=_described(
            "noahshinn/reflexion @ 218cf0ef (2303.11366); MBPP CC BY 4.0, Google",
            "MIT",
            modes={"reflexion": "up to four reflections on failed generated tests"},
        ),
    ),
    "routerarena_cached": Importer(
        read=_routerarena,
        summary="Claude 3 Haiku and Gemini 2.0 Flash on 809 mixed questions",
        information=_described(
            "RouteWorks/RouterArena @ 4714a9ad (2510.00202)",
            "Apache-2.0; texts for local evaluation only",
            tokens="engine",
        ),
    ),
    "codet_humaneval_100samples": Importer(
        read=_humaneval,
        summary="100 CodeGen-16B programs for each HumanEval problem, not run",
        information=_described("microsoft/CodeT @ 35f54d60 (2207.10397)", "MIT"),
    ),
}
