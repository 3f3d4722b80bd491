"""A certified policy's file, small and made by hand, as an operator's table."""

from __future__ import annotations

from typing import Any

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
    model: str,
    most_harm: float = 0.02,
    stopped: float = 0.9,
    **changed: Any,
) -> dict[str, Any]:
    """The table of a policy whose cheap answers always stand; only harm is watched.

    `changed` fields take the place of the file's own.
    """
    head = HeadTable(words=(0.0,) * WORDS, dense=(0.0,) * DENSE, intercept=3.0)
    file = PolicyFile(
        option=cheap,
        baseline=safe,
        models=(model,),
        about=About(),
        certificate=Certificate(
            id="",
            statement="",
            data=Data(
                digest="", datasets=("made",), questions=200, recorded=200, fit_questions=100,
                certify_questions=100, plays=1, seed=0, tries=1,
            ),
            target=Target(
                max_drop=0.01, confidence=0.95, loss="harm", method="fst", test="binomial",
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
        monitors=(MonitorTable(quantity="harm", low=0.0, high=most_harm),),
        predictor=PredictorTable(
            idf=tuple(np.ones(WORDS).tolist()), mean=(0.0,) * DENSE, scale=(1.0,) * DENSE,
            right=head, rescue=head,
        ),
    )  # fmt: skip
    return sealed(file.model_copy(update=changed)).model_dump(mode="json")
