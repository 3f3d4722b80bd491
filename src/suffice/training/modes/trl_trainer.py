"""DeGRPO for real models: TRL's GRPOTrainer with other advantages, and nothing else changed.

Needs the extra `trl`. LoRA, vLLM rollouts and several GPUs work as in TRL, since generation,
sharding and the loss are TRL's own.

    from suffice.training.modes.trl_trainer import DeGRPOTrainer, degrpo_arguments, mode_reward

    trainer = DeGRPOTrainer(
        model="Qwen/Qwen3-0.6B", train_dataset=dataset, alpha=0.001, norm="paper",
        reward_funcs=mode_reward(ModePrice(gamma=0.5), think_token_id=151667),
        args=degrpo_arguments("paper", output_dir="out", num_generations=8),
    )
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from suffice.core.errors import ConfigError, InputError, MissingExtra
from suffice.training.modes.losses import advantage_weights
from suffice.training.modes.rewards import Norm, Reward

try:
    from trl import GRPOConfig, GRPOTrainer
except ImportError as error:
    raise MissingExtra.of("trl", "trl", "the TRL form of DeGRPO") from error

# Which of TRL's normalisations the factors on the advantages assume.
LOSS_TYPE: dict[Norm, str] = {"paper": "grpo", "released": "bnpo"}


def degrpo_arguments(norm: Norm, **arguments: Any) -> Any:
    """A GRPOConfig for `norm`: its loss type, and rewards that are centred but not scaled."""
    return GRPOConfig(loss_type=LOSS_TYPE[norm], scale_rewards="none", **arguments)


class DeGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer whose first completion token, the mode, weighs `alpha` in the loss.

    The released normalisation counts tokens over the batch that is averaged; TRL shuffles and cuts
    a generation batch afterwards, so that norm needs `steps_per_generation=1`.
    """

    def __init__(self, *positional: Any, alpha: float, norm: Norm = "paper", **named: Any) -> None:
        super().__init__(*positional, **named)
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

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
        mask_BT = scored["completion_mask"]
        if "tool_mask" in scored:
            mask_BT = mask_BT * scored["tool_mask"]
        weights_BT = advantage_weights(mask_BT, alpha=self._alpha, norm=self._norm)
        scored["advantages"] = scored["advantages"][:, None] * weights_BT
        return scored


def mode_reward(
    reward: Reward, *, think_token_id: int, answer_of: Callable[[str], str] = str.strip
) -> Callable[..., list[float]]:
    """A TRL reward function: rewards a completion by its mode and by its equality to `answer`.

    The data set needs a column `answer`; `answer_of` takes the answer out of a completion's text.
    """

    def mode_reward(
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        answer: Sequence[str] | None = None,
        **columns: Any,
    ) -> list[float]:
        del columns
        if answer is None:
            raise InputError(
                "the data set has no column `answer`: without a verifiable answer nothing can be "
                "rewarded"
            )
        return [
            reward(
                right=answer_of(_text(completion)) == wanted,
                think=bool(ids) and ids[0] == think_token_id,
                tokens=len(ids),
            )
            for completion, ids, wanted in zip(completions, completion_ids, answer, strict=True)
        ]

    return mode_reward


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else str(completion[-1]["content"])
