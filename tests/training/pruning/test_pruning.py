"""Pruning: scores against a plain loop, greedy against brute force, orders by what they are."""

from __future__ import annotations

import itertools
import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from suffice.core.errors import InputError  # noqa: E402
from suffice.training.pruning.greedy import Greedy, kept_after  # noqa: E402
from suffice.training.pruning.learn import (  # noqa: E402
    Row,
    answered,
    dropped_traces,
    example_of,
    fixed_rows,
    full_traces,
    row_loss,
    whole_row,
)
from suffice.training.pruning.orders import (  # noqa: E402
    ORDERS,
    by_importance,
    surprisal_and_entropy,
)
from suffice.training.pruning.problems import problems, words  # noqa: E402
from suffice.training.pruning.scoring import Example, Pruner  # noqa: E402
from suffice.training.pruning.surrogate import deleted_when, fit_surrogate  # noqa: E402
from suffice.training.stretch import Stretch  # noqa: E402

pytestmark = pytest.mark.torch
WORDS = words()


@pytest.fixture(scope="module")
def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=len(WORDS), max_position_embeddings=128,
        bos_token_id=None, eos_token_id=1, pad_token_id=0, initializer_range=0.4,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def example(length: int = 7, answers: int = 2, seed: int = 0) -> Example:
    rng = random.Random(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(8, len(WORDS)) for _ in range(count))

    return Example(question=ids(4), trace=ids(length), close=(7,), answer=ids(answers))


def plain(model, one: Example, kept: list[int]) -> tuple[float, float]:
    """(log P(answer), log P(kept trace)), one row, one token after the other."""
    trace = [one.trace[place] for place in kept]
    row = [*one.question, *trace, *one.close, *one.answer]
    with torch.no_grad():
        logprob = model(torch.tensor([row])).logits[0].log_softmax(-1)

    def total(start: int, count: int) -> float:
        return sum(float(logprob[n - 1, row[n]]) for n in range(start, start + count))

    first = len(one.question)
    return total(len(row) - len(one.answer), len(one.answer)), total(first, len(trace))


@pytest.mark.parametrize("objective", ["answer", "joint", "mean"])
def test_scores_of_ragged_rows_are_those_of_single_ones(model, objective) -> None:
    one = example()
    kept = [[], [0], [0, 2, 3], list(range(7)), [6], [1, 4, 5, 6]]
    scores = Pruner(model).scores(one, kept)
    for n, places in enumerate(kept):
        answer, trace = plain(model, one, places)
        by_hand = {
            "answer": answer, "joint": answer + trace, "mean": answer + trace / max(1, len(places)),
        }[objective]  # fmt: skip
        assert float(scores.of(objective)[n]) == pytest.approx(by_hand, abs=2e-4)


@pytest.mark.parametrize("tried", [None, [1, 5], [6]])
def test_a_prefix_that_is_computed_once_changes_no_score(model, tried) -> None:
    one = example(9)
    kept = [0, 1, 3, 4, 5, 7, 8]
    pruner, other = Pruner(model), Pruner(model)
    places = range(7) if tried is None else tried
    rows = [[place for n, place in enumerate(kept) if n != at] for at in places]
    reused, whole = pruner.without_each(one, kept, tried), other.scores(one, rows)
    for a, b in (
        (reused.answer_B, whole.answer_B), (reused.trace_B, whole.trace_B),
        (reused.kept_B, whole.kept_B),
    ):  # fmt: skip
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-4)
    if tried is None:
        assert pruner.computed_tokens < 0.8 * other.computed_tokens


def test_greedy_is_the_argmax_of_every_step(model) -> None:
    one = example(6)
    for objective in ("answer", "joint", "mean"):
        order = Greedy(objective=objective).order(Pruner(model), one)
        assert sorted(order) == list(range(6))
        kept = list(range(6))
        for place in order:
            values = {}
            for gone in kept:
                rest = [k for k in kept if k != gone]
                answer, trace = plain(model, one, rest)
                values[gone] = {
                    "answer": answer, "joint": answer + trace,
                    "mean": answer + trace / max(1, len(rest)),
                }[objective]  # fmt: skip
            assert values[place] >= max(values.values()) - 1e-4
            kept.remove(place)


def test_cheaper_forms_do_less_and_the_full_form_is_unchanged(model) -> None:
    one = example(12)
    exact, slow, cheap, pairs = (Pruner(model) for _ in range(4))
    order = Greedy().order(exact, one)
    assert order == Greedy(reuse_prefix=False).order(slow, one)
    assert order == Greedy(rescored=12).order(Pruner(model), one)
    few = Greedy(rescored=3).order(cheap, one)
    two = Greedy(per_step=2).order(pairs, one, left=5)
    assert sorted(few) == list(range(12))
    assert len(two) == len(set(two)) == 7
    assert cheap.computed_tokens < exact.computed_tokens < slow.computed_tokens
    with pytest.raises(InputError, match="rescored at least per_step"):
        Greedy(per_step=3, rescored=2)


def test_what_is_left_of_an_order() -> None:
    assert kept_after([3, 0, 2, 1], 4, 0.5) == [1, 2]
    assert kept_after([3, 0, 2, 1], 4, 1.0) == [0, 1, 2, 3]
    assert kept_after([3, 0], 4, 0.5) == [1, 2]
    with pytest.raises(InputError, match="share kept"):
        kept_after([0], 1, 1.5)


