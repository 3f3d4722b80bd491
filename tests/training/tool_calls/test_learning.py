"""Tool calls: losses against plain loops, observations without gradient, chains that are played."""

from __future__ import annotations

import math
import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from suffice.training.run_state import seeded  # noqa: E402
from suffice.training.tool_calls.chains import Row, fault_of, play, row_of  # noqa: E402
from suffice.training.tool_calls.losses import (  # noqa: E402
    Pair,
    dpo_loss,
    sft_loss,
    with_reference,
)
from suffice.training.tool_calls.mining import made_pairs, mine  # noqa: E402
from suffice.training.tool_calls.questions import (  # noqa: E402
    NONE,
    Call,
    questions,
    right_chain,
    words,
    wrong_chain,
)

pytestmark = pytest.mark.torch
WORDS = words()
ASKED = questions(60, seed=0, part="test")


def small(seed: int):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=len(WORDS), max_position_embeddings=96,
        bos_token_id=None, eos_token_id=1, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def model():
    return small(0)


def pairs() -> list[Pair]:
    return made_pairs(ASKED, WORDS, seed=0)


def plain(model, row: Row) -> tuple[float, int]:
    """(log π of the model's own tokens, how many), one row by itself."""
    with torch.no_grad():
        logprob = model(torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
    own = [n for n in range(1, len(row.ids)) if row.own[n]]
    return sum(float(logprob[n - 1, row.ids[n]]) for n in own), len(own)


def test_losses_are_those_of_single_rows(model) -> None:
    some, reference = pairs()[:5], small(1)
    rows = [pair.chosen for pair in some]
    found = [plain(model, row) for row in rows]
    wanted = -sum(total for total, _ in found) / sum(count for _, count in found)
    assert float(sft_loss(model, rows).detach()) == pytest.approx(wanted, abs=1e-5)
    beta, margins = 0.3, []
    for pair in some:
        margin = plain(model, pair.chosen)[0] - plain(model, pair.rejected)[0]
        margins.append(
            margin - plain(reference, pair.chosen)[0] + plain(reference, pair.rejected)[0]
        )
    preferred = sum(math.log1p(math.exp(-beta * m)) for m in margins) / len(margins)
    ready = with_reference(reference, some, batch=2)
    got = dpo_loss(model, ready, beta=beta, sft_weight=0.5)
    assert float(got.detach()) == pytest.approx(preferred + 0.5 * wanted, abs=1e-4)


def test_a_model_beside_itself_prefers_nothing(model) -> None:
    ready = with_reference(model, pairs()[:4])
    started = dpo_loss(model, ready, beta=0.1, sft_weight=0.0)
    assert float(started.detach()) == pytest.approx(math.log(2))


@pytest.mark.parametrize("loss", ["sft", "dpo"])
def test_what_tools_say_has_no_gradient_and_the_models_own_words_have(model, loss) -> None:
    kept = []

    def caught(*given, **named):
        out = model(*given, **named)
        out.logits.retain_grad()
        kept.append(out.logits)
        return out

    caught.parameters = model.parameters
    some = [p for p in pairs() if sum(p.chosen.own) + 5 < len(p.chosen.ids)][:4]
    rows = [p.chosen for p in some]
    if loss == "sft":
        value = sft_loss(caught, rows)
    else:
        value = dpo_loss(caught, some, beta=0.1, sft_weight=1.0)
        rows += [p.rejected for p in some]
    value.backward()
    size = kept[0].grad.abs().sum(dim=2)
    seen = 0
    for place, row in enumerate(rows):
        for n in range(1, len(row.ids)):
            if row.own[n]:
                assert size[place, n - 1] > 0
            else:
                assert size[place, n - 1] == 0
                seen += WORDS.tokens[row.ids[n]] == "tool:"
    assert seen >= len(some)


def test_a_model_that_knows_the_chains_plays_them_through_the_tools() -> None:
    asked = [q for q in ASKED if len(q.calls) == 2][:2] + [q for q in ASKED if not q.calls][:1]
    model = small(2).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    rows = [row_of(question, right_chain(question), WORDS) for question in asked]
    for _ in range(150):
        loss = sft_loss(model, rows)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    played = play(model, asked, WORDS, temperature=0.0, generator=seeded(0))
    assert [p.fault for p in played] == ["right"] * 3
    assert [p.calls for p in played] == [q.calls for q in asked]
    assert [p.chain for p in played] == [right_chain(q) for q in asked]


def test_mined_pairs_hold_a_right_chain_over_a_wrong_one() -> None:
    asked = [q for q in ASKED if q.by_preference and len(q.calls) == 1][:3]
    model = small(3).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    rng = random.Random(0)
    rows = [row_of(q, c, WORDS) for q in asked for c in (right_chain(q), wrong_chain(q, rng))]
    for _ in range(150):
        loss = sft_loss(model, rows)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    mined = mine(model, asked, WORDS, samples=8, seed=0)
    rights = {tuple(row_of(q, right_chain(q), WORDS).ids) for q in asked}
    assert mined.pairs
    assert all(tuple(p.chosen.ids) in rights for p in mined.pairs)
    assert not any(tuple(p.rejected.ids) in rights for p in mined.pairs)
    assert sum(mined.faults.values()) == len(mined.pairs)
    again = mine(model, asked, WORDS, samples=8, seed=0)
    assert [p.rejected.ids for p in again.pairs] == [p.rejected.ids for p in mined.pairs]


def test_faults_name_what_is_wrong_first() -> None:
    question = next(q for q in ASKED if len(q.calls) == 2 and "add" in q.offered)
    first, second = question.calls
    idle = next(q for q in ASKED if not q.calls)
    missing = next(t for t in ("add", "sub", "mul", "div", "mod") if t not in question.offered)
    assert fault_of(question, question.calls, question.answer) == "right"
    assert fault_of(question, question.calls, "101") == "wrong answer"
    assert fault_of(question, question.calls, "") == "malformed"
    assert fault_of(question, (), NONE) == "refused wrongly"
    assert fault_of(question, (first,), str(first.run())) == "wrong function"
    swapped = Call(first.tool, first.b, first.a)
    assert fault_of(question, (swapped, second), question.answer) == "wrong arguments"
    assert fault_of(question, (Call(missing, 1, 2),), "3") == "not offered"
    assert fault_of(idle, (), NONE) == "right"
    assert fault_of(idle, (Call(idle.offered[0], 1, 2),), "3") == "called wrongly"
    assert fault_of(idle, (), "7") == "malformed"
