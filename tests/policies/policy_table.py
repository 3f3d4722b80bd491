"""A certified policy's file, small and made by hand, as an operator's table."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from suffice.policies.policy_file import (
    About,
    Certificate,
    Data,
    Expected,
    Group,
    HeadTable,
    MonitorTable,
    PolicyFile,
    PredictorQuality,
    PredictorTable,
    Range,
    Target,
    Tested,
    sealed,
)
from suffice.policies.predictor import EVIDENCE_NAMES
from suffice.policies.prompt_features import FORM_NAMES

WORDS = 8
DENSE = len(FORM_NAMES) + len(EVIDENCE_NAMES)
TESTED = Tested(n=100, stopped=90, harmed=0, helped=1)


def policy_table(
    cheap: str,
    safe: str,
    *,
    model: str | tuple[str, ...],
    loss: Literal["drop", "harm"] = "harm",
    most_differ: float | None = None,
    stopped: float = 0.9,
    **changed: Any,
) -> dict[str, Any]:
    """The table of a policy whose option's answers always stand, certified to lose 2 points.

    Monitored are the loss and, with `most_differ`, how often the two answers differ. `changed`
    fields take the place of the file's own.
    """
    watched = [MonitorTable(quantity=loss, low=-1.0 if loss == "drop" else 0.0, high=0.02)]
    if most_differ is not None:
        watched.append(MonitorTable(quantity="differ", low=0.0, high=most_differ))
    head = HeadTable(words=(0.0,) * WORDS, dense=(0.0,) * DENSE, intercept=3.0)
    file = PolicyFile(
        option=cheap,
        baseline=safe,
        models=(model,) if isinstance(model, str) else model,
        about=About(),
        certificate=Certificate(
            id="",
            statement="",
            data=Data(
                digest="", datasets=("made",), questions=200, recorded=200, fit_questions=100,
                certify_questions=100, plays=1, seed=0, tries=1,
            ),
            target=Target(
                max_drop=0.02, confidence=0.95, loss=loss, method="fst", test="binomial",
                scope="overall",
            ),
            tested=TESTED,
            path_steps=1,
            shown_steps=1,
            expected=Expected(
                baseline_accuracy=0.9, accuracy=0.9, option_accuracy=0.9, stopped=stopped,
                saving=Range(estimate=0.5, low=0.4, high=0.6, confidence=0.95),
                cost_unit="tokens",
            ),
            predictor=PredictorQuality(ece=0.01, brier=0.1),
            assumptions=(),
        ),
        groups=(
            Group(accept=0.5, centroid=(1.0,) * WORDS, fit_questions=100, tested=TESTED),
        ),
        monitors=tuple(watched),
        predictor=PredictorTable(
            idf=tuple(np.ones(WORDS).tolist()), mean=(0.0,) * DENSE, scale=(1.0,) * DENSE,
            right=head, rescue=head,
        ),
    )  # fmt: skip
    return sealed(file.model_copy(update=changed)).model_dump(mode="json")
