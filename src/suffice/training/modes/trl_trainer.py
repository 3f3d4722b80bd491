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
    """

    def __init__(
        self, *positional: Any, modes: Modes, alpha: float, norm: Norm = "paper", **named: Any
    ) -> None:
        super().__init__(*positional, **named)
        self._refuse_other_losses()
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
        return scored

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
