"""The user's own costs as a reward: γ from what thinking really costs on a machine."""

from __future__ import annotations

from suffice.architecture.shape import Shape
from suffice.backends.nano.vocabulary import Vocabulary
from suffice.core.errors import InputError
from suffice.hardware import load_hardware
from suffice.tasks.puzzles import Mixture
from suffice.throughput.analytic import predict
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload
from suffice.training.modes.data import alphabet_of
from suffice.training.modes.rewards import gamma_of_costs


def cost_ratio(
    shape: Shape,
    hardware: str,
    *,
    prompt_tokens: int,
    short_tokens: int,
    think_tokens: int,
    batch: int | None = None,
) -> float:
    """Machine time of a request that thinks over one that does not, in steady state."""
    serving = Serving(hardware=load_hardware(hardware))

    def machine_s(response_tokens: int) -> float:
        workload = Workload.single(prompt_tokens, response_tokens)
        prediction = predict(shape, serving, workload, batch=batch)
        return response_tokens / prediction.output_tokens_per_s

    return machine_s(think_tokens) / machine_s(short_tokens)


def typical_lengths(mixture: Mixture, vocabulary: Vocabulary | None = None) -> dict[str, int]:
    """Mean tokens of prompt, short and thought response over problems of `mixture`, rounded.

    `vocabulary` is the model's; by default that of the problems themselves.
    """
    cells = mixture.distinct(32, seed=0, split="train")
    problems = [p for cell in cells.values() for p in cell if p.steps is not None]
    if not problems:
        raise InputError(
            "the problems show no steps, so how long thinking is cannot be known before training: "
            "give --gamma instead"
        )
    spelled = vocabulary or Vocabulary.of(alphabet_of(mixture))

    def mean(texts: list[str], extra: int) -> int:
        return round(sum(len(spelled.encode(text)) for text in texts) / len(texts)) + extra

    return {
        "prompt_tokens": mean([p.prompt for p in problems], 2),
        "short_tokens": mean([p.response(think=False) for p in problems], 2),
        "think_tokens": mean([p.response(think=True) for p in problems], 2),
    }


def gamma_from_machine(ratio: float, answer_worth: float) -> float:
    """γ at a cost ratio, if a right answer is worth `answer_worth` short answers' cost."""
    if not answer_worth > 0:
        raise InputError(f"a right answer must be worth more than 0, got {answer_worth}")
    return gamma_of_costs(1.0, ratio, answer_worth)
