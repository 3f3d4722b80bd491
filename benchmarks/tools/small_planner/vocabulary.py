"""Tokenizer and chat template of the small planner: byte-level BPE.

A capitalised word and up to three digits are split from what stands before them, and every number
below 1,000 is one token (as Llama 3 has it): to copy a name or a number is one step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

END = "<|end|>"
PAD = "<|pad|>"
MARKS = (PAD, END, "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
CALL_MARKS = ("<tool_call>", "</tool_call>")  # tokens too, but part of what the model says
# Calls have the form that Hermes and Qwen models use, which engines read (`--tool-call-parser
# hermes` of vLLM).
TEMPLATE = """\
{%- if tools -%}
<|system|>Tools:
{% for tool in tools -%}
{{ tool.function.name }}({{ tool.function.parameters.properties | join(', ') }})
{% endfor -%}
Answer, or call tools as JSON.<|end|>
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
<|tool|>{{ message.content }}<|end|>
{%- elif message.role == 'assistant' -%}
<|assistant|>{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": \
{{ call.function.arguments if call.function.arguments is string else \
call.function.arguments | tojson }}}</tool_call>
{%- endfor -%}
<|end|>
{%- else -%}
<|{{ message.role }}|>{{ message.content }}<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""


def train_vocabulary(texts: Iterable[str], size: int) -> Any:
    """A transformers tokenizer of at most `size` tokens and the numbers, with the chat template."""
    from tokenizers import (  # noqa: PLC0415
        Regex,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[0-9]{1,3}|[A-Z][a-z]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[*MARKS, *CALL_MARKS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    table = json.loads(model.to_str())
    known = table["model"]["vocab"]
    for number in map(str, range(1_000)):
        known.setdefault(number, len(known))
    table["model"]["ignore_merges"] = True  # a piece that is a token is that token
    for token in table["added_tokens"]:  # special ones are left out of an answer's text
        token["special"] = token["content"] not in CALL_MARKS
    model = Tokenizer.from_str(json.dumps(table))
    return PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token=END, pad_token=PAD, chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def template() -> Any:
    """What renders a conversation with the chat template, without a vocabulary."""
    from tokenizers import Tokenizer, models  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    empty = Tokenizer(models.BPE())
    plain = PreTrainedTokenizerFast(tokenizer_object=empty, chat_template=TEMPLATE)
    return plain.apply_chat_template


def load_vocabulary(folder: Path) -> Any:
    """The tokenizer that training wrote."""
    from transformers import AutoTokenizer  # noqa: PLC0415

    return AutoTokenizer.from_pretrained(folder)
