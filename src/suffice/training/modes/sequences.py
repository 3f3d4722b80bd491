"""Problems and responses as padded tensors.

B  sequences   P  prompt length   T  response length, control token at 0   V  vocabulary

Prompts are padded on the left and responses on the right, so that all control tokens stand in one
column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from suffice.backends.nano.vocabulary import END, PAD, SHORT, THINK, Vocabulary
from suffice.core.errors import InputError
from suffice.training.modes.tasks import Mixture, Problem


@dataclass(frozen=True, slots=True)
class Learner:
    """A model, how it spells, and the problems that it is trained on."""

    model: nn.Module
    vocabulary: Vocabulary
    mixture: Mixture

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters()).device


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Prompts with responses; masks are True on real tokens."""

    prompt_BP: torch.Tensor
    prompt_mask_BP: torch.Tensor
    response_BT: torch.Tensor
    mask_BT: torch.Tensor

    @property
    def lengths_B(self) -> torch.Tensor:
        """n_i: response tokens of each sequence, control token and end included."""
        return self.mask_BT.sum(dim=1)

    def rows(self, index: torch.Tensor | slice) -> Batch:
        """Some of the sequences."""
        return Batch(
            prompt_BP=self.prompt_BP[index],
            prompt_mask_BP=self.prompt_mask_BP[index],
            response_BT=self.response_BT[index],
            mask_BT=self.mask_BT[index],
        )


def control_ids(vocabulary: Vocabulary) -> tuple[int, int]:
    """Ids of the short and the think token."""
    return vocabulary.id(SHORT), vocabulary.id(THINK)


def pad(rows: Sequence[Sequence[int]], fill: int, *, left: bool) -> tuple[Any, Any]:
    """(ids, mask) of rows brought to the longest one's length."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), fill, dtype=torch.int64)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, place] = torch.tensor(row, dtype=torch.int64)
        mask[i, place] = True
    return ids, mask


def prompts(problems: Sequence[Problem], vocabulary: Vocabulary) -> tuple[Any, Any]:
    """(ids, mask) of the problems' prompts."""
    rows = [vocabulary.prompt(problem.prompt) for problem in problems]
    return pad(rows, vocabulary.id(PAD), left=True)


def demonstrations(problems: Sequence[Problem], vocabulary: Vocabulary, *, think: bool) -> Batch:
    """The problems with the responses that training shows in one mode."""
    prompt_BP, prompt_mask_BP = prompts(problems, vocabulary)
    control = THINK if think else SHORT
    rows = [
        vocabulary.encode(f"{control}{problem.response(think=think)}{END}") for problem in problems
    ]
    response_BT, mask_BT = pad(rows, vocabulary.id(PAD), left=False)
    return Batch(
        prompt_BP=prompt_BP,
        prompt_mask_BP=prompt_mask_BP,
        response_BT=response_BT,
        mask_BT=mask_BT,
    )


def texts(response_BT: torch.Tensor, mask_BT: torch.Tensor, vocabulary: Vocabulary) -> list[str]:
    """Each response as text, without its control token and end."""
    end = vocabulary.id(END)
    found = []
    for row, kept in zip(response_BT.tolist(), mask_BT.tolist(), strict=True):
        ids = [i for i, real in zip(row, kept, strict=True) if real][1:]
        found.append(vocabulary.decode(ids[:-1] if ids and ids[-1] == end else ids))
    return found


def check_room(config: Any, vocabulary: Vocabulary, longest_prompt: int, max_tokens: int) -> None:
    """Raise InputError unless the model has ids for all tokens and positions for a response."""
    if len(vocabulary) > config.vocab_size:
        raise InputError(
            f"the model has {config.vocab_size} ids, the tokenizer {len(vocabulary)}: there is no "
            "room for the control tokens; enlarge the embedding first"
        )
    room = config.max_position_embeddings - longest_prompt
    if max_tokens > room:
        raise InputError(
            f"prompts of {longest_prompt} tokens leave {room} of the model's "
            f"{config.max_position_embeddings}: no room for a control token and a response of "
            f"{max_tokens - 1}; lower max_tokens or the difficulty"
        )
    if max_tokens < 3:
        raise InputError(
            f"max_tokens is {max_tokens}: a response needs a control token, an answer and an end, "
            "3 at least"
        )


def response_logits(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits (B, T, V) that predict each response token, hidden state (B, d) at the choice)."""
    ids = torch.cat([batch.prompt_BP, batch.response_BT], dim=1)
    # Padding after a response is never attended to by it; padding before a prompt has to be masked.
    mask = torch.cat([batch.prompt_mask_BP, torch.ones_like(batch.mask_BT)], dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    body: Any = model.get_submodule("model")
    hidden = body(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    start = batch.prompt_BP.shape[1] - 1
    used_BTd = hidden[:, start : start + batch.response_BT.shape[1]]
    logits_BTV: torch.Tensor = model.get_submodule("lm_head")(used_BTd)
    return logits_BTV, used_BTd[:, 0]


def token_logprobs(logits_BTV: torch.Tensor, response_BT: torch.Tensor) -> torch.Tensor:
    """log π of each response token, in float32, (B, T)."""
    picked = torch.log_softmax(logits_BTV.float(), dim=-1)
    return picked.gather(2, response_BT[..., None]).squeeze(2)


def think_logit(logits_BV: torch.Tensor, vocabulary: Vocabulary) -> torch.Tensor:
    """log p(think) - log p(short) at the choice, (B,)."""
    short, think = control_ids(vocabulary)
    return logits_BV[:, think] - logits_BV[:, short]
