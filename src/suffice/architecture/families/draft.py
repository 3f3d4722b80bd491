"""Layers that predict further tokens: stored beside the model, used only to speculate."""

from __future__ import annotations

from dataclasses import replace

from suffice.architecture.families.parts import linear, vectors
from suffice.architecture.model import Model, runs_of
from suffice.architecture.settings import Settings


def with_draft(s: Settings, model: Model, key: str, *, default: int = 0) -> Model:
    """`model` with as many multi-token prediction layers as `key` says.

    Each is a layer like the last one, behind a projection of [hidden state, embedding] and three
    norms; embedding and output matrix are the model's own. Reference: arXiv:2412.19437, section
    2.2.
    """
    layers = s.count(key, default) if s.get(key) is not None else default
    if not layers:
        return model
    d = model.hidden_size
    last = model.runs[-1].block
    block = replace(last, rest=last.rest + linear(2 * d, d, "none") + vectors(3 * d))
    return replace(model, draft=runs_of([block] * layers))
