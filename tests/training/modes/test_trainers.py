"""The trainers on a tiny model: priors, forced halves, what learns, exact resumption, errors."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from suffice.architecture.shape import Shape  # noqa: E402
from suffice.backends.nano.vocabulary import Vocabulary  # noqa: E402
from suffice.core.errors import (  # noqa: E402
    ConfigError,
    CorruptData,
    InputError,
    TrainingDiverged,
)
from suffice.tasks.puzzles import ALPHABET, Mixture  # noqa: E402
from suffice.training import responses  # noqa: E402
from suffice.training.model import build_model  # noqa: E402
from suffice.training.modes import policy_gradient, sequences  # noqa: E402
from suffice.training.modes.gate import Gate, fold_loss, gate_loss, train_gate  # noqa: E402
from suffice.training.modes.policy_gradient import train_policy  # noqa: E402
from suffice.training.modes.probe import probe_answers, probe_choice  # noqa: E402
from suffice.training.modes.rewards import ModePrice, TokenCost  # noqa: E402
from suffice.training.modes.rollout import Rollouts, roll_out  # noqa: E402
from suffice.training.modes.sequences import (  # noqa: E402
    Batch,
    Learner,
    Pairs,
    check_room,
    demonstrations,
    drawn_logprobs,
    prompts,
    response_logits,
    think_logit,
    token_logprobs,
)
from suffice.training.modes.settings import METHODS, Routing, WarmUp  # noqa: E402
from suffice.training.modes.warm_up import paired, paired_loss, warm_up  # noqa: E402
from suffice.training.optimiser import initialise  # noqa: E402
from suffice.training.responses import draw  # noqa: E402
from suffice.training.run_state import RunState, seeded  # noqa: E402
from suffice.training.rung import Recipe  # noqa: E402
from suffice.training.settings import from_toml, from_values, plain  # noqa: E402

pytestmark = pytest.mark.torch
VOCABULARY = Vocabulary.of(ALPHABET)
MIXTURE = Mixture(difficulties=(1, 3))
SHAPE = Shape(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=16, vocab_size=len(VOCABULARY), tie_word_embeddings=False,
    config={"max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0},
)  # fmt: skip
SHORT_ID, THINK_ID = VOCABULARY.id("<short>"), VOCABULARY.id("<think>")
SMALL = Routing(
    steps=4, problems=4, group=4, max_tokens=16, probe_every=2, checkpoint_every=2, fold_steps=2,
    reference_samples=2, gate_width=8,
)  # fmt: skip
REWARD = ModePrice()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def learner(seed: int = 0, *, random_head: bool = True) -> Learner:
    model = build_model(SHAPE)
    initialise(model, Recipe(), 2, seed)
    if random_head:
        with torch.no_grad():
            head = model.get_submodule("lm_head").weight
            head.copy_(torch.randn(head.shape, generator=seeded(seed, "head")) * 0.2)
    return Learner(model, VOCABULARY, MIXTURE)


def state(learner: Learner, path: Path | None = None, **config: Any) -> RunState:
    return RunState(path=path, config=config, modules={"model": learner.model}, optimisers={})


def weights(learner: Learner) -> list[Any]:
    return [w.detach().clone() for w in learner.model.parameters()]


# --- sequences and rollouts


def test_left_padding_changes_nothing() -> None:
    own = learner()
    problems = Mixture(difficulties=(1, 6)).draw(6, seed=0, step=0, split="train")
    together, hidden = response_logits(
        own.model, demonstrations(problems, VOCABULARY).side(think=True)
    )
    for i, problem in enumerate(problems):
        batch = demonstrations([problem], VOCABULARY).side(think=True)
        alone, state_d = response_logits(own.model, batch)
        real = batch.mask_BT.shape[1]
        assert torch.allclose(together[i, :real], alone[0], atol=1e-5)
        assert torch.allclose(hidden[i], state_d[0], atol=1e-5)


def test_parts_of_like_length_equal_one_padded_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    own = learner()
    mixture = Mixture(difficulties=(1, 3, 6))
    drawn = roll_out(
        own.model, mixture.draw(9, seed=0, step=0, split="train"), VOCABULARY, REWARD, group=2,
        halves=True, max_tokens=20, temperature=1.0, generator=seeded(0),
    )  # fmt: skip
    whole, hidden = response_logits(own.model, drawn.batch)
    monkeypatch.setattr(sequences, "PART", 5)
    parts, choice = response_logits(own.model, drawn.batch)
    assert parts.shape == whole.shape
    kept = drawn.batch.mask_BT
    assert not bool(kept.all())
    torch.testing.assert_close(parts[kept], whole[kept], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(choice, hidden, atol=1e-5, rtol=1e-5)


def test_greedy_rollouts_equal_a_plain_loop_and_end_at_the_end_token() -> None:
    own = learner(3)
    problems = Mixture(difficulties=(1, 4)).draw(6, seed=0, step=0, split="train")
    ids, mask = draw(
        own.model, *prompts(problems, VOCABULARY), VOCABULARY,
        max_tokens=9, temperature=0.0, generator=seeded(0),
    )  # fmt: skip
    end, modes = VOCABULARY.id("<end>"), [VOCABULARY.id("<short>"), VOCABULARY.id("<think>")]
    for i, problem in enumerate(problems):
        row = VOCABULARY.prompt(problem.prompt)
        expected: list[int] = []
        while len(expected) < 9 and end not in expected:
            with torch.no_grad():
                logits = own.model(torch.tensor([row + expected])).logits[0, -1]
            choice = modes[int(logits[modes].argmax())] if not expected else int(logits.argmax())
            expected.append(choice)
        assert ids[i][mask[i]].tolist() == expected


def test_half_of_each_group_is_forced_either_way() -> None:
    own = learner()
    problems = MIXTURE.draw(3, seed=0, step=0, split="train")
    drawn = roll_out(
        own.model, problems, VOCABULARY, REWARD, group=4, halves=True, max_tokens=6,
        temperature=1.0, generator=seeded(0),
    )  # fmt: skip
    assert drawn.by_problem(drawn.think_B).tolist() == [[False, False, True, True]] * 3
    free = roll_out(
        own.model, problems, VOCABULARY, REWARD, group=64, halves=False, max_tokens=2,
        temperature=1.0, generator=seeded(0),
    )  # fmt: skip
    assert 0 < float(free.think_B.float().mean()) < 1


def test_rewards_follow_the_answers() -> None:
    own = learner()
    problems = MIXTURE.draw(2, seed=0, step=0, split="train")
    drawn = roll_out(
        own.model, problems, VOCABULARY, REWARD, group=2, halves=True, max_tokens=5,
        temperature=1.0, generator=seeded(1),
    )  # fmt: skip
    for right, think, reward in zip(
        drawn.right_B.tolist(), drawn.think_B.tolist(), drawn.reward_B.tolist(), strict=True
    ):
        assert reward == REWARD(right=right, think=think, tokens=0)


# --- warm-up


def test_the_initial_p_think_is_a_parameter() -> None:
    own = learner()
    warm_up(
        own, WarmUp(steps=25, pairs=8, learning_rate=4e-3, initial_p_think=0.2, control_weight=1.0),
        state(own), seed=0,
    )  # fmt: skip
    for p in probe_choice(own, seed=0).values():
        assert p == pytest.approx(0.2, abs=0.06)


def apart(model: Any, parts: list[Pairs], p_think: float) -> tuple[Any, Any]:
    """Both losses from one pass a side, token by token."""
    tokens, pairs, total, choice = 0, 0, torch.zeros(()), torch.zeros(())
    for part in parts:
        pairs += len(part.prompt_BP)
        for think in (False, True):
            side = part.side(think=think)
            logits, _ = response_logits(model, side)
            logprob = token_logprobs(logits, side.response_BT)
            for row, kept in zip(logprob, side.mask_BT, strict=True):
                total = total - row[1:][kept[1:]].sum()
                tokens += int(kept[1:].sum())
                choice = choice - (p_think if think else 1 - p_think) * row[0]
    return total / tokens, choice / pairs


def test_one_pass_over_both_modes_equals_one_pass_each() -> None:
    mixture = Mixture(tasks=("chain", "arithmetic"), difficulties=(1, 2, 4))
    parts = paired(mixture.draw(10, seed=0, step=0, split="train"), VOCABULARY)
    assert sum(len(part.prompt_BP) for part in parts) == 10
    # Prompts and responses of several lengths in a part, so that both kinds of padding occur.
    assert any(not bool(part.prompt_mask_BP.all()) for part in parts)
    assert any(not bool(part.think_mask_BT.all()) for part in parts)
    found = []
    for losses in (paired_loss, apart):
        own = learner()
        answer, control = losses(own.model, parts, 0.3)
        (answer + 0.5 * control).backward()
        gradient = torch.cat([w.grad.flatten() for w in own.model.parameters()])
        found.append((float(answer.detach()), float(control.detach()), gradient))
    (answer, control, gradient), (other, choice, wanted) = found
    assert answer == pytest.approx(other, rel=1e-5)
    assert control == pytest.approx(choice, rel=1e-5)
    assert float((gradient - wanted).norm() / wanted.norm()) < 1e-5


def test_the_warm_up_learns() -> None:
    own = learner(random_head=False)
    lines: list[dict[str, Any]] = []
    warm_up(
        own, WarmUp(steps=40, pairs=16, learning_rate=4e-3), state(own),
        seed=0, tell=lines.append, log_every=20,
    )  # fmt: skip
    assert lines[-1]["answer_loss"] < 2.0 < lines[0]["answer_loss"] + 1.0  # ln 32 = 3.47 at first


def test_answers_are_probed_as_greedy_rollouts_are_judged() -> None:
    own = learner(random_head=False)
    warm_up(own, WarmUp(steps=60, pairs=16, learning_rate=4e-3), state(own), seed=0)
    found = probe_answers(own, seed=0)
    for (task, difficulty), problems in MIXTURE.distinct(32, seed=0, split="held_out").items():
        drawn = roll_out(
            own.model, problems, VOCABULARY, REWARD, group=2, halves=True, max_tokens=24,
            temperature=0.0, generator=seeded(0),
        )  # fmt: skip
        right = drawn.by_problem(drawn.right_B.float()).mean(dim=0)
        assert found["short"][f"{task}/{difficulty}"] == pytest.approx(float(right[0]), abs=1e-4)
        # A thought may reach the answer by other steps than those shown.
        assert found["think"][f"{task}/{difficulty}"] <= float(right[1]) + 1e-4


# --- reinforcement


def scripted_rollouts(own: Learner, *, favour_think: bool) -> Callable[..., Any]:
    """Rollouts whose reward is the mode alone."""

    def rolled(*given: Any, **named: Any) -> Any:
        drawn = roll_out(*given, **named)
        right = drawn.think_B if favour_think else ~drawn.think_B
        return replace(drawn, right_B=right, reward_B=right.float() * 2 - 1)

    return rolled


@pytest.mark.parametrize("method", [each for each in METHODS if each != "gate"])
@pytest.mark.parametrize("favour_think", [True, False])
def test_a_rewarded_mode_becomes_likelier(
    monkeypatch: pytest.MonkeyPatch, method: Any, favour_think: bool
) -> None:
    own = learner()
    before = sum(probe_choice(own, seed=0).values())
    monkeypatch.setattr(
        policy_gradient, "roll_out", scripted_rollouts(own, favour_think=favour_think)
    )
    config = replace(SMALL, method=method, learning_rate=3e-3, alpha=1.0, group=8)
    train_policy(own, config, REWARD, state(own))
    after = sum(probe_choice(own, seed=0).values())
    assert (after > before + 0.02) if favour_think else (after < before - 0.02)


def test_adaptthink_prefers_short_where_both_modes_are_equally_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = learner()
    before = sum(probe_choice(own, seed=0).values())

    def always_right(*given: Any, **named: Any) -> Any:
        drawn = roll_out(*given, **named)
        return replace(drawn, right_B=torch.ones_like(drawn.right_B))

    monkeypatch.setattr(policy_gradient, "roll_out", always_right)
    config = replace(SMALL, method="adaptthink", learning_rate=3e-3, delta=0.5, group=8)
    train_policy(own, config, REWARD, state(own))
    assert sum(probe_choice(own, seed=0).values()) < before - 0.02


def test_an_entropy_bonus_pulls_a_biased_choice_back() -> None:
    own = learner()
    drawn = roll_out(
        own.model, MIXTURE.draw(4, seed=0, step=0, split="train"), VOCABULARY, REWARD,
        group=2, halves=True, max_tokens=4, temperature=1.0, generator=seeded(0),
    )  # fmt: skip
    drawn = replace(drawn, reward_B=torch.zeros_like(drawn.reward_B))  # nothing else to learn
    advantage = torch.zeros(len(drawn.reward_B))
    (part,) = policy_gradient._minibatches(
        own.model, drawn, advantage, None, VOCABULARY, config=SMALL, step=0
    )
    loss = policy_gradient.objective(own.model, part, VOCABULARY, replace(SMALL, entropy=0.1))
    head = own.model.get_submodule("lm_head").weight
    (gradient,) = torch.autograd.grad(loss, head)
    logits, _ = response_logits(own.model, drawn.batch)
    biased = float(think_logit(logits[:, 0], VOCABULARY).mean().detach())
    with torch.no_grad():
        head.sub_(0.1 * gradient / gradient.norm())
    logits, _ = response_logits(own.model, drawn.batch)
    assert abs(float(think_logit(logits[:, 0], VOCABULARY).mean().detach())) < abs(biased)


def test_minibatches_cover_every_response_once() -> None:
    own = learner()
    problems = MIXTURE.draw(4, seed=0, step=0, split="train")
    drawn = roll_out(
        own.model, problems, VOCABULARY, REWARD, group=4, halves=False, max_tokens=5,
        temperature=1.0, generator=seeded(0),
    )  # fmt: skip
    advantage = torch.arange(16.0)
    parts = policy_gradient._minibatches(
        own.model,
        drawn,
        advantage,
        None,
        VOCABULARY,
        config=replace(SMALL, minibatches=4),
        step=0,
    )
    assert sorted(torch.cat([p.advantage_B for p in parts]).tolist()) == list(range(16))
    assert [len(p.advantage_B) for p in parts] == [4, 4, 4, 4]


# --- the gate


def test_the_gate_learns_where_thinking_pays_and_the_body_stays() -> None:
    own = learner()
    own.model.requires_grad_(False)
    before = weights(own)
    gate = Gate(64, 16, seed=0)
    optimiser = torch.optim.AdamW(gate.parameters(), lr=4e-2)
    for step in range(60):
        problems = MIXTURE.draw(8, seed=0, step=step, split="train")
        drawn = roll_out(
            own.model, problems, VOCABULARY, REWARD, group=2, halves=True, max_tokens=3,
            temperature=1.0, generator=seeded(0, step),
        )  # fmt: skip
        hard = torch.tensor([p.difficulty > 1 for p in problems]).repeat_interleave(2)
        drawn = replace(drawn, reward_B=(drawn.think_B == hard).float())
        loss = gate_loss(own.model, gate, drawn)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = probe_choice(own, seed=0, gate=gate)
    assert found["chain/1"] < 0.3
    assert found["chain/3"] > 0.7
    assert all(torch.equal(a, b) for a, b in zip(before, weights(own), strict=True))


def test_a_gate_sees_what_little_of_the_problem_is_left_at_the_choice() -> None:
    generator = seeded(0, "states")
    told = torch.randn(400, 1, generator=generator)
    direction, constant = (torch.randn(1, 32, generator=generator) for _ in range(2))
    states = 3 * constant + 0.01 * told * direction
    gate = Gate(32, 16, seed=0)
    gate.scale_to(states)
    optimiser = torch.optim.AdamW(gate.parameters(), lr=1e-2)
    for step in range(60):
        rows = slice(32 * (step % 10), 32 * (step % 10) + 32)
        wanted = (told[rows, 0] > 0).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(gate(states[rows]), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    right = (gate(states[320:]) > 0) == (told[320:, 0] > 0)
    assert float(right.float().mean()) > 0.95


def test_equal_rewards_teach_the_gate_nothing() -> None:
    own = learner()
    problems = MIXTURE.draw(4, seed=0, step=0, split="train")
    drawn = roll_out(
        own.model, problems, VOCABULARY, REWARD, group=2, halves=True, max_tokens=3,
        temperature=1.0, generator=seeded(0),
    )  # fmt: skip
    drawn = replace(drawn, reward_B=torch.ones_like(drawn.reward_B))
    assert float(gate_loss(own.model, Gate(64, 8, seed=0), drawn).detach()) == 0.0


def fold(own: Learner, gate: Gate, steps: int) -> tuple[Learner, Rollouts]:
    """The frozen body and the last responses of a fold into `own`."""
    frozen = copy.deepcopy(own.model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(own.model.parameters(), lr=2e-3)
    for step in range(steps):
        problems = MIXTURE.draw(8, seed=0, step=step, split="train")
        drawn = roll_out(
            frozen, problems, VOCABULARY, REWARD, group=2, halves=True, max_tokens=6,
            temperature=1.0, generator=seeded(0, step),
        )  # fmt: skip
        loss = fold_loss(own.model, frozen, gate, drawn, VOCABULARY)
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return Learner(frozen, VOCABULARY, MIXTURE), drawn


def test_folding_moves_the_choice_and_keeps_the_answers() -> None:
    own, gate = learner(), Gate(64, 8, seed=0)
    # A body from nothing writes anything first; this one writes a mode, as a warmed-up one does.
    fold(own, gate, 80)
    with torch.no_grad():
        gate.outer.bias.fill_(2.0)  # p(think) = .88 everywhere
    frozen, drawn = fold(own, gate, 40)
    for p in probe_choice(own, seed=0).values():
        assert p == pytest.approx(0.88, abs=0.05)
    mine, _ = response_logits(own.model, drawn.batch)
    theirs, _ = response_logits(frozen.model, drawn.batch)
    modes = [VOCABULARY.id(token) for token in ("<short>", "<think>")]
    assert float(mine[:, 0].detach().softmax(-1)[:, modes].sum(-1).min()) > 0.95
    agree = mine[:, 1:].argmax(-1) == theirs[:, 1:].argmax(-1)
    assert float(agree[drawn.batch.mask_BT[:, 1:]].float().mean()) > 0.9


# --- resumption and errors


def trainer_of(method: str) -> Callable[[Learner, Routing, RunState], None]:
    train = train_gate if method == "gate" else train_policy
    # An untrained model is never right: a price on tokens makes its responses differ.
    reward = TokenCost(cost_per_token=0.05, answer_value=1.0)
    return lambda own, config, kept: train(own, config, reward, kept)


class Interrupted(Exception):
    """Stands for a power cut."""


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_ends_exactly_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    config = replace(SMALL, method=method, kl=0.02 if method == "degrpo" else 0.0, steps=5)
    whole = learner()
    trainer_of(method)(whole, config, state(whole, tmp_path / "a.pt"))

    saved = RunState.save

    def save_and_die(self: RunState) -> None:
        saved(self)
        raise Interrupted

    cut = learner()
    monkeypatch.setattr(RunState, "save", save_and_die)
    with pytest.raises(Interrupted):
        trainer_of(method)(cut, config, state(cut, tmp_path / "b.pt"))
    monkeypatch.setattr(RunState, "save", saved)
    fresh = learner()
    kept = state(fresh, tmp_path / "b.pt")
    trainer_of(method)(fresh, config, kept)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(fresh), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(whole), weights(cut), strict=True))
    lines = [line["step"] for line in kept.lines or []]
    assert lines == sorted(set(lines))
    assert lines[0] == 1


def test_an_interrupted_warm_up_goes_on_exactly(tmp_path: Path) -> None:
    config = WarmUp(steps=6, pairs=4, checkpoint_every=2)
    whole, cut = learner(), learner()
    warm_up(whole, config, state(whole), seed=0)

    class Dying(RunState):
        def save(self) -> None:
            super().save()
            raise Interrupted

    with pytest.raises(Interrupted):
        warm_up(
            cut, config,
            Dying(tmp_path / "w.pt", {}, {"model": cut.model}, {}),
            seed=0,
        )  # fmt: skip
    fresh = learner()
    warm_up(fresh, config, state(fresh, tmp_path / "w.pt"), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(fresh), strict=True))


def test_a_changed_config_is_not_resumed(tmp_path: Path) -> None:
    own = learner()
    first = state(own, tmp_path / "s.pt", routing=plain(SMALL))
    train_policy(own, SMALL, REWARD, first)
    other = state(own, tmp_path / "s.pt", routing=plain(replace(SMALL, alpha=0.5, steps=9)))
    with pytest.raises(InputError, match=r"routing.alpha: 0.1 -> 0.5; routing.steps: 4 -> 9"):
        train_policy(own, SMALL, REWARD, other)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    own = learner()
    path = tmp_path / "s.pt"
    train_policy(own, SMALL, REWARD, state(own, path))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorruptData, match=r"s.pt' cannot be read .* delete it"):
        train_policy(own, SMALL, REWARD, state(own, path))


@pytest.mark.parametrize("method", ["grpo", "gate"])
def test_a_loss_that_is_no_number_stops_the_run(method: Any) -> None:
    own = learner()
    kept = state(own)
    with torch.no_grad():
        own.model.get_submodule("model.norm").weight[0] = float("inf")
    config = replace(SMALL, method=method)
    with pytest.raises(TrainingDiverged, match="model's outputs are not numbers"):
        trainer_of(method)(own, config, kept)
    with pytest.raises(TrainingDiverged, match="loss of the warm-up is nan at step 0"):
        warm_up(own, WarmUp(steps=2, pairs=2), state(own), seed=0)


def test_no_room_for_control_tokens_or_responses() -> None:
    config = build_model(SHAPE).config
    check_room(config, VOCABULARY, 8, 48)
    with pytest.raises(InputError, match="no room for a control token and a response of 57"):
        check_room(config, VOCABULARY, 8, 58)
    with pytest.raises(InputError, match="3 at least"):
        check_room(config, VOCABULARY, 8, 2)
    config.vocab_size = 20
    with pytest.raises(InputError, match="no room for the control tokens"):
        check_room(config, VOCABULARY, 8, 48)


def test_settings_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[routing]\nmethod = "gate"\nsteps = 7\n')
    assert from_toml(Routing, path, table="routing") == Routing(method="gate", steps=7)
    path.write_text('[routing]\nmethod = "dpo"\n')
    with pytest.raises(ConfigError, match="method"):
        from_toml(Routing, path, table="routing")
    with pytest.raises(ConfigError, match=r"step: .*[Uu]nexpected"):
        from_values(Routing, {"step": 3}, source="t")
    with pytest.raises(ConfigError, match="group must be even for gate"):
        Routing(method="gate", group=5)
    with pytest.raises(ConfigError, match="strictly between 0 and 1"):
        WarmUp(initial_p_think=1.0)
    priced = from_values(Routing, {"token_price": 0.01}, source="t").reward
    assert priced == TokenCost(cost_per_token=0.01, answer_value=1.0)
    with pytest.raises(InputError, match="a token must cost 0 or more"):
        Routing(token_price=-1.0)
    with pytest.raises(ConfigError, match="does not exist"):
        from_toml(Routing, tmp_path / "none.toml")


def test_the_first_token_is_scored_as_it_was_drawn() -> None:
    """Among two modes: no gradient on tokens that could not be drawn, for any advantages."""
    generator = seeded(0, "scores")
    response = torch.tensor([[SHORT_ID, 9, 1], [THINK_ID, 8, 1]])
    logits = torch.randn(2, 3, len(VOCABULARY), generator=generator, requires_grad=True)
    scored = drawn_logprobs(logits, response, VOCABULARY)
    torch.testing.assert_close(scored[:, 1:], token_logprobs(logits, response)[:, 1:])
    (gradient,) = torch.autograd.grad((scored[:, 0] * torch.tensor([1.0, -0.3])).sum(), logits)
    others = [i for i in range(len(VOCABULARY)) if i not in (SHORT_ID, THINK_ID)]
    assert bool((gradient[:, 0, others] == 0).all())
    modes = logits.detach()[:, 0, [SHORT_ID, THINK_ID]]
    expected = modes.log_softmax(dim=1).diagonal()
    torch.testing.assert_close(scored[:, 0].detach(), expected)


def test_a_cut_response_is_wrong() -> None:
    own = learner()
    (problem,) = MIXTURE.draw(1, seed=0, step=0, split="train")
    shown = VOCABULARY.encode(f"<think>{problem.response(think=True)}<end>")
    script = iter(shown * 2)

    def scripted(logits: Any, *_: Any) -> Any:
        return torch.full((len(logits),), next(script))

    drawn = {}
    for room in (len(shown) - 1, len(shown)):
        script = iter(shown[1:])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(responses, "pick", scripted)
            drawn[room] = roll_out(
                own.model, [problem, problem], VOCABULARY, REWARD, group=2, halves=True,
                max_tokens=room, temperature=0.0, generator=seeded(0),
            )  # fmt: skip
    thinks = drawn[len(shown)].think_B
    assert drawn[len(shown)].right_B[thinks].all()
    assert not drawn[len(shown) - 1].right_B.any()
    assert not drawn[len(shown) - 1].ended_B.any()


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Routing, {"learning_rate": float("inf")}, "learning_rate must be a finite number"),
        (Routing, {"entropy": float("nan")}, "entropy must be a finite number"),
        (Routing, {"kl": float("nan")}, "kl must be a finite number"),
        (Routing, {"epsilon": 5.0}, "epsilon must lie between 0 and 1"),
        (Routing, {"steps": 2.5}, "steps must be a whole number, got 2.5"),
        (Routing, {"rate_end": 2.0}, "rate_end must lie between 0 and 1"),
        (WarmUp, {"learning_rate": float("nan")}, "learning_rate must be a finite number"),
        (WarmUp, {"pairs": True}, "pairs must be a whole number"),
    ],
)
def test_settings_that_no_run_can_use(kind: Any, values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**values)


def test_a_recipes_table_keeps_the_recipes_other_defaults() -> None:
    from suffice.recipes.modes.train import NanoTraining

    default = NanoTraining().routing
    found = from_values(NanoTraining, {"routing": {"gamma": 0.3}}, source="t").routing
    assert found == replace(default, gamma=0.3)
    assert found.method == "gate"
    assert from_values(Routing, {"gamma": 0.3}, source="t") == Routing(gamma=0.3)
    with pytest.raises(ConfigError, match=r"routing.step: .*[Uu]nexpected"):
        from_values(NanoTraining, {"routing": {"step": 3}}, source="t")


def test_the_rate_rises_and_falls_as_asked() -> None:
    flat = Routing(steps=5, learning_rate=1.0)
    assert [flat.rate_at(i) for i in range(5)] == [1.0] * 5
    shaped = Routing(steps=7, learning_rate=1.0, rate_warm_up=2, rate_end=0.2)
    assert [shaped.rate_at(i) for i in range(7)] == pytest.approx([0.5, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_progress_tells_what_the_issue_of_the_run_is() -> None:
    own = learner()
    lines: list[dict[str, Any]] = []
    ticks = itertools.count(5.0, 0.25)
    train_policy(own, SMALL, REWARD, state(own), tell=lines.append, clock=lambda: next(ticks))
    assert [line["step"] for line in lines] == [1, 2, 4]
    assert set(lines[0]["p_think"]) == {"chain/1", "chain/3"}
    assert {
        "loss", "reward", "accuracy", "tokens", "think_share", "elapsed_s", "gradient_norm",
        "groups_without_spread", "cut_share", "choice_entropy", "clip_share",
    } <= set(lines[0])  # fmt: skip
    for line in lines:  # groups of equal rewards teach nothing
        assert (line["gradient_norm"] > 0) == (line["groups_without_spread"] < 1)
    # Two modes over the difficulties that were drawn; a quarter of a second a line.
    assert set(lines[0]["right"]) == {"short", "think"}
    assert [line["left_s"] for line in lines] == pytest.approx([0.75, 0.5, 0.0])
    assert lines[0]["tokens_per_s"] == pytest.approx(lines[0]["tokens"] * 16 / 0.25)
    assert [line["elapsed_s"] for line in lines] == [0.25, 0.5, 0.75]


def test_batches_can_be_cut() -> None:
    pairs = demonstrations(MIXTURE.draw(4, seed=0, step=0, split="train"), VOCABULARY)
    part = pairs.side(think=False).rows(slice(1, 3))
    assert isinstance(part, Batch)
    assert part.lengths_B.tolist() == [3, 3]
