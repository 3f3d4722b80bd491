"""Vectors of a request in the place of tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from suffice.backends.nano.weights import Array
from suffice.backends.prompt_embeds import KIND, read_prompt_embeds
from suffice.core.errors import InputError
from suffice.core.requests import OpaquePart, Request


@dataclass(frozen=True, slots=True)
class SoftPart:
    """Vectors (n, d), and the place among the prompt's ids where the first one stands."""

    start: int
    vectors_nd: Array


def soft_vectors(request: Request, width: int) -> Array | None:
    """The vectors of the user turn's `prompt_embeds` parts, which stand after its text.

    Raises InputError: another width, text after them, or no chat.
    """
    content = request.messages[0].content if request.messages else None
    if content is None or isinstance(content, str):
        return None
    found: list[Array] = []
    for part in content:
        given = json.loads(part.json) if isinstance(part, OpaquePart) else {}
        if given.get("type") == KIND:
            vectors = read_prompt_embeds(given)
            if vectors.shape[1] != width:
                raise InputError(
                    f"prompt_embeds: vectors of {vectors.shape[1]} numbers, the model has {width}"
                )
            found.append(vectors.astype(np.float32))
        elif found:
            raise InputError("prompt_embeds: only after the turn's text; put them last")
    if found and request.completion_only:
        raise InputError("prompt_embeds: only in chat")
    return np.concatenate(found) if found else None
