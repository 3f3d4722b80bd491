"""Our DeGRPO loss and the installed TRL's GRPO loss with mapped advantages are the same number."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TRL and what it imports warn as they load
    pytest.importorskip("trl")

from suffice.backends.nano.backend import shipped_folder  # noqa: E402
from suffice.backends.nano.vocabulary import Vocabulary  # noqa: E402
from suffice.core.errors import ConfigError, InputError  # noqa: E402
from suffice.tasks.puzzles import ALPHABET, Mixture  # noqa: E402
from suffice.training.modes import losses  # noqa: E402
from suffice.training.modes.mode_tokens import Modes, mode_reward, modes_of  # noqa: E402
from suffice.training.modes.probe import probe_choice  # noqa: E402
from suffice.training.modes.rewards import ModePrice  # noqa: E402
from suffice.training.modes.sequences import (  # noqa: E402
    Batch,
    Learner,
    response_logits,
    token_logprobs,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
VOCABULARY = Vocabulary.of(ALPHABET)
LENGTHS = (3, 9, 4, 9, 3, 6)


def tokenizer_of(vocabulary: Vocabulary) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(vocabulary.to_json()),
        eos_token="<end>", pad_token="<pad>", unk_token="<unk>",
    )  # fmt: skip


def trainer(
    folder: Path,
    norm: losses.Norm,
    *,
    alpha: float,
    reward: Any = None,
    forced_halves: bool = False,
    mode_entropy: float = 0.0,
    **changes: Any,
) -> Any:
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM

    from suffice.training.modes.trl_trainer import DeGRPOTrainer, degrpo_arguments

    tokenizer = tokenizer_of(VOCABULARY)
    modes = modes_of(tokenizer)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=len(VOCABULARY), max_position_embeddings=64,
        bos_token_id=None, eos_token_id=VOCABULARY.id("<end>"), pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).double()
    arguments = {
        "output_dir": str(folder), "per_device_train_batch_size": len(LENGTHS),
        "num_generations": 2, "max_completion_length": 12, "max_steps": 1,
        "report_to": [], "use_bias_correction_kl": False,
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
        "temperature": 1.0, "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no",
        "disable_tqdm": True, "generation_kwargs": {"do_sample": True}, **changes,
    }  # fmt: skip
    data = Dataset.from_dict(
        {"prompt": ["<user>3b<assistant>", "<user>7ca<assistant>"] * 6, "answer": ["6", "5"] * 6}
    )
    return DeGRPOTrainer(
        model=model, processing_class=tokenizer, train_dataset=data, alpha=alpha, norm=norm,
        modes=modes, reward_funcs=reward or mode_reward(ModePrice(), modes),
        forced_halves=forced_halves, mode_entropy=mode_entropy,
        args=degrpo_arguments(norm, **arguments),
    )  # fmt: skip


def batch() -> tuple[Batch, Any, Any]:
    """Responses of unequal lengths with advantages and old log-probabilities off the policy."""
    generator = torch.Generator().manual_seed(5)
    B, T, V = len(LENGTHS), max(LENGTHS), len(VOCABULARY)
    mask = torch.arange(T)[None] < torch.tensor(LENGTHS)[:, None]
    response = torch.randint(8, V, (B, T), generator=generator).where(mask, 0)
    prompt = torch.randint(8, V, (B, 4), generator=generator)
    prompt_mask = torch.ones(B, 4, dtype=torch.bool)
    prompt_mask[::2, 0] = False  # left padding
    advantage = torch.randn(B, generator=generator, dtype=torch.float64)
    noise = 0.3 * torch.randn(B, T, generator=generator, dtype=torch.float64)
    return (
        Batch(prompt_BP=prompt, prompt_mask_BP=prompt_mask, response_BT=response, mask_BT=mask),
        advantage,
        noise,
    )


@pytest.mark.parametrize("norm", ["paper", "released"])
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_loss_and_gradient_equal_those_of_trl(
    tmp_path: Path, norm: losses.Norm, beta: float
) -> None:
    alpha = 0.01
    trl = trainer(tmp_path, norm, alpha=alpha)
    trl.beta = beta  # set late: TRL would load its reference model from the hub by name
    model = trl.model
    model.train()
    drawn, advantage, noise = batch()
    logits, _ = response_logits(model, drawn)
    logprob = torch.log_softmax(logits, dim=-1)
    logprob = logprob.gather(2, drawn.response_BT[..., None]).squeeze(2)
    old, reference = logprob.detach() + noise, logprob.detach() - noise
    weights = losses.advantage_weights(drawn.mask_BT, alpha=alpha, norm=norm)
    trl.current_gradient_accumulation_steps = 1
    theirs = trl._compute_loss(
        model,
        {
            "prompt_ids": drawn.prompt_BP,
            "prompt_mask": drawn.prompt_mask_BP.long(),
            "completion_ids": drawn.response_BT,
            "completion_mask": drawn.mask_BT.long(),
            "advantages": advantage[:, None] * weights,
            "old_per_token_logps": old,
            "ref_per_token_logps": reference,
        },
    )
    tokens = losses.clipped(logprob, old, advantage[:, None].expand_as(logprob), 0.2)
    ours = losses.degrpo(tokens, drawn.mask_BT, alpha=alpha, norm=norm)
    if beta:
        ours = ours + beta * losses.kl_penalty(logprob, reference, drawn.mask_BT, norm)
    assert float(theirs.detach()) == pytest.approx(float(ours.detach()), abs=2e-7)
    weights_of = [w for w in model.parameters() if w.requires_grad]
    for a, b in zip(
        torch.autograd.grad(theirs, weights_of), torch.autograd.grad(ours, weights_of), strict=True
    ):
        assert torch.allclose(a, b, atol=2e-7)


def test_our_token_logprobs_are_trls(tmp_path: Path) -> None:
    trl = trainer(tmp_path, "paper", alpha=0.1)
    drawn, _, _ = batch()
    logits, _ = response_logits(trl.model, drawn)
    ids = torch.cat([drawn.prompt_BP, drawn.response_BT], dim=1)
    mask = torch.cat([drawn.prompt_mask_BP, drawn.mask_BT], dim=1).long()
    theirs = trl._get_per_token_logps_and_entropies(
        trl.model, ids, mask, drawn.response_BT.shape[1]
    )[0]
    ours = token_logprobs(logits, drawn.response_BT)
    assert torch.allclose(ours[drawn.mask_BT].double(), theirs[drawn.mask_BT].double(), atol=1e-5)


def undecided_nano() -> Any:
    """The shipped model with its choice taken out: both modes' tokens have one row."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(shipped_folder(), dtype="float32")
    rows = [VOCABULARY.id("<short>"), VOCABULARY.id("<think>")]
    with torch.no_grad():
        head = model.get_submodule("lm_head").weight
        head[rows] = head[rows].mean(dim=0)
    return model


