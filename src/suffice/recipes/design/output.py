"""Write a design run: recommended config, front, the whole answer, report and picture."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from suffice.architecture.lattice import shape_at
from suffice.core.errors import InputError
from suffice.core.files import write_bytes, write_json, write_text
from suffice.core.version import __version__
from suffice.recipes.design.page import html_report
from suffice.recipes.design.plots import headline_figure
from suffice.recipes.design.result import DesignResult, Pick
from suffice.report.style import to_png

SCHEMA_VERSION = 2


def write_run(result: DesignResult, folder: Path) -> dict[str, Path]:
    """Write every file of the run into `folder`; returns them by name."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{str(folder)!r} is a file; --out needs a folder")
    paths = {
        "config": folder / "config.json",
        "front_csv": folder / "front.csv",
        "front_json": folder / "front.json",
        "design": folder / "design.json",
        "report": folder / "report.html",
        "picture": folder / "design.png",
    }
    # Everything is rendered before the first byte is written, so that a failure leaves nothing.
    picture = to_png(headline_figure(result))
    report = html_report(result)
    front = front_rows(result)
    try:
        write_json(paths["config"], result.recommended.config())
        write_text(paths["front_csv"], _csv(front))
        write_json(paths["front_json"], front)
        write_json(paths["design"], summary(result))
        write_text(paths["report"], report)
        write_bytes(paths["picture"], picture)
    except OSError as error:
        raise InputError(f"cannot write to {str(folder)!r}: {error.strerror}") from None
    return paths


def summary(result: DesignResult) -> dict[str, Any]:
    """The whole answer for machines; units are in the names."""
    config = result.config
    return {
        "schema_version": SCHEMA_VERSION,
        "suffice_version": __version__,
        "question": {
            "like": config.like if isinstance(config.like, str) else result.reference.shape.name,
            "tokens": config.tokens,
            "hardware": result.hardware.name,
            "workload": [asdict(request) for request in config.requests.classes],
            "objective": config.objective,
            "confidence": config.confidence,
            "weight_dtype": config.weight_dtype,
            "kv_dtype": config.kv_dtype,
            "tensor_parallel": config.tensor_parallel,
            "batch": config.batch,
            "seed": config.seed,
        },
        "law": {
            "name": result.law.name,
            "source": result.law.provenance.source,
            "errata": list(result.law.errata),
        },
        "headline": result.headline(),
        "target_loss": result.target_loss,
        "stated_confidence": result.stated_confidence,
        "gain": {**asdict(result.gain), "regrouped": result.gain.regrouped},
        "keeps_reference": result.keeps_reference,
        "reference_loss_basis": result.anchor.basis,
        "shapes_evaluated": len(result.grid),
        "shapes_within_target": len(result.selection.within),
        "picks": [_pick(pick, result) for pick in result.picks],
        "notes": list(result.notes),
    }


def front_rows(result: DesignResult) -> list[dict[str, Any]]:
    """The Pareto front, best objective first, as flat records."""
    reference, scores = result.reference.shape, result.scores
    within = set(result.selection.within.tolist())
    records = []
    for row in result.selection.front:
        shape = shape_at(result.grid, int(row), reference)
        records.append(
            {
                "hidden_size": shape.hidden_size,
                "intermediate_size": shape.intermediate_size,
                "num_hidden_layers": shape.num_hidden_layers,
                "num_attention_heads": shape.num_attention_heads,
                "num_key_value_heads": shape.num_key_value_heads,
                "head_dim": shape.head_dim,
                "loss": float(scores.loss[row]),
                "loss_sd": _finite(scores.loss_sd[row]),
                "within_target": int(row) in within,
                "batch": int(scores.batch[row]),
                "output_tokens_per_s": float(scores.output_tokens_per_s[row]),
                "ttft_s": _finite(scores.ttft_s[row]),
                "tpot_s": _finite(scores.tpot_s[row]),
                "kv_bytes_per_token": float(scores.kv_bytes_per_token[row]),
                "usd_per_million_tokens": float(scores.usd_per_million_tokens[row]),
            }
        )
    return records


def _csv(records: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def _pick(pick: Pick, result: DesignResult) -> dict[str, Any]:
    prediction = {
        name: _finite(value) if isinstance(value, float) else value
        for name, value in asdict(pick.prediction).items()
    }
    return {
        "role": pick.role,
        "config": pick.config(),
        "parameters_non_embedding": pick.parameters,
        "r": pick.r,
        "x": pick.x,
        "loss": pick.loss,
        "loss_low": _finite(pick.loss_low),
        "loss_high": _finite(pick.loss_high),
        "meets_target": pick.meets_target,
        "speedup": pick.speedup,
        "kv_bytes_per_token_all_devices": pick.kv_bytes_per_token(result.serving),
        "prediction": prediction,
        "notes": list(pick.notes),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
