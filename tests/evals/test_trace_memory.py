"""A set straight from records is the set that a file of them gives."""

from __future__ import annotations

import numpy as np
import pytest

from suffice.core.errors import InputError
from suffice.evals.traces.build import build_set
from suffice.evals.traces.columns import TraceInformation, table_of
from suffice.evals.traces.memory import set_of
from suffice.evals.traces.trace_set import Question, Trace, messages_json


def records() -> list[Trace]:
    rng = np.random.default_rng(3)
    questions = [
        Question(dataset="d", name=f"q{n}", messages_json=messages_json(f"what is {n}"))
        for n in range(4)
    ]
    made = []
    for sample in range(3):
        for question in questions:
            for model in ("b", "a"):
                length = int(rng.integers(0, 4))
                made.append(
                    Trace(
                        question=question, model=model, sample=sample, text=f"{sample}{model}",
                        finish_reason="length" if sample else "stop",
                        reasoning_text="hm" if model == "a" else None,
                        answer=None if length == 0 else str(length),
                        correct=None if length == 0 else bool(rng.integers(2)),
                        completion_tokens=None if sample == 2 else length,
                        tokens=("t",) * length,
                        logprobs=rng.normal(size=length).astype(np.float16),
                        confidences=rng.normal(size=length).astype(np.float16),
                    )
                )  # fmt: skip
    return made


def test_it_equals_the_set_of_the_rows_of_a_file() -> None:
    pytest.importorskip("pyarrow")
    made = records()
    from_file = build_set(table_of(made), TraceInformation(), "rows")
    mine = set_of(made)
    assert (mine.questions, mine.arms) == (from_file.questions, from_file.arms)
    for name in ("question", "arm", "sample", "correct", "completion_tokens", "start", "count"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(from_file, name))
    for row in range(len(mine)):
        ours, theirs = mine.trace(row), from_file.trace(row)
        assert ours.key == theirs.key
        assert (ours.text, ours.reasoning_text, ours.answer) == (
            theirs.text, theirs.reasoning_text, theirs.answer,
        )  # fmt: skip
        assert ours.tokens == theirs.tokens
        np.testing.assert_array_equal(ours.logprobs, theirs.logprobs)
        np.testing.assert_array_equal(ours.confidences, theirs.confidences)
    assert mine.column("text").to_pylist() == from_file.column("text").to_pylist()


def test_what_is_no_set_is_refused() -> None:
    made = records()
    with pytest.raises(InputError, match="not one trace"):
        set_of([])
    with pytest.raises(InputError, match="the same question, model, mode and sample"):
        set_of([*made, made[0]])


def test_the_digest_tells_sets_apart() -> None:
    made = records()
    assert set_of(made).digest == set_of(list(made)).digest
    assert set_of(made).digest != set_of(made[:-1]).digest
