"""Which token decides the mode of a real model, and what a completion in either mode answers.

A completion's first token is its mode. Its text is what a tokenizer decodes, with or without
special tokens, so a mode's own text may stand at its start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from suffice.backends.nano.vocabulary import SHORT, THINK
from suffice.core.errors import ConfigError, InputError
from suffice.core.thinking import THINK_END
from suffice.training.modes.rewards import Reward

# Thought completions after which an answer that is never found is an error.
WATCHED = 32
# What may follow an answer at the end of a text: "\\boxed{42}$." ends with 42.
_AFTER_ANSWER = " \t\n.,;:!?*_$})]>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """Ids and texts of the mode tokens.

    `think` None: any other first token thinks, as where the prompt opens the think block and
    closing it at once is the short mode (AdaptThink, arXiv:2505.13417). `ends` are the tokens that
    end a completion; one without is cut, and wrong. Empty: not looked at.
    """

    short: int
    think: int | None
    short_text: str = SHORT
    think_text: str = THINK
    think_end: str = THINK_END
    ends: frozenset[int] = frozenset()

    def thinks(self, ids: Sequence[int]) -> bool | None:
        """Whether a completion thinks; None if its first token is no mode."""
        if not ids:
            return None
        if ids[0] == self.short:
            return False
        if self.think is None or ids[0] == self.think:
            return True
        return None

    def answer_text(self, text: str, *, think: bool) -> str | None:
        """What a completion says as its answer; None where its form is not its mode's.

        Short: the whole text, without a think block. Think: what follows a block closed once.
        """
        body = text.lstrip()
        if not think:
            body = body.removeprefix(self.short_text)
            hidden = self.think_end in body or self.think_text in body
            return None if hidden else body
        _, *after = body.split(self.think_end)
        return after[0] if len(after) == 1 else None


def modes_of(
    tokenizer: Any,
    *,
    short: str = SHORT,
    think: str | None = THINK,
    think_end: str = THINK_END,
    ends: Sequence[int] | None = None,
) -> Modes:
    """`Modes` of a Hugging Face tokenizer; ConfigError unless each mode is one token of its own.

    `ends` defaults to the tokenizer's end; give all of the generation config's if it has several.
    """

    def id_of(text: str) -> int:
        ids = tokenizer.encode(text, add_special_tokens=False)
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise ConfigError(
                f"mode {text!r} is {len(ids)} tokens of this tokenizer, or unknown to it: a mode "
                "must be one token; add it as one and train it first"
            )
        return int(ids[0])

    found = Modes(
        short=id_of(short), think=None if think is None else id_of(think), short_text=short,
        think_text=THINK if think is None else think, think_end=think_end,
        ends=frozenset([tokenizer.eos_token_id] if ends is None else ends),
    )  # fmt: skip
    if found.short == found.think:
        raise ConfigError(f"short and think are the same token {short!r}: name two")
    return found


def mode_reward(
    reward: Reward, modes: Modes, *, answer_of: Callable[[str], str] = str.strip
) -> Callable[..., list[float]]:
    """A TRL reward function: rewards a completion by its mode and by its equality to `answer`.

    The data set needs a column `answer`. `answer_of` takes the answer out of what the completion
    says in its mode: all of a short one, what follows the think block of the other. Raises
    InputError if no thought answer is found right though the texts end with it: `answer_of` or the
    think block's end does not fit the model, and training would teach it never to think.
    """
    thought = right_thought = ends_with_answer = 0
    example = ""

    def watch(text: str, wanted: str, right: bool) -> None:
        nonlocal thought, right_thought, ends_with_answer, example
        if thought >= WATCHED:
            return
        thought += 1
        right_thought += right
        if text.rstrip(_AFTER_ANSWER).endswith(wanted.strip()):
            ends_with_answer += 1
            example = text
        if thought == WATCHED and not right_thought and ends_with_answer * 2 >= thought:
            raise InputError(
                f"none of {thought} thought completions counts as right, though "
                f"{ends_with_answer} end with the answer, such as {example[-60:]!r}: `answer_of` "
                f"or the end of the think block ({modes.think_end!r}) does not fit this model"
            )

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
        values = []
        for completion, ids, wanted in zip(completions, completion_ids, answer, strict=True):
            text, thinks = _text(completion), modes.thinks(ids)
            said = None if thinks is None else modes.answer_text(text, think=thinks)
            ended = not modes.ends or (len(ids) > 0 and ids[-1] in modes.ends)
            right = ended and said is not None and answer_of(said) == wanted
            if thinks:
                watch(text, wanted, right)
            values.append(reward(right=right, think=bool(thinks), tokens=len(ids)))
        return values

    return mode_reward


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else str(completion[-1]["content"])
