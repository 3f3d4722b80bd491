"""Several servers in one run: each model is asked, and the file says at which server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from suffice.backends.protocol import Backend
from suffice.core.errors import InputError, UnknownName
from suffice.evals.datasets import Item
from suffice.recipes.record.config import RecordConfig, RecordingProgress, RecordingResult
from suffice.recipes.record.run import record
from suffice.recipes.record.trial import RecordingTrial
from suffice.recipes.record.unchanged import check_unchanged


async def record_all(
    items: Sequence[Item],
    backends: Sequence[Backend],
    out: Path,
    config: RecordConfig,
    *,
    models: Sequence[str] = (),
    tell: Callable[[str, RecordingProgress], None] = lambda _model, _progress: None,
    tried: Callable[[RecordingTrial], None] = lambda _: None,
) -> dict[str, RecordingResult]:
    """Record each model at the server that lists it, one after the other; what came of each.

    Without `models` the first model of each server is asked.
    """
    check_unchanged(items, out)
    asked = await _placed(backends, models)
    found: dict[str, RecordingResult] = {}
    for model, backend in asked.items():
        found[model] = await record(
            items,
            backend,
            out,
            replace(config, model=model),
            tell=lambda progress, model=model: tell(model, progress),  # type: ignore[misc]
            tried=tried,
        )
    return found


async def _placed(backends: Sequence[Backend], models: Sequence[str]) -> dict[str, Backend]:
    """The server of each model; of two that list a model, the first."""
    listed: dict[str, Backend] = {}
    firsts: dict[str, Backend] = {}
    for backend in backends:
        able = await backend.capabilities()
        if not able.models and not models:
            raise InputError(f"{backend.name} lists no model: name one with --model")
        for model in able.models:
            listed.setdefault(model, backend)
        if able.models:
            if able.models[0] in firsts:
                raise InputError(
                    f"{firsts[able.models[0]].name} and {backend.name} both serve "
                    f"{able.models[0]} first: name the models to ask with --model, or give one "
                    "--upstream"
                )
            firsts[able.models[0]] = backend
    if not models:
        return firsts
    if not listed and len(backends) == 1:  # a server that lists nothing is believed
        return dict.fromkeys(models, backends[0])
    for model in models:
        if model not in listed:
            known = f"(served: {', '.join(listed)})"
            raise UnknownName.of("model", model, list(listed), known)
    return {model: listed[model] for model in models}