def test_orders_are_orders_and_say_what_they_are(model) -> None:
    one = example(8)
    for order in ORDERS.values():
        assert sorted(order(model, one, 0)) == list(range(8))
        assert order(model, one, 0) == order(model, one, 0)
    assert ORDERS["random"](model, one, 0) != ORDERS["random"](model, one, 1)
    assert ORDERS["truncation"](model, one, 0) == [7, 6, 5, 4, 3, 2, 1, 0]
    surprisal, entropy = surprisal_and_entropy(model, one)
    assert float(surprisal.sum()) == pytest.approx(-plain(model, one, list(range(8)))[1], abs=2e-4)
    first = ORDERS["surprisal"](model, one, 0)[0]
    assert float(surprisal[first]) == pytest.approx(float(surprisal.min()))
    assert bool((entropy > 0).all())
    # Any run of deletions is spread: two of eight are not neighbours.
    a, b = ORDERS["uniform"](model, one, 0)[:2]
    assert abs(a - b) >= 2


def test_importance_is_the_answers_gradient(model) -> None:
    """Against a small step of one embedding by hand."""
    one = example(5, answers=1)
    row = torch.tensor([[*one.question, *one.trace, *one.close, *one.answer]])
    embedded = model.get_input_embeddings()(row).detach().double()
    net = model.double()

    def answer(values) -> float:
        with torch.no_grad():
            logprob = net(inputs_embeds=values).logits[0, -2].log_softmax(-1)
        return float(logprob[one.answer[0]])

    effects = []
    for place in range(5):
        at = len(one.question) + place
        up, down = embedded.clone(), embedded.clone()
        up[0, at] *= 1.01
        down[0, at] *= 0.99
        effects.append(abs(answer(up) - answer(down)))
    expected = sorted(range(5), key=lambda place: effects[place])
    found = by_importance(net, one, 0)
    model.float()
    assert found == expected


def test_a_surrogate_learns_an_order(model) -> None:
    examples = [example(10, seed=n) for n in range(24)]
    # Something that the features tell: the least surprising first.
    orders = [ORDERS["surprisal"](model, e, 0) for e in examples]
    fitted = fit_surrogate(model, examples[:20], orders[:20], seed=0)
    assert deleted_when([2, 0, 1]).tolist() == [0.5, 1.0, 0.0]
    agreed = total = 0
    for one, order in zip(examples[20:], orders[20:], strict=True):
        guessed = fitted.order(model, one)
        for a, b in itertools.combinations(range(10), 2):
            agreed += (guessed.index(a) < guessed.index(b)) == (order.index(a) < order.index(b))
            total += 1
    assert agreed / total > 0.65  # chance is 0.5


def test_rows_learn_the_answer_alone_or_the_trace_too(model) -> None:
    one = example_of(problems(1, seed=0, part="t")[0], WORDS)
    short = whole_row(one, [0], WORDS, answer_only=True)
    assert short.ids[short.skipped :] == [*one.answer, WORDS.id("<end>")]
    long = whole_row(one, [0, 2], WORDS, answer_only=False)
    assert long.ids[long.skipped : -3] == [one.trace[0], one.trace[2]]
    assert short.tail == long.tail == 2

    def by_hand(row) -> tuple[list[float], list[float]]:
        with torch.no_grad():
            logprob = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        each = [-float(logprob[n - 1, row.ids[n]]) for n in range(row.skipped, len(row.ids))]
        return each[:-2], each[-2:]

    (none, answer_a), (trace, answer_b) = by_hand(short), by_hand(long)
    assert none == []
    assert len(trace) == 3  # two words and the end of the thought
    expected = sum(trace) / 3 + sum(answer_a + answer_b) / 4
    assert float(row_loss(model, [short, long]).detach()) == pytest.approx(expected, abs=1e-4)


def test_training_rows_depend_on_seed_and_step_alone() -> None:
    for source in (
        full_traces(WORDS, batch=4, seed=1), dropped_traces(WORDS, batch=4, seed=1, drop=0.7),
        fixed_rows([Row([n], 0, 1) for n in range(9)], batch=4, seed=1),
    ):  # fmt: skip
        once = source(3)
        source(2)
        assert source(3) == once
        assert source(4) != once
    passes = fixed_rows([Row([n], 0, 1) for n in range(6)], batch=3, seed=0)
    assert sorted(row.ids[0] for step in (0, 1) for row in passes(step)) == list(range(6))


def test_an_answer_needs_one_closed_thought(model, monkeypatch) -> None:
    from suffice.training.pruning import learn

    (problem,) = problems(1, seed=3, part="t")
    tail = [WORDS.id(w) for w in ("</think>", problem.answer, "<end>")]
    think = WORDS.id("<think>")
    for said, right in (
        ([think, 9, *tail], True), ([think, *tail], True), ([think, 9, tail[0], *tail], False),
        ([think, 9, tail[1], tail[2]], False), ([think, 9, *tail[:2]], False),
    ):  # fmt: skip
        row = torch.tensor([said])
        monkeypatch.setattr(
            learn, "draw", lambda *_, row=row, **__: (row, torch.ones_like(row, dtype=torch.bool))
        )
        assert answered(model, [problem], WORDS, max_tokens=9, seed=0) == ([right], [len(said)])


def test_a_rate_rises_and_falls() -> None:
    plan = Stretch(steps=100, batch=4, learning_rate=1.0)
    rates = [plan.rate_at(n) for n in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) < 1.0
    assert rates[-1] == pytest.approx(0.05)
