"""DeGRPO for real models: TRL's GRPOTrainer with other advantages, and nothing else changed.

Needs the extra `trl`. LoRA, vLLM rollouts and several GPUs work as in TRL, since generation,
sharding and the loss are TRL's own.

    from suffice.training.modes.mode_tokens import mode_reward, modes_of
    from suffice.training.modes.trl_trainer import DeGRPOTrainer, degrpo_arguments

    modes = modes_of(tokenizer, short="<short>", think="<think>")
    trainer = DeGRPOTrainer(
        model="path/to/model-with-both-modes", train_dataset=dataset, modes=modes, alpha=0.001,
        norm="paper", reward_funcs=mode_reward(ModePrice(gamma=0.5), modes),
        args=degrpo_arguments("paper", output_dir="out", num_generations=8),
    )
"""

from __future__ import annotations

import math
from typing import Any

import torch

from suffice.core.errors import ConfigError, MissingExtra
from suffice.training.modes.losses import advantage_weights
from suffice.training.modes.mode_tokens import Modes
from suffice.training.modes.rewards import Norm

try:
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    raise MissingExtra.of("trl", "trl", "the TRL form of DeGRPO") from error

# Which of TRL's normalisations the factors on the advantages assume.
LOSS_TYPE: dict[Norm, str] = {"paper": "grpo", "released": "bnpo"}
# Options of TRL that change the loss to one that the factors are not derived for, with the value
# that leaves it as it is.
UNCHANGED: dict[str, Any] = {
    "scale_rewards": "none",
    "epsilon_high": None,
    "delta": None,
    "importance_sampling_level": "token",
    "top_entropy_quantile": 1.0,
    "off_policy_mask_threshold": None,
}
# A first batch in which fewer completions than this begin with a mode trains no choice.
LEAST_MODE_SHARE = 0.5


def degrpo_arguments(norm: Norm, **arguments: Any) -> Any:
    """A GRPOConfig for `norm`: its loss type, and rewards that are centred but not scaled."""
    own = {"scale_rewards": "none", "use_bias_correction_kl": False}
    return GRPOConfig(loss_type=LOSS_TYPE[norm], **{**own, **arguments})


class DeGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer whose first completion token, the mode, weighs `alpha` in the loss.

    The released normalisation counts tokens over the batch that is averaged; TRL shuffles and cuts
    a generation batch afterwards, so that norm needs `steps_per_generation=1`.

    The first batch is looked at: where most completions do not begin with one of `modes`, the model
    has no modes to choose between, and training stops with what to do. `modes/think_share` and
    `modes/first_is_mode` are logged beside TRL's own figures.

    `forced_halves`: half of each group begins with the short token, half with the think token,
    whatever the model would draw. The mode's probability of before is then .5, as it was drawn
    (AdaptThink, arXiv:2505.13417): a mode that is rarely drawn is seen at every step. Its gradient
    carries p / .5, so one that has no probability left stays there.

    `mode_entropy` is the weight of a bonus on the entropy of the choice between the two modes alone
    (TRL's `entropy_coef` is over all tokens and all positions), at one more pass over the prompts.
    """

    def __init__(
        self,
        *positional: Any,
        modes: Modes,
        alpha: float,
        norm: Norm = "paper",
        forced_halves: bool = False,
        mode_entropy: float = 0.0,
        **named: Any,
    ) -> None:
        super().__init__(*positional, **named)
        self._refuse_other_losses()
        self._forced_halves, self._mode_entropy = forced_halves, mode_entropy
        if forced_halves and (modes.think is None or self.num_generations % 2):
            raise ConfigError(
                "forced_halves needs a think token of its own and an even num_generations, got "
                f"{modes.think} and {self.num_generations}"
            )
        if not 0 <= mode_entropy < math.inf:
            raise ConfigError(f"mode_entropy must be 0 or more, got {mode_entropy}")
        self._modes, self._looked = modes, False
        if self.args.loss_type != LOSS_TYPE[norm]:
            raise ConfigError(
                f"norm {norm!r} needs loss_type={LOSS_TYPE[norm]!r}, args have "
                f"{self.args.loss_type!r}: make them with degrpo_arguments({norm!r}, ...)"
            )
        if norm == "released" and self.args.steps_per_generation != 1:
            raise ConfigError(
                "norm 'released' averages over the tokens of one batch and TRL cuts the generated "
                f"one into {self.args.steps_per_generation}: set steps_per_generation=1 and "
                "gradient_accumulation_steps=1, or use norm 'paper'"
            )
        self._alpha, self._norm = alpha, norm

    def _refuse_other_losses(self) -> None:
        for name, value in UNCHANGED.items():
            given = getattr(self.args, name, value)
            # TRL fills epsilon_high with epsilon where it is left out.
            same = given == value or (name == "epsilon_high" and given == self.args.epsilon)
            if not same:
                raise ConfigError(
                    f"{name}={given!r} changes the loss that DeGRPO's factors are derived for: "
                    f"leave it at {value!r}"
                )
        if self.args.beta and getattr(self.args, "use_bias_correction_kl", False):
            raise ConfigError(
                "use_bias_correction_kl=True multiplies the KL penalty by the importance ratio, "
                "which DeGRPO's does not: degrpo_arguments switches it off"
            )

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
        self._look_at_modes(scored["completion_ids"][:, 0])
        mask_BT = scored["completion_mask"]
        if "tool_mask" in scored:
            mask_BT = mask_BT * scored["tool_mask"]
        weights_BT = advantage_weights(mask_BT, alpha=self._alpha, norm=self._norm)
        scored["advantages"] = scored["advantages"][:, None] * weights_BT
        if self._forced_halves:
            self._drawn_evenly(scored)
        return scored

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, fields: Any, num_generations: int, *more: Any
    ) -> Any:
        """Completions; with `forced_halves` each is generated after its mode and begins with it."""
        whole = super()._generate_single_turn
        if not (self._forced_halves and self.model.training):
            return whole(prompt_ids, images, fields, num_generations, *more)
        half = num_generations // 2
        first = [
            self._modes.short if n % num_generations < half else self._modes.think
            for n in range(len(prompt_ids))
        ]
        begun = [[*ids, mode] for ids, mode in zip(prompt_ids, first, strict=True)]
        # Runs of equal prompts are now half as long, which is what vLLM is told.
        rest, logprobs = whole(begun, images, fields, half, *more)
        ids = [[mode, *said] for mode, said in zip(first, rest, strict=True)]
        if logprobs is not None:
            logprobs = [[math.log(0.5), *values] for values in logprobs]
        return ids, logprobs

    def _drawn_evenly(self, scored: dict[str, Any]) -> None:
        """Write log .5 as what the mode's log-probability was when it was drawn."""
        old = scored.get("old_per_token_logps")
        if old is None:
            ids = torch.cat([scored["prompt_ids"], scored["completion_ids"]], dim=1)
            mask = torch.cat([scored["prompt_mask"], scored["completion_mask"]], dim=1)
            length = scored["completion_ids"].shape[1]
            with torch.no_grad():
                old = self._get_per_token_logps_and_entropies(self.model, ids, mask, length)[0]
        old = old.clone()
        old[:, 0] = math.log(0.5)
        scored["old_per_token_logps"] = old

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        loss = super()._compute_loss(model, inputs)
        if not self._mode_entropy:
            return loss
        entropy = self._entropy_of_choice(model, inputs)
        self._metrics["train" if model.training else "eval"]["modes/entropy"].append(
            float(entropy.detach())
        )
        return loss - self._mode_entropy * entropy / self.current_gradient_accumulation_steps

    def _entropy_of_choice(self, model: Any, inputs: Any) -> torch.Tensor:
        """Mean over the batch, in nats, of the two modes' entropy at the first token."""
        logits_BV = model(
            input_ids=inputs["prompt_ids"], attention_mask=inputs["prompt_mask"], logits_to_keep=1
        ).logits[:, -1].float()  # fmt: skip
        if self._modes.think is None:  # any other token thinks
            logprob_BV = torch.log_softmax(logits_BV, dim=1)
            short_B = logprob_BV[:, self._modes.short]
            both_B2 = torch.stack([short_B, torch.log1p(-short_B.exp().clamp(max=1 - 1e-6))], dim=1)
        else:
            both_B2 = torch.log_softmax(logits_BV[:, [self._modes.short, self._modes.think]], dim=1)
        return -(both_B2.exp() * both_B2).sum(dim=1).mean()

    def _look_at_modes(self, first_B: torch.Tensor) -> None:
        firsts = first_B.tolist()
        is_mode = [self._modes.thinks([token]) is not None for token in firsts]
        thinks = [bool(self._modes.thinks([token])) for token in firsts]
        share = sum(is_mode) / len(is_mode)
        if not self._looked and share < LEAST_MODE_SHARE:
            raise ConfigError(
                f"only {sum(is_mode)} of {len(is_mode)} completions begin with a mode token (ids "
                f"{self._modes.short} and {self._modes.think}): the model has not learned the two "
                "modes, or the prompt does not end where it chooses; fine-tune it on answers in "
                "both modes first, with a loss of its own on the mode token"
            )
        self._looked = True
        figures = self._metrics["train" if self.model.training else "eval"]
        figures["modes/first_is_mode"].append(share)
        figures["modes/think_share"].append(sum(thinks) / len(thinks))
