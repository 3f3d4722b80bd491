"""The choice that a warm-up teaches: a constant, or the chance of being wrong at once."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from suffice.architecture.shape import Shape  # noqa: E402
from suffice.backends.nano.vocabulary import END, SHORT, THINK, Vocabulary  # noqa: E402
from suffice.core.errors import ConfigError  # noqa: E402
from suffice.tasks.puzzles import Mixture  # noqa: E402
from suffice.training.model import build_model  # noqa: E402
from suffice.training.modes.data import alphabet_of  # noqa: E402
from suffice.training.modes.settings import WarmUp  # noqa: E402
from suffice.training.modes.warm_up import paired, paired_loss  # noqa: E402
from suffice.training.optimiser import initialise  # noqa: E402
from suffice.training.rung import Recipe  # noqa: E402

pytestmark = pytest.mark.torch
MIXTURE = Mixture(tasks=("restarts", "variables"), difficulties=(1, 2, 3))
WORDS = Vocabulary.of(alphabet_of(MIXTURE))


@pytest.fixture
def model():
    torch.set_num_threads(1)
    shape = Shape(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, vocab_size=len(WORDS), tie_word_embeddings=False,
        config={"max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0},
    )  # fmt: skip
    built = build_model(shape)
    initialise(built, Recipe(), 2, 0)
    head = built.get_submodule("lm_head").weight
    with torch.no_grad():
        head.copy_(torch.randn(head.shape, generator=torch.Generator().manual_seed(1)))
    return built


def by_hand(model, problem) -> tuple[float, float, float]:
    """(P(short answer), log π(short), log π(think)) of one problem, token by token."""
    prompt = WORDS.prompt(problem.prompt)
    row = [*prompt, WORDS.id(SHORT), *WORDS.encode(problem.answer), WORDS.id(END)]
    with torch.no_grad():
        logprob = model(torch.tensor([row])).logits[0].log_softmax(-1)
    first = len(prompt)
    answer = sum(float(logprob[n - 1, row[n]]) for n in range(first + 1, len(row)))
    choice = logprob[first - 1]
    return (
        float(torch.tensor(answer).exp()), float(choice[WORDS.id(SHORT)]),
        float(choice[WORDS.id(THINK)]),
    )  # fmt: skip


def test_each_problem_is_taught_its_own_chance_of_being_wrong_at_once(model) -> None:
    problems = MIXTURE.draw(6, seed=0, step=0, split="train")
    _, control = paired_loss(model, paired(problems, WORDS), None)
    found = [by_hand(model, problem) for problem in problems]
    wanted = -sum(p * short + (1 - p) * think for p, short, think in found) / len(found)
    assert float(control.detach()) == pytest.approx(wanted, rel=1e-4)


def test_the_chance_itself_is_not_moved_by_the_choice(model) -> None:
    problem = MIXTURE.draw(1, seed=1, step=0, split="train")
    p_short = by_hand(model, problem[0])[0]
    gradients = []
    for p_think in (None, 1 - p_short):
        model.zero_grad()
        _, control = paired_loss(model, paired(problem, WORDS), p_think)
        control.backward()
        gradients.append(torch.cat([w.grad.flatten() for w in model.parameters()]))
    own, constant = gradients
    assert float((own - constant).norm() / constant.norm()) < 1e-4


def test_another_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="choice_target must be constant or short_fails"):
        WarmUp(choice_target="oracle")
