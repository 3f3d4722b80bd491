"""Problems and responses as padded tensors.

B  sequences   P  prompt length   T  response length, control token at 0   V  vocabulary

Prompts are padded on the left and responses on the right, so that all control tokens stand in one
column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from suffice.backends.nano.vocabulary import END, PAD, SHORT, THINK, Vocabulary
from suffice.core.errors import InputError
from suffice.tasks.puzzles import Mixture, Problem
from suffice.training.responses import control_ids, pad

# Sequences of one forward pass in training: more in one would pad more, fewer cost more overhead.
PART = 64


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


def prompts(problems: Sequence[Problem], vocabulary: Vocabulary) -> tuple[Any, Any]:
    """(ids, mask) of the problems' prompts."""
    rows = [vocabulary.prompt(problem.prompt) for problem in problems]
    return pad(rows, vocabulary.id(PAD), left=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Prompts with the responses that training shows in either mode, for one pass over both."""

    prompt_BP: torch.Tensor
    prompt_mask_BP: torch.Tensor
    short_BT: torch.Tensor
    short_mask_BT: torch.Tensor
    think_BT: torch.Tensor
    think_mask_BT: torch.Tensor

    def side(self, *, think: bool) -> Batch:
        """The sequences of one mode."""
        return Batch(
            prompt_BP=self.prompt_BP,
            prompt_mask_BP=self.prompt_mask_BP,
            response_BT=self.think_BT if think else self.short_BT,
            mask_BT=self.think_mask_BT if think else self.short_mask_BT,
        )


def demonstrations(problems: Sequence[Problem], vocabulary: Vocabulary) -> Pairs:
    """The problems with both responses."""
    prompt_BP, prompt_mask_BP = prompts(problems, vocabulary)

    def responses(think: bool) -> tuple[Any, Any]:
        control = THINK if think else SHORT
        rows = [vocabulary.encode(f"{control}{p.response(think=think)}{END}") for p in problems]
        return pad(rows, vocabulary.id(PAD), left=False)

    short_BT, short_mask_BT = responses(False)
    think_BT, think_mask_BT = responses(True)
    return Pairs(
        prompt_BP=prompt_BP, prompt_mask_BP=prompt_mask_BP,
        short_BT=short_BT, short_mask_BT=short_mask_BT,
        think_BT=think_BT, think_mask_BT=think_mask_BT,
    )  # fmt: skip


def on_device(pairs: Pairs, device: torch.device) -> Pairs:
    """The pairs' tensors on `device`."""
    return Pairs(**{f.name: getattr(pairs, f.name).to(device) for f in fields(pairs)})


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
    """(logits (B, T, V) that predict each response token, what a gate reads (B, 2 d)).

    A gate reads the hidden state at the choice and the mean of the prompt's, both of the last
    layer. Large batches are computed in parts of like length, so that little is padding; what would
    be predicted for padding is 0 then.
    """
    if len(batch.mask_BT) < PART:
        return _response_logits(model, batch)
    prompt_B, response_B = batch.prompt_mask_BP.sum(dim=1), batch.lengths_B
    parts = torch.argsort(prompt_B + response_B).chunk(-(-len(prompt_B) // PART))
    logits, states = [], []
    T = batch.response_BT.shape[1]
    for rows in parts:
        part = batch.rows(rows)
        P, used = int(prompt_B[rows].max()), int(response_B[rows].max())
        cut = Batch(
            prompt_BP=part.prompt_BP[:, -P:], prompt_mask_BP=part.prompt_mask_BP[:, -P:],
            response_BT=part.response_BT[:, :used], mask_BT=part.mask_BT[:, :used],
        )  # fmt: skip
        logits_BTV, state_BD = _response_logits(model, cut)
        logits.append(nn.functional.pad(logits_BTV, (0, 0, 0, T - used)))
        states.append(state_BD)
    back = torch.argsort(torch.cat(parts))
    return torch.cat(logits)[back], torch.cat(states)[back]


def _response_logits(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    # What the last token of a response would predict is never asked.
    ids = torch.cat([batch.prompt_BP, batch.response_BT[:, :-1]], dim=1)
    # Padding after a response is never attended to by it; padding before a prompt has to be masked.
    mask = torch.ones_like(ids, dtype=torch.bool)
    P = batch.prompt_BP.shape[1]
    mask[:, :P] = batch.prompt_mask_BP
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    body: Any = model.get_submodule("model")
    hidden = body(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    logits_BTV: torch.Tensor = model.get_submodule("lm_head")(hidden[:, P - 1 :])
    real_BP1 = batch.prompt_mask_BP[:, :, None].to(hidden.dtype)
    mean_Bd = (hidden[:, :P] * real_BP1).sum(dim=1) / real_BP1.sum(dim=1)
    return logits_BTV, torch.cat([hidden[:, P - 1], mean_Bd], dim=1)


def gate_states(
    model: nn.Module, problems: Sequence[Problem], vocabulary: Vocabulary
) -> torch.Tensor:
    """What a gate reads of each problem, (B, 2 d)."""
    device = next(model.parameters()).device
    prompt_BP, prompt_mask_BP = (t.to(device) for t in prompts(problems, vocabulary))
    one = torch.full((len(problems), 1), control_ids(vocabulary)[0], device=device)
    batch = Batch(
        prompt_BP=prompt_BP, prompt_mask_BP=prompt_mask_BP,
        response_BT=one, mask_BT=torch.ones_like(one, dtype=torch.bool),
    )  # fmt: skip
    with torch.no_grad():
        _, state_BD = response_logits(model, batch)
    return state_BD


def paired_logits(model: nn.Module, pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, T, V) that predict each token of the short and of the thought responses.

    One pass over [prompt | short | think], in which the thought response sees the prompt but not
    the short one and stands at the same positions: the prompt is computed once, and the result is
    that of `response_logits` on either side.
    """
    P, S = pairs.prompt_BP.shape[1], pairs.short_BT.shape[1]
    # What the last token of a response would predict is never asked.
    ids = torch.cat([pairs.prompt_BP, pairs.short_BT[:, :-1], pairs.think_BT[:, :-1]], dim=1)
    width, device = ids.shape[1], ids.device
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    causal[P + S - 1 :, P : P + S - 1] = False
    real = torch.ones_like(ids, dtype=torch.bool)
    real[:, :P] = pairs.prompt_mask_BP
    # A padded place sees itself: a row that sees nothing has no softmax.
    mask = (causal & real[:, None, :]) | torch.eye(width, dtype=torch.bool, device=device)
    inside = torch.cat([torch.arange(S - 1), torch.arange(width - P - S + 1)]).to(device)
    prompt_at = (pairs.prompt_mask_BP.cumsum(dim=1) - 1).clamp(min=0)
    positions = torch.cat([prompt_at, prompt_at[:, -1:] + 1 + inside], dim=1)
    body: Any = model.get_submodule("model")
    hidden = body(
        input_ids=ids, attention_mask=mask[:, None], position_ids=positions, use_cache=False
    ).last_hidden_state
    choice = hidden[:, P - 1 : P]
    used = torch.cat([choice, hidden[:, P : P + S - 1], choice, hidden[:, P + S - 1 :]], dim=1)
    logits_BTV: torch.Tensor = model.get_submodule("lm_head")(used)
    return logits_BTV[:, :S], logits_BTV[:, S:]


def token_logprobs(logits_BTV: torch.Tensor, response_BT: torch.Tensor) -> torch.Tensor:
    """log π of each response token, in float32, (B, T)."""
    picked = torch.log_softmax(logits_BTV.float(), dim=-1)
    return picked.gather(2, response_BT[..., None]).squeeze(2)


def drawn_logprobs(
    logits_BTV: torch.Tensor, response_BT: torch.Tensor, vocabulary: Vocabulary
) -> torch.Tensor:
    """`token_logprobs` of responses that `draw` drew: the first token among the two modes.

    Scored over the whole vocabulary it would carry a gradient to tokens that could not be drawn.
    """
    logprob_BT = token_logprobs(logits_BTV, response_BT)
    modes = list(control_ids(vocabulary))
    of_modes_B2 = torch.log_softmax(logits_BTV[:, 0, modes].float(), dim=-1)
    is_think_B = (response_BT[:, 0] == modes[1]).long()
    first_B1 = of_modes_B2.gather(1, is_think_B[:, None])
    return torch.cat([first_B1, logprob_BT[:, 1:]], dim=1)


def think_logit(logits_BV: torch.Tensor, vocabulary: Vocabulary) -> torch.Tensor:
    """log p(think) - log p(short) at the choice, (B,)."""
    short, think = control_ids(vocabulary)
    return logits_BV[:, think] - logits_BV[:, short]
