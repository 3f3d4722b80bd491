"""Logs of inspect_ai: `.eval` (a zip of JSON, packed by deflate or zstd) and `.json`.

The log's scorer is believed: C and true are right, I and false wrong, numbers from 0 to 1 are
scores. Its extracted answer is the answer; token counts are those that the engine told inspect_ai.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from suffice.core.completions import FinishReason
from suffice.core.errors import InputError
from suffice.core.quantities import counted as counted_noun
from suffice.evals.extract import canonical_number
from suffice.evals.imports import values
from suffice.evals.imports.found import Imported, ImportOptions
from suffice.evals.imports.judge import Judge
from suffice.evals.imports.table import TOKENS_TOLD, chosen_checker
from suffice.evals.traces.columns import TokenCounts, TraceInformation, arrow
from suffice.evals.traces.trace_set import Question, Trace, messages_json

_ZSTD = 93  # a zip method that Python 3.11's zipfile does not know
_LARGEST_BYTES = 1 << 29  # of one sample
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}


class _Log(NamedTuple):
    path: Path
    head: dict[str, Any]

    @property
    def task(self) -> str:
        return str(self.head["eval"].get("task", self.path.stem)).rpartition("/")[2]

    @property
    def model(self) -> str:
        return str(self.head["eval"].get("model", ""))


def is_log(path: Path) -> bool:
    """Whether a file is a log of inspect_ai, by its name or its first keys."""
    if path.suffix == ".eval":
        return True
    if path.suffix != ".json":
        return False
    try:
        with path.open(encoding="utf-8") as stream:
            start = stream.read(4096)
    except (OSError, UnicodeDecodeError):
        return False
    return '"eval"' in start and '"version"' in start and start.lstrip().startswith("{")


def log_files(folder: Path) -> list[Path]:
    """The `.eval` logs in a folder and below it."""
    return sorted(path for path in folder.rglob("*.eval") if path.is_file())


def import_inspect(paths: Sequence[Path], options: ImportOptions) -> Imported:
    """Traces of one or more logs."""
    logs = [_Log(path, _head(path)) for path in paths]
    references: list[str] = []
    scorers: set[str] = set()
    failed = counted = samples = 0
    for log in logs:
        for sample in _samples(log.path):
            failed += sample.get("error") is not None
            samples += 1
            references.append(_target(sample) or "")
            scorers.update((sample.get("scores") or {}).keys())
            counted += _usage(sample)[1] is not None
    if not samples:
        raise InputError(
            f"{str(paths[0])!r} holds no samples: log them (inspect eval, log_samples)"
        )
    scorer = _scorer(scorers, options.pick)
    checker, told = chosen_checker(options, [each for each in references if each])
    counts: TokenCounts = "engine" if counted else "absent"
    notes = [
        f"inspect_ai: {', '.join(sorted({log.task for log in logs}))} by "
        f"{', '.join(sorted({log.model for log in logs}))}",
        f"verdict: scorer {scorer}" if scorer else "verdict: by the checker, nothing was scored",
        *told,
        TOKENS_TOLD[counts],
    ]
    if len(scorers) > 1:
        notes.insert(2, f"also there: {', '.join(sorted(scorers - {scorer or ''}))} (--pick)")
    if failed:
        notes.append(f"left out: {counted_noun(failed, 'sample')} with an error")
    return Imported(
        traces=_traces(logs, scorer, checker, options),
        information=TraceInformation(
            source="inspect_ai: " + ", ".join(path.name for path in paths), token_counts=counts
        ),
        notes=tuple(notes),
    )


def _scorer(found: set[str], pick: str | None) -> str | None:
    if pick is not None and pick not in found:
        raise InputError(f"no scorer is named {pick!r}: --pick one of {', '.join(sorted(found))}")
    return pick or (sorted(found)[0] if found else None)


def _traces(
    logs: Sequence[_Log], scorer: str | None, checker: str | None, options: ImportOptions
) -> Iterator[Trace]:
    judge = Judge(checker, options.right_from)
    numbers: dict[tuple[str, str, str], int] = {}
    for log in logs:
        for sample in _samples(log.path):
            if sample.get("error") is not None:
                continue
            where = f"{str(log.path)!r}, sample {sample.get('id')}"
            question = Question(
                dataset=options.dataset or log.task,
                name=str(sample["id"]),
                messages_json=_prompt(sample),
                reference=_target(sample),
                answer_format=judge.checker,
            )
            output = sample.get("output") or {}
            model = options.model or str(log.model or output.get("model") or "")
            key = (question.dataset, question.name, model)
            number = numbers[key] = numbers.get(key, -1) + 1
            yield _trace(sample, question, model, number, scorer, judge, where)


def _trace(  # noqa: PLR0917 - one call, all of it in hand
    sample: Mapping[str, Any],
    question: Question,
    model: str,
    number: int,
    scorer: str | None,
    judge: Judge,
    where: str,
) -> Trace:
    score = (sample.get("scores") or {}).get(scorer) or {}
    given = score.get("value")
    if isinstance(given, str) and given in ("P", "N"):  # partial; no answer
        given = {"P": 0.5, "N": 0.0}[given]
    choices = (sample.get("output") or {}).get("choices") or [{}]
    text, thought = _parts(choices[0].get("message", {}).get("content", ""), sample)
    judged = judge.judge(
        question,
        text=text,
        answer=None,
        given=None if given is None else values.verdict(given, where, f"score {scorer}"),
        where=where,
    )
    answer = values.text(score.get("answer"))
    prompt_tokens, completion_tokens, reasoning_tokens = _usage(sample)
    return Trace(
        question=question,
        model=model,
        sample=number,
        text=text,
        reasoning_text=thought,
        finish_reason=_FINISH.get(str(choices[0].get("stop_reason")), "stop"),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        reasoning_tokens=reasoning_tokens,
        answer=judged.answer if answer is None else canonical_number(answer) or answer or None,
        correct=judged.correct,
        score=judged.score,
        e2e_s=values.measure((sample.get("output") or {}).get("time"), where, "time"),
    )


def _usage(sample: Mapping[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Prompt, completion and reasoning tokens; those read from a cache are prompt tokens too."""
    usage = (sample.get("output") or {}).get("usage") or {}
    prompt = usage.get("input_tokens")
    cached = (usage.get("input_tokens_cache_read") or 0) + (
        usage.get("input_tokens_cache_write") or 0
    )
    return (
        None if prompt is None else int(prompt) + int(cached),
        usage.get("output_tokens"),
        usage.get("reasoning_tokens"),
    )


