"""How many families of the installed transformers are counted exactly: one line each, and sums.

    python -m tests.architecture.transformers_families

Every causal language model of transformers is built on torch's meta device, which allocates
nothing, from its family's default config, and its parameters are compared with ours. The tests of
this folder use the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from suffice.architecture.model_counts import parameters
from suffice.architecture.reading import model_from_config
from suffice.core.errors import UnsupportedModel

# Families whose default config transformers itself cannot build: the least that it can.
LEAST: dict[str, dict[str, Any]] = {
    "dots1": {"n_routed_experts": 16, "n_shared_experts": 2, "num_experts_per_tok": 4},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 4, "num_hidden_layers": 8},
    "ministral": {"head_dim": 128},
    "nemotron": {"head_dim": 128, "num_key_value_heads": 8},
}
# Not modelled: their first words say why.
REFUSED = {
    "blt": "bytes through three models",
    "cohere_compass_text": "transformers builds no default of it",
    "gemma4_assistant": "a draft model without a cache",
    "gemma4_unified_assistant": "a draft model without a cache",
    "git": "a caption model inside its vision tower",
    "inkling2_loop_text": "loops with message gates",
    "inkling2_text": "attention over earlier layers",
    "musicgen": "tokens of an audio codec",
    "musicgen_melody": "tokens of an audio codec",
    "qwen4_exp": "n-gram tables and gated residuals",
    "qwen4_exp_text": "n-gram tables and gated residuals",
    "reformer": "hashed attention",
}
# transformers allocates gate and up projections for LongCat's experts that do nothing; no
# checkpoint holds them.
UNUSED = {"longcat_flash": lambda c: c.num_layers * c.zero_expert_num
          * 2 * c.expert_ffn_hidden_size * c.hidden_size}  # fmt: skip
# transformers cannot build their default config; their text part is in the list by itself.
UNBUILDABLE = {"dbrx", "gemma3n"}
TOWERS = ("vision", "visual", "audio", "multi_modal", "embed_tokens_extend", "projector", "image_")


def causal_types() -> list[str]:
    """Every model type of the installed transformers that has a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def built(model_type: str, **given: Any) -> tuple[Any, int]:
    """Config and parameters of the language model, as transformers builds it."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type, **given)
    return config, counted(config)


def counted(config: Any, whole: Any = None) -> int:
    """Parameters of the language model that transformers builds of a config.

    `whole`: the wrapper's config, built where its text part has no causal model of its own.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    with torch.device("meta"):
        if whole is not None and type(config) not in AutoModelForCausalLM._model_mapping:
            model = AutoModelForImageTextToText.from_config(whole)
        else:
            model = AutoModelForCausalLM.from_config(config)
    total = sum(
        p.numel() for name, p in model.named_parameters() if not any(t in name for t in TOWERS)
    )
    unused = UNUSED.get(config.model_type)
    return total - (unused(config) if unused else 0)


class Outcome(NamedTuple):
    """What came of one family: equal, different, refused by name, or not built by transformers."""

    model_type: str
    outcome: str
    ours: int | None
    theirs: int | None


def outcomes() -> Iterator[Outcome]:
    """One for each family, by comparing; the lists above say nothing here but what to build."""
    for model_type in causal_types():
        given = LEAST.get(model_type, {})
        try:
            ours = parameters(model_from_config({"model_type": model_type, **given})).total
        except UnsupportedModel as error:
            by_name = f"'{model_type}' is not modelled" in str(error)
            yield Outcome(model_type, "refused by name" if by_name else "refused", None, None)
            continue
        try:
            _, theirs = built(model_type, **given)
        except Exception:  # noqa: BLE001
            # Whatever keeps transformers from building its own default, it cannot be compared.
            yield Outcome(model_type, "transformers cannot build its default", ours, None)
            continue
        yield Outcome(model_type, "equal" if ours == theirs else "different", ours, theirs)


def main() -> None:
    """Print the table and how many of each."""
    import warnings

    import transformers

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    sums: Counter[str] = Counter()
    for each in outcomes():
        sums[each.outcome] += 1
        told = "" if each.ours is None else f"{each.ours:,}"
        if each.outcome == "different":
            told += f" against {each.theirs:,}"
        print(f"{each.model_type:28} {each.outcome:38} {told}")
    print(f"transformers {transformers.__version__}, {sum(sums.values())} families: ", end="")
    print(", ".join(f"{count} {outcome}" for outcome, count in sums.most_common()))


if __name__ == "__main__":
    main()
