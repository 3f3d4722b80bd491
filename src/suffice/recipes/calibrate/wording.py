"""What a certificate says, in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from suffice.recipes.calibrate.certify import TestKind
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
TESTS: dict[TestKind, str] = {
    "paired": "exact test of the paired difference, one play of each question",
    "binomial": "exact binomial test, one play of each question",
    "means": "betting test of the mean loss of each question",
    "crc": "conformal risk control",
}


def points(limit: float) -> str:
    """An accuracy limit in words."""
    return f"{100 * limit:g} point{'' if abs(100 * limit - 1) < 1e-9 else 's'}"


def statement(baseline: str, n: int, test: TestKind, config: CalibrateConfig) -> str:
    """The claim, in one sentence."""
    what = {
        "drop": f"accuracy is at most {points(config.max_drop)} below that of {baseline}",
        "harm": f"at most {config.max_drop * 100:g} % of questions are answered wrongly that "
        f"{baseline} answers rightly",
    }[config.used_loss]
    where = "in every question group, " if config.scope == "group" else ""
    if test == "crc":
        return (
            f"On questions like the {n} certifying ones, on average over such calibrations, {what} "
            f"({TESTS[test]})."
        )
    return (
        f"On questions drawn like the {n} certifying ones, {where}{what}, at "
        f"{config.confidence * 100:g} % confidence ({TESTS[test]})."
    )


def assumptions(config: CalibrateConfig) -> tuple[str, ...]:
    """What the claim rests on."""
    found = [
        "future questions are drawn from the same population as the recorded ones, independently; "
        "each distinct question counts once, however often it was recorded",
        "the models, their sampling settings, prompts and the answers' extraction stay the same",
        "the checker that judged the recorded answers is right",
        "the limit, the baseline and the options were named before these questions were looked at",
    ]
    if config.scope == "overall":
        found.append(
            "the mix of questions stays the same: the bound is for the whole, not each part"
        )
    else:
        found.append("group bounds hold together (Bonferroni); their mix may change")
    if config.method == "crc":
        found.append("the bound is on the expected loss, over calibration sets too")
    if config.tries > 1:
        found.append(f"{config.tries} calibrations of these questions share the error probability")
    return tuple(found)


def typical_words(
    texts: Sequence[str], group: NDArray[np.int64], count: int, show: int = 5
) -> tuple[tuple[str, ...], ...]:
    """Words that are more frequent in a group than elsewhere, most telling first."""
    if count == 1:
        return ((),)
    found = [set(re.findall(r"[a-z]{3,}", text.lower())) - _STOP for text in texts]
    everywhere = Counter(word for words in found for word in words)
    shown = []
    for number in range(count):
        inside = [words for words, c in zip(found, group.tolist(), strict=True) if c == number]
        here = Counter(word for words in inside for word in words)
        rate = {
            word: n / (len(inside) or 1) - (everywhere[word] - n) / max(1, len(found) - len(inside))
            for word, n in here.items()
        }
        best = sorted(rate, key=lambda word: (-rate[word], word))[:show]
        shown.append(tuple(best))
    return tuple(shown)
