"""What a certificate is about: how the recorded questions were asked, sampled and read.

A request that differs in any of it is not covered. What a request leaves open is not compared:
whoever serves it fills that in as it was recorded (`filled`). What was not recorded is not compared
either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Literal

from suffice.core.coverage import NotCovered
from suffice.core.requests import Message, Request, Sampling, TextPart
from suffice.core.text import normalised, text_sha256
from suffice.core.thinking import Thinking
from suffice.policies.prompt_features import prompt_of

# Options that change what is drawn; `seed` picks one draw, `top_logprobs` only looks.
COMPARED = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "max_tokens",
)
# What a receipt says where a request is not covered.
SAID: dict[NotCovered, str] = {
    "free_form": "free-form text",
    "answer_format": "another answer format",
    "extraction_version": "answers are read by other rules than when it was calibrated",
    "system_prompt": "another system prompt",
    "template": "the prompt does not begin and end as the recorded ones do",
    "turns": "a conversation of several turns",
    "content": "content other than text",
    "tools": "tools that the recorded questions did not have, or lack of them",
    "response_format": "a response format",
    "endpoint": "another endpoint",
    "thinking": "another thinking mode",
    "extra_field": "a field that changes what is drawn",
    "cascade": "one step of a cascade",
}


def said(differs: NotCovered) -> str:
    """Why a request is not covered, in words."""
    return SAID.get(differs, f"another {differs}")


# Fields beyond OpenAI's by which engines let a request change what is drawn.
STEERING = frozenset(
    {
        "allowed_token_ids", "bad_words", "chat_template", "chat_template_kwargs", "ebnf",
        "guided_choice", "guided_grammar", "guided_json", "guided_regex", "ignore_eos",
        "length_penalty", "logit_bias", "lora_path", "min_tokens", "regex", "repetition_penalty",
        "structured_outputs", "use_beam_search",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """How the recorded questions were asked. None, and sampling options of None: not recorded."""

    answer_formats: tuple[str, ...] = ()
    extraction_version: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    least_max_tokens: int | None = None  # any larger limit on completion tokens changes nothing
    thinking: Literal["default", "on", "off"] | None = None
    tools: bool | None = None
    completions: bool | None = None  # asked by /v1/completions
    single_turn: bool = False  # every recorded conversation was one user turn
    system_sha256: str | None = None  # of the system prompt; that of "" where there was none
    prefix_characters: int = 0  # what all prompts begin with, normalised
    prefix_sha256: str = ""
    suffix_characters: int = 0
    suffix_sha256: str = ""

    def filled(self, request: Request) -> Request:
        """The request with what it leaves open as it was recorded."""
        changed: dict[str, object] = {}
        if request.answer_format is None and self.answer_formats:
            changed["answer_format"] = self.answer_formats[0]
        sampling = self._filled(request.sampling)
        if sampling != request.sampling:
            changed["sampling"] = sampling
        if request.thinking is None and self.thinking in ("on", "off"):
            changed["thinking"] = Thinking(enabled=self.thinking == "on")
        return replace(request, **changed) if changed else request  # type: ignore[arg-type]

    def _filled(self, given: Sampling) -> Sampling:
        open_fields = {
            name: getattr(self.sampling, name)
            for name in COMPARED
            if getattr(given, name) in (None, ())
        }
        return replace(given, **open_fields)

    def differs(
        self, request: Request, *, extraction_version: int | None = None
    ) -> NotCovered | None:
        """What the request differs in from the recorded ones; None: it is covered.

        `extraction_version` of the rules that read its answers; None: the recorded ones.
        """
        if request.answer_format is None:
            return "free_form"
        if self.answer_formats and request.answer_format not in self.answer_formats:
            return "answer_format"
        known = self.extraction_version
        if None not in (known, extraction_version) and known != extraction_version:
            return "extraction_version"
        return self._asked(request) or self._sampled(request)

    def _asked(self, request: Request) -> NotCovered | None:
        """What differs in the question's form."""
        turns = request.messages
        spoken = sum(turn.role in ("user", "assistant") for turn in turns)
        differs: dict[NotCovered, bool] = {
            "content": any(not _is_text(turn) for turn in turns),
            "system_prompt": self.system_sha256 not in (None, system_sha256(request)),
            "turns": self.single_turn and spoken != 1,
            "endpoint": self.completions not in (None, request.completion_only),
            "tools": self.tools not in (None, bool(request.tools)),
            "response_format": request.response_format_json is not None,
        }
        found = next((name for name, is_so in differs.items() if is_so), None)
        if found is None and not self._fits(normalised(prompt_of(request))):
            found = "template"
        return found

    def _fits(self, prompt: str) -> bool:
        """Whether the prompt begins and ends as all recorded ones do."""
        before, after = self.prefix_characters, self.suffix_characters
        return (not before or text_sha256(prompt[:before]) == self.prefix_sha256) and (
            not after or text_sha256(prompt[len(prompt) - after :]) == self.suffix_sha256
        )

    def _sampled(self, request: Request) -> NotCovered | None:
        """What differs in how samples are drawn."""
        recorded, given = self.sampling, request.sampling
        for name in COMPARED:
            theirs, ours = getattr(given, name), getattr(recorded, name)
            if None not in (theirs, ours) and () not in (theirs, ours) and theirs != ours:
                return name  # type: ignore[return-value] # COMPARED are names of fields
        least = self.least_max_tokens
        if least is not None and given.max_tokens is not None and given.max_tokens < least:
            return "max_tokens"
        thinking = request.thinking
        if None not in (self.thinking, thinking) and self.thinking != _thinking_of(thinking):
            return "thinking"
        steering = STEERING & json.loads(request.extra_json or "{}").keys()
        return "extra_field" if steering else None


def _is_text(turn: Message) -> bool:
    content = turn.content
    return not isinstance(content, tuple) or all(isinstance(each, TextPart) for each in content)


def system_sha256(request: Request) -> str:
    """SHA-256 of the request's system and developer turns together."""
    turns = request.messages
    return text_sha256("\n".join(t.text for t in turns if t.role in ("system", "developer")))


def _thinking_of(thinking: Thinking | None) -> Literal["default", "on", "off"]:
    if thinking is None:
        return "default"
    return "on" if thinking.enabled else "off"
