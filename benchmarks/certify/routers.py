"""Routers that only see the prompt, cross-validated: length, words, neighbours, our predictor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from suffice.core.arrays import FloatArray
from suffice.policies.prompt_features import Featuriser
from suffice.recipes.calibrate.fit_predictor import (
    FOLDS,
    dense_features,
    fold_numbers,
    inverse_frequency,
    ridge,
)

NEIGHBOURS = 40


def length_scores(texts: Sequence[str]) -> FloatArray:
    """Characters: longer prompts go to the strong model."""
    return np.array([float(len(text)) for text in texts])


def cross_validated(
    name: str, texts: Sequence[str], weak: FloatArray, strong: FloatArray, *, seed: int = 0,
    dimensions: int = 2048, penalty: float = 30.0,
) -> FloatArray:  # fmt: skip
    """Out-of-fold predicted gain, strong - weak, of every question.

    words       ridge on hashed TF-IDF
    neighbours  mean gain of the 40 most similar training prompts
    ours        ridge on words, form (lengths, numbers, symbols) and their gain predicted by
                neighbours, stacked out of fold
    """
    gain = strong - weak
    folds = fold_numbers(len(texts), seed)
    out = np.empty(len(texts))
    for fold in range(FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        listed = [texts[i] for i in train.tolist()]
        others = [texts[i] for i in test.tolist()]
        featuriser = Featuriser(dimensions, inverse_frequency(listed, dimensions))
        known, asked = featuriser.matrix(listed), featuriser.matrix(others)
        match name:
            case "words":
                out[test] = _ridge_scores(known, gain[train], asked, penalty)
            case "neighbours":
                out[test] = _neighbour_scores(known, gain[train], asked)
            case _:
                form_known = dense_features(listed, np.full(len(train), np.nan))
                form_asked = dense_features(others, np.full(len(test), np.nan))
                parts = (known, form_known), (asked, form_asked)
                out[test] = _stacked(parts, gain[train], penalty, seed)
    return out


def _ridge_scores(
    known: FloatArray, gain: FloatArray, asked: FloatArray, penalty: float
) -> FloatArray:
    if known.shape[0] < known.shape[1]:
        # As many unknowns as rows suffice: the same solution through the kernel.
        mean, level = known.mean(axis=0), gain.mean()
        centred = known - mean
        kernel = centred @ centred.T + penalty * np.eye(len(gain))
        found: FloatArray = level + (asked - mean) @ (
            centred.T @ np.linalg.solve(kernel, gain - level)
        )
        return found
    weights = ridge(known, gain, penalty)
    scores: FloatArray = asked @ weights[:-1] + weights[-1]
    return scores


def _neighbour_scores(known: FloatArray, gain: FloatArray, asked: FloatArray) -> FloatArray:
    scores = np.empty(len(asked))
    for start in range(0, len(asked), 512):
        similar = asked[start : start + 512] @ known.T
        nearest = np.argpartition(-similar, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        scores[start : start + 512] = gain[nearest].mean(axis=1)
    return scores


def _stacked(
    parts: tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]],
    gain: FloatArray, penalty: float, seed: int,
) -> FloatArray:  # fmt: skip
    (known, form_known), (asked, form_asked) = parts
    inner = fold_numbers(len(gain), seed + 1)
    words, near = np.empty(len(gain)), np.empty(len(gain))
    for fold in range(FOLDS):
        train, test = inner != fold, inner == fold
        words[test] = _ridge_scores(known[train], gain[train], known[test], penalty)
        near[test] = _neighbour_scores(known[train], gain[train], known[test])
    here = np.column_stack((words, near, form_known))
    there = np.column_stack(
        (
            _ridge_scores(known, gain, asked, penalty),
            _neighbour_scores(known, gain, asked),
            form_asked,
        )
    )
    mean, scale = here.mean(axis=0), here.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    weights = ridge((here - mean) / scale, gain, float(FOLDS))
    found: FloatArray = ((there - mean) / scale) @ weights[:-1] + weights[-1]
    return found