def test_the_documented_call_moves_hard_problems_towards_thinking(tmp_path: Path) -> None:
    from datasets import Dataset

    from suffice.training.modes.trl_trainer import DeGRPOTrainer, degrpo_arguments

    problems = Mixture(difficulties=(4, 5)).draw(64, seed=0, step=0, split="train")
    model, tokenizer = undecided_nano(), tokenizer_of(VOCABULARY)
    modes = modes_of(tokenizer)
    data = Dataset.from_list(
        [{"prompt": f"<user>{p.prompt}<assistant>", "answer": p.answer} for p in problems]
    )
    trl = DeGRPOTrainer(
        model=model, processing_class=tokenizer, train_dataset=data, modes=modes, alpha=0.1,
        norm="paper", reward_funcs=mode_reward(ModePrice(gamma=0.5), modes),
        args=degrpo_arguments(
            "paper", output_dir=str(tmp_path), num_generations=8, per_device_train_batch_size=64,
            max_completion_length=32, max_steps=6, learning_rate=1e-3, temperature=1.0,
            report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False,
            logging_steps=1, save_strategy="no", disable_tqdm=True, seed=0,
        ),
    )  # fmt: skip
    held = Learner(model, VOCABULARY, Mixture(difficulties=(4, 5)))
    assert set(probe_choice(held, seed=0).values()) == {0.5}
    trl.train()
    # A short guess is right one time in ten, a thought always: S1's reward made this fall to .1.
    assert min(probe_choice(held, seed=0).values()) > 0.6
    told = [line for line in trl.state.log_history if "modes/think_share" in line]
    assert told[0]["modes/first_is_mode"] > 0.9


def test_a_model_without_modes_and_other_losses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="completions begin with a mode token"):
        trainer(tmp_path, "paper", alpha=0.1).train()
    for options in ({"epsilon_high": 0.4}, {"importance_sampling_level": "sequence"}):
        with pytest.raises(ConfigError, match="changes the loss"):
            trainer(tmp_path, "paper", alpha=0.1, **options)


def test_a_step_of_the_whole_trainer_changes_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from suffice.training.modes import trl_trainer

    monkeypatch.setattr(trl_trainer, "LEAST_MODE_SHARE", 0.0)  # a random model has no modes

    def odd_first_token(completion_ids: Any, **_: Any) -> list[float]:
        return [float(ids[0] % 2) for ids in completion_ids]  # a random model never answers

    trl = trainer(
        tmp_path, "paper", alpha=0.1, reward=odd_first_token, max_steps=2, learning_rate=1e-3
    )
    trl.model.float()
    before = [w.detach().clone() for w in trl.model.parameters()]
    seen: list[Any] = []
    whole = trl._generate_and_score_completions

    def watched(inputs: Any) -> Any:
        seen.append(whole(inputs))
        return seen[-1]

    trl._generate_and_score_completions = watched
    trl.train()
    assert any(not torch.equal(a, b) for a, b in zip(before, trl.model.parameters(), strict=True))
    advantages, mask = seen[0]["advantages"], seen[0]["completion_mask"]
    assert advantages.shape == mask.shape
    assert bool((advantages[mask == 0] == 0).all())


