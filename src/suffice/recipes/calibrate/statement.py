"""What a certificate says, in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from suffice.recipes.calibrate.config import CalibrateConfig

# Words that say nothing of a subject.
_STOP = frozenset(
    re.findall(
        r"\w+",
        """the a an of to and in is are for on with that how what if it as at by from be this
        which her his he she they you your each one has have was were
        will many much not following find""",
    )
)


def statement(safe: str, n: int, config: CalibrateConfig) -> str:
    """The claim, in one sentence."""
    limit = f"{config.max_drop * 100:g} points"
    what = {
        "drop": f"accuracy is at most {limit} below that of {safe}",
        "harm": f"at most {config.max_drop * 100:g} % of questions are answered wrongly that "
        f"{safe} answers rightly",
    }[config.used_loss]
    where = "in every cluster of prompts, " if config.scope == "cluster" else ""
    if config.method == "crc":
        return (
            f"On questions like the {n} certifying ones, on average over such calibrations, {what} "
            "(conformal risk control)."
        )
    test = "fixed-sequence test, exact " + (
        "binomial p-values" if config.used_loss == "harm" else "unconditional paired p-values"
    )
    return (
        f"On questions drawn like the {n} certifying ones, {where}{what}, at "
        f"{config.confidence * 100:g} % confidence ({test})."
    )


def assumptions(config: CalibrateConfig) -> tuple[str, ...]:
    """What the claim rests on."""
    found = [
        "future questions are drawn from the same population as the recorded ones, independently",
        "the models, their sampling settings, prompts and the answers' extraction stay the same",
        "the checker that judged the recorded answers is right",
    ]
    if config.scope == "overall":
        found.append(
            "the mix of clusters stays the same: the bound is for the whole, not each part"
        )
    else:
        found.append("cluster bounds hold together (Bonferroni); their mix may change")
    if config.method == "crc":
        found.append("the bound is on the expected loss, over calibration sets too")
    return tuple(found)


def typical_words(
    texts: Sequence[str], cluster: NDArray[np.int64], count: int, show: int = 5
) -> tuple[tuple[str, ...], ...]:
    """Words that are more frequent in a cluster than elsewhere, most telling first."""
    found = [set(re.findall(r"[a-z]{3,}", text.lower())) - _STOP for text in texts]
    everywhere = Counter(word for words in found for word in words)
    shown = []
    for number in range(count):
        inside = [words for words, c in zip(found, cluster.tolist(), strict=True) if c == number]
        here = Counter(word for words in inside for word in words)
        rate = {
            word: n / (len(inside) or 1) - (everywhere[word] - n) / max(1, len(found) - len(inside))
            for word, n in here.items()
        }
        best = sorted(rate, key=lambda word: (-rate[word], word))[:show]
        shown.append(tuple(best))
    return tuple(shown)
