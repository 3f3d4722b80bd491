"""Synthetic traces with known truth: questions of two kinds, a small and a large model."""

from __future__ import annotations

import numpy as np

from suffice.evals.traces.files import trace_set
from suffice.evals.traces.trace_set import Question, Trace, messages_json

KINDS = {
    "sum": "Add the numbers {a} and {b} and tell the total of apples in the basket.",
    "proof": "Prove that the operator {a} has a compact resolvent on the space number {b}.",
}


def make(
    n: int,
    *,
    seed: int = 0,
    samples: int = 1,
    small: tuple[float, float] = (0.95, 0.3),
    large: tuple[float, float] = (0.97, 0.9),
    dataset: str = "made",
    models: tuple[str, str] = ("small", "large"),
    informative: bool = True,
):
    """Easy questions are of kind `sum`; rates of being right on (easy, hard) for each model.

    Wrong answers scatter over 20 values. With `informative`, a small model's logprobs are higher
    where it is right.
    """
    generator = np.random.default_rng(seed)
    traces = []
    for i in range(n):
        kind = "sum" if generator.random() < 0.5 else "proof"
        a, b = generator.integers(10, 99, 2)
        question = Question(
            dataset=dataset,
            name=f"q{i}",
            messages_json=messages_json(KINDS[kind].format(a=a, b=b) + f" Case {i}."),
            reference="right",
            answer_format="number",
            category=kind,
        )
        for model, rates in zip(models, (small, large), strict=True):
            for sample in range(samples):
                right = bool(generator.random() < rates[kind == "proof"])
                answer = "right" if right else f"wrong{generator.integers(20)}"
                level = -0.05 if right and informative else -0.5
                logprobs = level * np.exp(generator.normal(0, 0.6, 4))
                traces.append(
                    Trace(
                        question=question,
                        model=model,
                        sample=sample,
                        text=answer,
                        answer=answer,
                        correct=right,
                        prompt_tokens=20,
                        completion_tokens=int(generator.integers(20, 60)),
                        logprobs=logprobs.astype(np.float16),
                    )
                )
    return trace_set(traces)