def _prompt(sample: Mapping[str, Any]) -> str:
    """What the model was first asked: the turns before its first answer."""
    turns = []
    for turn in sample.get("messages") or []:
        if turn.get("role") == "assistant":
            break
        turns.append({"role": turn["role"], "content": _parts(turn.get("content"), sample)[0]})
    if turns:
        return json.dumps(turns, ensure_ascii=False)
    asked = sample.get("input")
    if isinstance(asked, list):
        listed = [
            {"role": turn["role"], "content": _parts(turn.get("content"), sample)[0]}
            for turn in asked
        ]
        return json.dumps(listed, ensure_ascii=False)
    return messages_json(str(asked))


def _parts(content: Any, sample: Mapping[str, Any]) -> tuple[str, str | None]:
    """Text and reasoning of a message's content; long texts lie in the sample's attachments."""
    if not isinstance(content, list):
        return _attached(str(content or ""), sample), None
    text = [str(part.get("text", "")) for part in content if part.get("type") == "text"]
    thought = [
        str(part.get("reasoning", "")) for part in content if part.get("type") == "reasoning"
    ]
    return (
        _attached("".join(text), sample),
        _attached("".join(thought), sample) if thought else None,
    )


def _attached(text: str, sample: Mapping[str, Any]) -> str:
    if not text.startswith("attachment://"):
        return text
    return str((sample.get("attachments") or {}).get(text.removeprefix("attachment://"), text))


def _target(sample: Mapping[str, Any]) -> str | None:
    target = sample.get("target")
    if isinstance(target, list):
        target = target[0] if len(target) == 1 else ", ".join(map(str, target)) or None
    return values.text(target) or None


# --- the file -----------------------------------------------------------------------------------


def _head(path: Path) -> dict[str, Any]:
    head = _document(path) if path.suffix == ".json" else _member(path, "header.json")
    if head is None:  # a run that was stopped has only its beginning
        head = _member(path, "_journal/start.json")
    if not isinstance(head, dict) or "eval" not in head:
        raise InputError(f"{str(path)!r} is no log of inspect_ai: it has no header")
    return head


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".json":
        yield from _document(path).get("samples") or []
        return
    with _zip(path) as archive:
        names = [name for name in archive.namelist() if name.startswith("samples/")]
    for name in names:
        sample = _member(path, name)
        if sample is not None:
            yield sample


def _document(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read as JSON: {str(error)[:80]}") from None
    if not isinstance(found, dict):
        raise InputError(f"{str(path)!r} is no log of inspect_ai")
    return found


def _zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{str(path)!r} is no .eval log, or is cut short: {error}") from None


def _member(path: Path, name: str) -> Any:
    """A JSON document of the archive; None if it is not there."""
    with _zip(path) as archive:
        try:
            entry = archive.getinfo(name)
        except KeyError:
            return None
        if entry.file_size > _LARGEST_BYTES:
            raise InputError(f"{str(path)!r}: {name} is larger than {_LARGEST_BYTES} bytes")
        try:
            if entry.compress_type != _ZSTD:
                return json.loads(archive.read(entry))
            with path.open("rb") as stream:
                stream.seek(entry.header_offset)
                head = stream.read(30)
                stream.seek(sum(struct.unpack("<HH", head[26:30])), 1)
                packed = stream.read(entry.compress_size)
            codec = arrow().Codec("zstd")
            return json.loads(codec.decompress(packed, entry.file_size).to_pybytes())
        except (OSError, ValueError, NotImplementedError, struct.error) as error:
            raise InputError(f"{str(path)!r}: {name} is damaged ({str(error)[:80]})") from None
