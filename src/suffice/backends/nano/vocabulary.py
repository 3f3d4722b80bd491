"""Text to ids and back, one id per character and per control token, as a Hugging Face tokenizer.

The `tokenizer.json` is written here and read here without any library; a test holds both directions
equal to the `tokenizers` package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from suffice.core.errors import CorruptData, InputError
from suffice.core.thinking import THINK_END

PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"
USER, ASSISTANT = "<user>", "<assistant>"
SHORT, THINK = "<short>", "<think>"
# In this order they are ids 0, 1, 2, ... The think block's ends are no special tokens: a server's
# reasoning parser has to see them in the text.
CONTROL_TOKENS = (PAD, END, UNKNOWN, USER, ASSISTANT, SHORT, THINK, THINK_END)
_VISIBLE = frozenset({THINK, THINK_END})

# One question, one answer: the model has never seen a second turn or a system message.
# `enable_thinking` forces a mode; without it the model chooses.
CHAT_TEMPLATE = (
    "{%- if messages | length != 1 or messages[0].role != 'user' -%}"
    "{{- raise_exception('this model answers a single user message') -}}{%- endif -%}"
    "<user>{{- messages[0].content -}}"
    "{%- if add_generation_prompt -%}<assistant>"
    "{%- if enable_thinking is defined -%}"
    "{{- '<think>' if enable_thinking else '<short>' -}}{%- endif -%}{%- endif -%}"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All tokens in the order of their ids: first the control tokens, then single characters."""

    tokens: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)
    # Whether white space is text: it is dropped unless one of the tokens is white space.
    keeps_spaces: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeps_spaces", any(token.isspace() for token in self.tokens))
        object.__setattr__(self, "_ids", {token: i for i, token in enumerate(self.tokens)})
        if len(self._ids) != len(self.tokens):
            raise InputError("a vocabulary holds a token twice")
        missing = [token for token in CONTROL_TOKENS if token not in self._ids]
        if missing:
            raise InputError(
                f"the vocabulary has no {', '.join(missing)}: mode routing needs control tokens"
            )

    @classmethod
    def of(cls, characters: Iterable[str]) -> Vocabulary:
        """The control tokens followed by `characters`."""
        return cls((*CONTROL_TOKENS, *characters))

    def __len__(self) -> int:
        return len(self.tokens)

    def id(self, token: str) -> int:
        """Id of one token."""
        return self._ids[token]

    def spells(self, character: str) -> bool:
        """Whether `character` has an id of its own."""
        return character in self._ids

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; InputError names a character it cannot spell.

        White space is left out unless the vocabulary `keeps_spaces`.
        """
        ids = []
        for piece in (_EVERY_PIECE if self.keeps_spaces else _PIECES).findall(text):
            if piece not in self._ids:
                spelled = "".join(token for token in self.tokens if len(token) == 1)
                raise InputError(
                    f"{piece!r} is outside this model's alphabet, which is {spelled!r} alone"
                )
            ids.append(self._ids[piece])
        return ids

    def prompt(self, question: str) -> list[int]:
        """Ids of a question up to the place where the model chooses a mode."""
        return [self.id(USER), *self.encode(question), self.id(ASSISTANT)]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Text of ids; with `skip_special_tokens` only characters and the think block's ends."""
        shown = (self.tokens[i] for i in token_ids)
        if skip_special_tokens:
            shown = (t for t in shown if len(t) == 1 or t in _VISIBLE)
        return "".join(shown)

    def to_json(self) -> str:
        """The `tokenizer.json` of the `tokenizers` package."""
        added = [
            {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": token not in _VISIBLE}
            for i, token in enumerate(self.tokens) if len(token) > 1
        ]  # fmt: skip
        return json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": added,
                "normalizer": None if self.keeps_spaces else {
                    "type": "Replace", "pattern": {"Regex": r"\s"}, "content": "",
                },
                "pre_tokenizer": {
                    "type": "Split", "pattern": {"Regex": r"[\s\S]"},
                    "behavior": "Isolated", "invert": False,
                },
                "post_processor": None,
                "decoder": {"type": "Fuse"},
                "model": {
                    "type": "WordLevel", "vocab": {t: i for i, t in enumerate(self.tokens)},
                    "unk_token": UNKNOWN,
                },
            },
            indent=1, ensure_ascii=False,
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Vocabulary:
        """The vocabulary of a `tokenizer.json` of this kind; others need `transformers`."""
        try:
            model = json.loads(text)["model"]
            kind, entries = model["type"], dict(model.get("vocab") or {})
        except (ValueError, KeyError, TypeError):
            raise CorruptData(
                f"{source!r} is not a tokenizer.json: fetch or train it anew"
            ) from None
        tokens = sorted(entries, key=lambda token: entries[token])
        single = all(len(token) == 1 or token in CONTROL_TOKENS for token in tokens)
        in_order = [entries[token] for token in tokens] == list(range(len(tokens)))
        if kind != "WordLevel" or not single or not in_order:
            raise InputError(
                f"{source!r} is a {kind} tokenizer of another kind; only models made by `suffice "
                "train nano` are read here: serve others with transformers or vLLM, and train "
                "them with the trl form"
            )
        return cls(tuple(tokens))

    def tokenizer_config(self, max_tokens: int) -> dict[str, object]:
        """The `tokenizer_config.json` that transformers and vLLM read, chat template included."""
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "pad_token": PAD,
            "unk_token": UNKNOWN,
            "model_max_length": max_tokens,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        }


_CONTROLS = "|".join(re.escape(t) for t in CONTROL_TOKENS)
_PIECES = re.compile(_CONTROLS + r"|\S")
_EVERY_PIECE = re.compile(_CONTROLS + r"|[\s\S]")
