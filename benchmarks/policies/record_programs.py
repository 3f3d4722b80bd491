"""Record SmolLM2-135M answering stepwise.parquet's sums and stories by one-line programs.

    python benchmarks/policies/record_programs.py data/traces/programs.parquet      # extra embedded

Four worked examples as programs stand before each question, the same four as in the recording of
answers in words, of whose questions every third is asked. Sixteen samples a question, temperature
0.7, seeded. Programs are read by the answer format `program`; nothing is executed.
"""

from __future__ import annotations

import argparse
import copy
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suffice.backends.embedded import NAME, prepare
from suffice.core.completions import Completion, Usage
from suffice.evals.extract import program
from suffice.evals.traces.columns import TraceInformation
from suffice.evals.traces.files import read_traces, write_traces
from suffice.evals.traces.trace_set import Question, Trace

MODEL = "SmolLM2-135M-Instruct-program"
DATASETS = ("sums", "stories")
SAMPLES, MOST_TOKENS, TEMPERATURE = 16, 32, 0.7
_SHOT = re.compile(r"Q: (.*)\nA: (.*)\n\n")
_STEP = re.compile(r"(\d+) ([+-]) (\d+) = \d+")


def as_program(worked: str) -> str:
    """The worked steps `9 + 3 = 12, 12 + 2 = 14` as one expression: `9 + 3 + 2`."""
    steps = _STEP.findall(worked)
    first = steps[0][0]
    return " ".join([first, *(f"{sign} {term}" for _, sign, term in steps)])


def asked(question: Question) -> tuple[str, str]:
    """(examples as programs, the question) of a prompt that holds examples in words."""
    prompt = question.prompt
    shots = _SHOT.findall(prompt)
    last = prompt.rsplit("Q: ", 1)[1].removesuffix("\nA:")
    before = "".join(f"Q: {q}\nPython: answer = {as_program(a)}\n\n" for q, a in shots)
    return before, f"Q: {last}\nPython: answer ="


def drawn(model: Any, tokenizer: Any, questions: list[Question], seed: int) -> Iterator[Trace]:
    """Sixteen samples of every question; the examples are read once a task."""
    import torch  # noqa: PLC0415

    kept: dict[str, tuple[Any, Any]] = {}
    stop = "\n"
    for number, question in enumerate(questions):
        before, last = asked(question)
        generator = torch.Generator().manual_seed(seed * 100_003 + number)
        if before not in kept:
            ids = tokenizer(before, return_tensors="pt").input_ids
            kept[before] = ids, model(input_ids=ids, use_cache=True).past_key_values
        ids, cache = kept[before]
        tail = tokenizer(last, return_tensors="pt").input_ids
        cache = copy.deepcopy(cache)
        out = model(input_ids=tail, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        cache.batch_repeat_interleave(SAMPLES)
        logits = out.logits[:, -1].repeat(SAMPLES, 1)
        said: list[list[int]] = [[] for _ in range(SAMPLES)]
        open_ = [True] * SAMPLES
        for _ in range(MOST_TOKENS):
            probabilities = torch.softmax(logits / TEMPERATURE, dim=-1)
            tokens = torch.multinomial(probabilities, 1, generator=generator)
            for n in range(SAMPLES):
                if open_[n]:
                    said[n].append(int(tokens[n]))
                    text = tokenizer.decode(said[n])
                    open_[n] = stop not in text and said[n][-1] != tokenizer.eos_token_id
            if not any(open_):
                break
            out = model(input_ids=tokens, past_key_values=cache, use_cache=True)
            logits, cache = out.logits[:, -1], out.past_key_values
        prompt_tokens = ids.shape[1] + tail.shape[1]
        for n in range(SAMPLES):
            text = "answer =" + tokenizer.decode(said[n], skip_special_tokens=True).split(stop)[0]
            usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=len(said[n]))
            completion = Completion(
                text=text, finish_reason="length" if open_[n] else "stop", usage=usage, model=MODEL
            )
            answer = program(completion)
            yield Trace(
                question=question, model=MODEL, sample=n, text=text, answer=answer,
                correct=answer == question.reference,
                finish_reason=completion.finish_reason,
                prompt_tokens=prompt_tokens, completion_tokens=len(said[n]),
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--words", type=Path, default=Path("data/traces/stepwise.parquet"))
    parser.add_argument("--every", type=int, default=3, help="take every so-manieth question")
    parser.add_argument("--limit", type=int, help="questions, for a trial")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    folder = prepare(print)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = read_traces(options.words)
    questions = [each for each in words.questions if each.dataset in DATASETS]
    questions = questions[:: options.every][: options.limit]
    began_s = time.perf_counter()
    with torch.no_grad():
        traces = list(drawn(model, tokenizer, questions, options.seed))
    information = TraceInformation(
        description="sums and stories of stepwise.parquet answered by one-line programs",
        licence="CC0-1.0",
        source=f"{NAME}, 4-bit weights widened to float32, temperature {TEMPERATURE}",
        server="transformers, benchmarks/policies/record_programs.py",
    )
    write_traces(options.out, traces, information)
    share = sum(bool(each.correct) for each in traces) / len(traces)
    print(f"{len(traces)} samples, {share:.1%} right, {time.perf_counter() - began_s:.0f} s")


if __name__ == "__main__":
    main()
