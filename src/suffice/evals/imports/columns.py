"""Which column of a table is what: by name, or as the user says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from suffice.core.errors import InputError, UnknownName

# What a table may hold, and the names by which its columns are known, likeliest first.
FIELDS: dict[str, tuple[str, ...]] = {
    "dataset": ("dataset", "benchmark", "eval_name", "task_name", "task"),
    "question": (
        "question_id", "qid", "prompt_id", "item_id", "problem_id", "doc_id", "task_id", "id",
        "idx", "index", "sample_id",
    ),
    "prompt": (
        "prompt", "messages", "conversation", "question", "input", "query", "problem",
        "instruction", "question_text",
    ),
    "reference": (
        "reference", "reference_answer", "target", "gold", "gold_answer", "ground_truth",
        "expected", "expected_answer", "correct_answer", "label", "solution",
    ),
    "category": ("category", "subject", "level", "topic", "domain", "difficulty"),
    "model": ("model", "model_name", "model_id", "llm", "engine"),
    "mode": ("mode", "effort", "thinking", "reasoning_effort"),
    "text": (
        "text", "response", "output", "completion", "generation", "model_response",
        "model_output", "generated_text", "raw_output",
    ),
    "reasoning_text": ("reasoning_text", "reasoning", "reasoning_content", "thoughts"),
    "answer": (
        "extracted_answer", "parsed_answer", "predicted_answer", "prediction", "pred", "extracted",
        "model_answer",
    ),
    "correct": (
        "correct", "is_correct", "right", "passed", "verdict", "accuracy", "acc", "exact_match",
        "success",
    ),
    "score": ("score", "reward", "rating", "judge_score"),
    "finish_reason": ("finish_reason", "stop_reason"),
    "prompt_tokens": ("prompt_tokens", "input_tokens", "tokens_in", "n_prompt_tokens"),
    "completion_tokens": (
        "completion_tokens", "output_tokens", "tokens_out", "generated_tokens",
        "n_completion_tokens", "tokens",
    ),
    "reasoning_tokens": ("reasoning_tokens", "thinking_tokens"),
    "ttft_s": ("ttft_s", "ttft", "time_to_first_token"),
    "e2e_s": ("e2e_s", "latency_s", "latency", "duration_s", "duration", "elapsed_s"),
}  # fmt: skip


def parse_columns(text: str) -> dict[str, str]:
    """FIELD=COLUMN,FIELD=COLUMN as a mapping. Raises InputError or UnknownName."""
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or not column:
            raise InputError(
                f"--columns {pair.strip()!r}: write FIELD=COLUMN, e.g. prompt=question"
            )
        if name not in FIELDS:
            known = f"(fields: {', '.join(FIELDS)})"
            raise UnknownName.of("field", name, list(FIELDS), known)
        if name in found:
            raise InputError(f"--columns gives {name} two columns: {found[name]} and {column}")
        found[name] = column
    return found


def guess_columns(names: Sequence[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """Field → column for the columns of a table; what the user said comes first.

    `answer` alone is ambiguous: with what the model said beside it, it is the right answer; with a
    right answer or a verdict beside it, it is what the model answered.
    """
    for name, column in given.items():
        if column not in names:
            raise InputError(
                f"{where} has no column {column!r} for {name}; it has {', '.join(names)}"
            )
    low = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in names}
    found = dict(given)
    taken = set(given.values())
    for name, aliases in FIELDS.items():
        likeliest = None if name in found else _first(aliases, low, taken)
        if likeliest is not None:
            found[name] = likeliest
            taken.add(likeliest)
    answer = low.get("answer")
    if answer is not None and answer not in taken:
        said = "answer" if "reference" in found or "text" not in found else "reference"
        if "text" in found and "reference" not in found and "correct" in found:
            said = "answer"
        if said not in found:
            found[said] = answer
    return found


def _first(aliases: tuple[str, ...], low: Mapping[str, str], taken: Collection[str]) -> str | None:
    return next((low[each] for each in aliases if each in low and low[each] not in taken), None)


def told(found: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """What was guessed, in lines."""
    used = [f"{name} = {column}" for name, column in found.items()]
    unused = [name for name in names if name not in found.values()]
    lines = ["columns: " + ", ".join(used)]
    return [*lines, "not used: " + ", ".join(unused)] if unused else lines
