"""Soft thoughts: slots against the model's own tokens, arms, and answers equal where served."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from suffice.architecture.shape import Shape  # noqa: E402
from suffice.backends.nano.backend import NanoBackend, shipped_folder  # noqa: E402
from suffice.backends.nano.vocabulary import END, SHORT, Vocabulary  # noqa: E402
from suffice.backends.prompt_embeds import prompt_embeds_part  # noqa: E402
from suffice.core.draw import Draw  # noqa: E402
from suffice.core.errors import UpstreamRejected  # noqa: E402
from suffice.core.requests import (  # noqa: E402
    Message,
    OpaquePart,
    Request,
    Sampling,
    TextPart,
)
from suffice.core.thinking import Thinking  # noqa: E402
from suffice.recipes.modes.folder import load_routed, save_routed  # noqa: E402
from suffice.tasks.operations import PERMUTATIONS  # noqa: E402
from suffice.tasks.puzzles import ALPHABET  # noqa: E402
from suffice.training.model import build_model  # noqa: E402
from suffice.training.optimiser import initialise  # noqa: E402
from suffice.training.run_state import seeded  # noqa: E402
from suffice.training.rung import Recipe  # noqa: E402
from suffice.training.soft_thoughts.arms import Assistant, Projector, add_low_rank  # noqa: E402
from suffice.training.soft_thoughts.contrast import (  # noqa: E402
    Thoughts,
    contrast,
    contrasted_loss,
    right_by_vote,
)
from suffice.training.soft_thoughts.slots import (  # noqa: E402
    answer_logits,
    answer_loss,
    asked,
    first_steps,
    hinted_slots,
    problems,
)

pytestmark = pytest.mark.torch
WORDS = Vocabulary.of(ALPHABET)
WIDTH = 32
ASKED = problems("chain", (2, 3, 4), 12, seed=0, part="test")


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    shape = Shape(
        hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, vocab_size=len(WORDS), tie_word_embeddings=False,
        config={"max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0},
    )  # fmt: skip
    built = build_model(shape)
    initialise(built, Recipe(), 2, 0)
    head = built.get_submodule("lm_head").weight
    with torch.no_grad():
        head.copy_(torch.randn(head.shape, generator=torch.Generator().manual_seed(1)))
    return built.eval()


def test_the_first_steps_are_the_chains_own() -> None:
    for problem in ASKED:
        prompt, state = first_steps(problem)
        at = prompt[0]
        for name in prompt[1:]:
            at = PERMUTATIONS[name][int(at)]
        assert at == state
        for name in problem.prompt[len(prompt) :]:
            at = PERMUTATIONS[name][int(at)]
        assert at == problem.answer
        assert len(prompt) - 1 == min(2, problem.difficulty - 1)


def test_slots_that_hold_a_tokens_embedding_are_that_token(model) -> None:
    """A row with a digit's vector in its slot is the row with the digit written there."""
    rows = asked(ASKED, WORDS)
    digits = [random.Random(n).choice("0123456789") for n in range(len(ASKED))]
    embed = model.get_input_embeddings().weight
    slots = embed[torch.tensor([WORDS.id(d) for d in digits])][:, None]
    with torch.no_grad():
        answer, end = answer_logits(model, rows, slots)
        for n, problem in enumerate(ASKED):
            ids = [*WORDS.prompt(problem.prompt + digits[n]), WORDS.id(SHORT)]
            row = torch.tensor([[*ids, WORDS.id(problem.answer)]])
            alone = model(row).logits[0]
            torch.testing.assert_close(answer[n], alone[-2], atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(end[n], alone[-1], atol=2e-5, rtol=1e-4)


def test_the_loss_is_that_of_answer_and_end(model) -> None:
    rows = asked(ASKED[:3], WORDS)
    answer, end = answer_logits(model, rows, None)
    picked = answer.log_softmax(-1)[torch.arange(3), rows.answer_B]
    ended = end.log_softmax(-1)[:, WORDS.id(END)]
    loss = answer_loss(model, rows, None, WORDS.id(END))
    assert float(loss.detach()) == pytest.approx(float(-(picked + ended).mean().detach()), abs=1e-5)


def test_hints_stand_in_at_least_one_slot(model) -> None:
    slots = hinted_slots(model, ASKED, 4, WORDS, seeded(0))
    embed = model.get_input_embeddings().weight
    counts = []
    for n, problem in enumerate(ASKED):
        due = embed[WORDS.id(first_steps(problem)[1])]
        counts.append(int((slots[n] == due).all(dim=1).sum()))
    assert min(counts) >= 1
    assert min(counts) < 4


def test_the_shipped_assistant_knows_the_first_steps_by_heart() -> None:
    shipped, words = load_routed(shipped_folder())
    assistant = Assistant(shipped, words, 4)
    of = problems("chain", (3, 4), 100, seed=1, part="test")
    due = torch.tensor([words.id(first_steps(problem)[1]) for problem in of])
    assert float((assistant.answers(of) == due).float().mean()) > 0.95
    assert assistant.states(of).shape == (100, 4, assistant.width)
    assert not any(weight.requires_grad for weight in shipped.parameters())


def test_low_rank_starts_as_the_model_and_moves_nothing_else(model) -> None:
    import copy

    other = copy.deepcopy(model)
    rows = asked(ASKED, WORDS)
    with torch.no_grad():
        before, _ = answer_logits(other, rows, None)
    learned = add_low_rank(other, 2, seed=0)
    moving = [weight for weight in other.parameters() if weight.requires_grad]
    assert {id(w) for w in moving} == {id(w) for w in learned}
    with torch.no_grad():
        after, _ = answer_logits(other, rows, None)
        torch.testing.assert_close(after, before)
        for weight in learned:
            weight.add_(0.5)
        moved, _ = answer_logits(other, rows, None)
    assert float((moved - before).abs().max()) > 0.1


def test_a_projector_maps_every_slot_by_one_matrix() -> None:
    projector = Projector(5, 7, seed=0)
    states = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    projector.scale_to(states)
    out = projector(states)
    wanted = (states / states.std()) @ projector.linear.weight.T + projector.linear.bias
    torch.testing.assert_close(out, wanted)
    assert out.shape == (3, 4, 7)


def test_a_fitted_projector_is_the_least_squares_map_of_the_last_slot() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(200, 3, 5, generator=generator)
    weight, bias = torch.randn(7, 5, generator=generator), torch.randn(7, generator=generator)
    projector = Projector(5, 7, seed=0)
    projector.scale_to(states)
    projector.fit(states, states[:, -1] @ weight.T + bias)
    torch.testing.assert_close(
        projector(states)[:, -1], states[:, -1] @ weight.T + bias, atol=0.05, rtol=0.05
    )


def test_the_contrast_is_the_papers_sum_and_holds_thoughts_apart() -> None:
    thoughts = torch.randn(3, 5, 2, 4, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(thoughts.shape, generator=torch.Generator().manual_seed(1)) >= 0.5
    total = 0.0
    for b in range(5):
        own = [thoughts[k, b].flatten() for k in range(3)]
        noisy = [(thoughts[k, b] * noise[k, b] * 2).flatten() for k in range(3)]
        for k in range(3):
            cos = [float(torch.cosine_similarity(own[k], other, dim=0)) for other in noisy]
            scaled = [20 * c for c in cos]
            total -= scaled[k] - float(torch.logsumexp(torch.tensor(scaled), 0))
    found = contrast(thoughts, torch.Generator().manual_seed(1))
    assert float(found) == pytest.approx(total / 15, abs=1e-4)
    # Thoughts that are all the same cannot be told apart: at least log K.
    same = thoughts[:1].expand(3, -1, -1, -1)
    assert float(contrast(same, torch.Generator().manual_seed(1))) > np.log(3) - 0.3


def test_several_thoughts_share_a_map_and_vote(model) -> None:
    rows = asked(ASKED, WORDS)
    several = Thoughts(5, WIDTH, thoughts=3, seed=0)
    states = torch.randn(len(ASKED), 4, 5, generator=torch.Generator().manual_seed(0))
    out = several(states)
    assert out.shape == (3, len(ASKED), 4, WIDTH)
    moved = (states + several.offset_KD[1]) @ several.linear.weight.T + several.linear.bias
    torch.testing.assert_close(out[1], moved)
    single = [answer_logits(model, rows, slots)[0].argmax(dim=1).tolist() for slots in out]
    due = []
    for n, wanted in enumerate(rows.answer_B.tolist()):
        said = [answers[n] for answers in single]
        most = max(sorted(set(said)), key=said.count)
        due.append(most == wanted)
    assert right_by_vote(model, rows, out) == due
    loss = contrasted_loss(model, rows, out, WORDS.id(END), weight=0.0, generator=torch.Generator())
    each = [float(answer_loss(model, rows, slots, WORDS.id(END)).detach()) for slots in out]
    assert float(loss.detach()) == pytest.approx(np.mean(each), abs=1e-5)


def stream(backend: NanoBackend, content) -> str:
    request = Request(messages=(Message(role="user", content=content),), model="nano")
    sampling = Sampling(max_tokens=3, temperature=0.0)

    async def run() -> str:
        draw = Draw(request, sampling, model="nano", thinking=Thinking(enabled=False))
        async with aclosing(backend.stream(draw)) as chunks:
            return "".join([chunk.text async for chunk in chunks])

    return asyncio.run(run())


def test_served_answers_are_torchs(model, tmp_path: Path) -> None:
    save_routed(model, WORDS, tmp_path, {"name": "backbone"})
    backend = NanoBackend(tmp_path)
    slots = torch.randn(len(ASKED), 4, WIDTH, generator=torch.Generator().manual_seed(3))
    said = []
    for problem, vectors in zip(ASKED, slots, strict=True):
        parts = (TextPart(text=problem.prompt), prompt_embeds_part(vectors.numpy()))
        said.append(stream(backend, parts))
    with torch.no_grad():
        answer, _ = answer_logits(model, asked(ASKED, WORDS), slots)
    due = []
    for token in answer.argmax(dim=1).tolist():
        name = WORDS.tokens[token]
        due.append(name if len(name) == 1 else "")
    assert [text[:1] if d else "" for text, d in zip(said, due, strict=True)] == due
    assert len({text[:1] for text in said}) > 1
    plain = [stream(backend, (TextPart(text=problem.prompt),)) for problem in ASKED]
    assert plain != said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((TextPart(text="3f"), prompt_embeds_part(np.ones((2, 8)))), "vectors of 8 numbers"),
        ((prompt_embeds_part(np.ones((2, WIDTH))), TextPart(text="3f")), "put them last"),
        ((TextPart(text="3f"), OpaquePart(json=json.dumps({"type": "prompt_embeds"}))), "`data`"),
    ],
)
def test_vectors_that_do_not_fit_are_a_400(model, tmp_path: Path, content, said: str) -> None:
    save_routed(model, WORDS, tmp_path, {"name": "backbone"})
    with pytest.raises(UpstreamRejected, match=said) as caught:
        stream(NanoBackend(tmp_path), content)
    assert caught.value.status == 400