def test_forced_halves_show_a_mode_that_is_rarely_drawn(tmp_path: Path) -> None:
    from datasets import Dataset

    from suffice.training.modes.trl_trainer import DeGRPOTrainer, degrpo_arguments

    problems = Mixture(difficulties=(4, 5)).draw(32, seed=0, step=0, split="train")
    model, tokenizer = undecided_nano(), tokenizer_of(VOCABULARY)
    with torch.no_grad():  # log odds of thinking about -4: drawn once in fifty
        direction = model.get_submodule("lm_head").weight
        learner = Learner(model, VOCABULARY, Mixture(difficulties=(4, 5)))
        asked = [VOCABULARY.prompt(problem.prompt) for problem in problems]
        state = torch.stack(
            [model.model(torch.tensor([ids])).last_hidden_state[0, -1] for ids in asked]
        ).mean(dim=0)
        direction[VOCABULARY.id("<think>")] -= 4 * state / (state @ state)
    before = probe_choice(learner, seed=0)
    assert max(before.values()) < 0.06
    modes = modes_of(tokenizer)
    data = Dataset.from_list(
        [{"prompt": f"<user>{p.prompt}<assistant>", "answer": p.answer} for p in problems]
    )
    trl = DeGRPOTrainer(
        model=model, processing_class=tokenizer, train_dataset=data, modes=modes, alpha=0.1,
        forced_halves=True, norm="paper",
        reward_funcs=mode_reward(ModePrice(gamma=0.5), modes),
        args=degrpo_arguments(
            "paper", output_dir=str(tmp_path), num_generations=4, per_device_train_batch_size=32,
            max_completion_length=32, max_steps=4, learning_rate=1e-3, temperature=1.0,
            report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False,
            logging_steps=1, save_strategy="no", disable_tqdm=True, seed=0,
        ),
    )  # fmt: skip
    seen: list[Any] = []
    whole = trl._generate_and_score_completions

    def watched(inputs: Any) -> Any:
        seen.append(whole(inputs))
        return seen[-1]

    trl._generate_and_score_completions = watched
    trl.train()
    first = seen[0]["completion_ids"][:, 0].tolist()
    short, think = VOCABULARY.id("<short>"), VOCABULARY.id("<think>")
    assert sorted(first) == sorted([short, think] * 16)
    assert torch.allclose(
        seen[0]["old_per_token_logps"][:, 0].exp(), torch.full((32,), 0.5), atol=1e-6
    )
    after = probe_choice(learner, seed=0)
    assert min(after[name] / before[name] for name in after) > 1.5
    with pytest.raises(ConfigError, match="even num_generations"):
        trainer(tmp_path, "paper", alpha=0.1, num_generations=3, forced_halves=True)


def test_the_bonus_is_the_entropy_of_the_two_modes(tmp_path: Path) -> None:
    plain, with_bonus = (
        trainer(tmp_path, "paper", alpha=0.1, mode_entropy=weight) for weight in (0.0, 0.3)
    )
    drawn, advantage, _ = batch()
    inputs = {
        "prompt_ids": drawn.prompt_BP, "prompt_mask": drawn.prompt_mask_BP.long(),
        "completion_ids": drawn.response_BT, "completion_mask": drawn.mask_BT.long(),
        "advantages": advantage[:, None].expand(-1, drawn.response_BT.shape[1]),
    }  # fmt: skip
    with_bonus.model.load_state_dict(plain.model.state_dict())
    losses_of = []
    for trl in (plain, with_bonus):
        trl.current_gradient_accumulation_steps = 1
        losses_of.append(float(trl._compute_loss(trl.model, inputs).detach()))
    logits, _ = response_logits(plain.model, drawn)
    modes = [VOCABULARY.id("<short>"), VOCABULARY.id("<think>")]
    p = torch.softmax(logits[:, 0, modes].double(), dim=1)
    entropy = float(-(p * p.log()).sum(dim=1).mean())
    assert losses_of[0] - losses_of[1] == pytest.approx(0.3 * entropy, abs=1e-5)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="steps_per_generation=1"):
        trainer(tmp_path, "released", alpha=0.1, gradient_accumulation_steps=2)
    with pytest.raises(InputError, match="column `answer`"):
        mode_reward(ModePrice(), Modes(short=5, think=6))(["5"], [[5, 8]])
