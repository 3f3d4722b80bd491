"""Fits of the predictor: hashed words and their weights, question groups, two logistic heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from suffice.core.arrays import BoolArray, FloatArray, IntArray
from suffice.core.errors import InputError
from suffice.policies.policy_file import HeadTable, PredictorTable
from suffice.policies.policy_of_file import predictor_of
from suffice.policies.predictor import Predictor, evidence
from suffice.policies.prompt_features import Featuriser, form, hashed_counts

FOLDS = 5
# Penalties on word weights that cross-validation chooses from; the largest means: form only.
WORD_PENALTIES = (1e6, 30.0, 10.0, 3.0)
DENSE_PENALTY = 1.0
INTERCEPT_PENALTY = 1e-4
MOST_ITERATIONS = 2000
SLOPE_TOLERANCE = 1e-6  # what is stored has five digits
SIGNIFICANT_DIGITS = 5


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fitted:
    """A predictor with its table, and what it makes of the rows it was fitted on.

    `right` and `rescue` are out of fold; None where only groups were asked for.
    """

    table: PredictorTable
    centroids: FloatArray
    predictor: Predictor
    group: IntArray
    right: FloatArray | None = None
    rescue: FloatArray | None = None


def fit_groups(texts: Sequence[str], *, groups: int, dimensions: int, seed: int) -> Fitted:
    """Question groups alone: what a vote's rules by group need."""
    featuriser = Featuriser(dimensions, inverse_frequency(texts, dimensions))
    words = featuriser.matrix(texts)
    centroids = rounded(spherical_means(words, groups, seed))
    table = PredictorTable(idf=_tuple(featuriser.idf))
    return Fitted(
        table=table,
        centroids=centroids,
        predictor=predictor_of(table, centroids),
        group=np.argmax(words @ centroids.T, axis=1).astype(np.int64),
    )


def fit_predictor(
    texts: Sequence[str],
    confidence: FloatArray,
    right: BoolArray,
    rescued: BoolArray,
    *,
    groups: int,
    dimensions: int,
    seed: int,
) -> Fitted:
    """The predictor of one option.

    `right`: its answer is right; `rescued`: it is wrong and the baseline's is right. Numbers are
    rounded before anything is predicted with them, so that the file is what gets certified.
    """
    featuriser = Featuriser(dimensions, inverse_frequency(texts, dimensions))
    words = featuriser.matrix(texts)
    dense = dense_features(texts, confidence)
    mean, scale = dense.mean(axis=0), dense.std(axis=0)
    mean, scale = rounded(mean), rounded(np.where(scale > 1e-9, scale, 1.0))
    centroids = rounded(spherical_means(words, groups, seed))
    standard = np.clip((dense - mean) / scale, -6.0, 6.0)
    right_head, right_out = fit_head(words, standard, right, seed)
    rescue_head, rescue_out = fit_head(words, standard, rescued, seed)
    table = PredictorTable(
        idf=_tuple(featuriser.idf),
        mean=_tuple(mean),
        scale=_tuple(scale),
        right=right_head,
        rescue=rescue_head,
    )
    return Fitted(
        table=table,
        centroids=centroids,
        predictor=predictor_of(table, centroids),
        group=np.argmax(words @ centroids.T, axis=1).astype(np.int64),
        right=right_out,
        rescue=rescue_out,
    )


def dense_features(texts: Sequence[str], confidence: FloatArray) -> FloatArray:
    """Form and evidence features, one row per text, not standardised."""
    return _with_evidence(np.stack([form(text) for text in texts]), confidence)


def _with_evidence(forms: FloatArray, confidence: FloatArray) -> FloatArray:
    return np.column_stack((forms, np.stack([evidence(float(sure)) for sure in confidence])))


def predictions(
    predictor: Predictor, texts: Sequence[str], confidences: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray]:
    """(group, P(right), P(rescue)): `Predictor.judge` of texts by plays, all at once."""
    words = predictor.featuriser.matrix(texts)
    forms = np.stack([form(text) for text in texts])
    right, rescue = predictor.heads
    sure, helped = np.empty_like(confidences), np.empty_like(confidences)
    for play, confidence in enumerate(confidences.T):
        dense = predictor.standardised(_with_evidence(forms, confidence))
        sure[:, play] = right.probability(words, dense)
        helped[:, play] = rescue.probability(words, dense)
    return groups_of(predictor, words), sure, helped


def groups_of(predictor: Predictor, words: FloatArray) -> IntArray:
    """The group of every word vector."""
    found: IntArray = np.argmax(words @ predictor.centroids.T, axis=1).astype(np.int64)
    return found


def inverse_frequency(texts: Sequence[str], dimensions: int) -> FloatArray:
    """ln((1 + n) / (1 + texts with the dimension)) + 1 of every dimension."""
    seen = np.zeros(dimensions)
    for text in texts:
        index, _ = hashed_counts(text, dimensions)
        seen[np.unique(index)] += 1.0
    return rounded(np.log((1.0 + len(texts)) / (1.0 + seen)) + 1.0)


def spherical_means(vectors: FloatArray, count: int, seed: int, *, rounds: int = 25) -> FloatArray:
    """Unit centroids of k-means by direction, started far apart (k-means++), best of three."""
    if count < 1:
        raise InputError(f"the number of groups must be 1 or more, got {count}")
    generator = np.random.default_rng(seed)
    best, best_fit = None, -np.inf
    for _ in range(3):
        centroids = _far_apart(vectors, count, generator)
        for _ in range(rounds):
            nearest = np.argmax(vectors @ centroids.T, axis=1)
            sums = np.zeros_like(centroids)
            np.add.at(sums, nearest, vectors)
            lengths = np.linalg.norm(sums, axis=1, keepdims=True)
            moved = np.where(lengths > 0.0, sums / np.maximum(lengths, 1e-12), centroids)
            if np.allclose(moved, centroids):
                break
            centroids = moved
        fit = float((vectors @ centroids.T).max(axis=1).sum())
        if fit > best_fit:
            best, best_fit = centroids, fit
    assert best is not None
    return best


def _far_apart(vectors: FloatArray, count: int, generator: np.random.Generator) -> FloatArray:
    chosen = [int(generator.integers(len(vectors)))]
    for _ in range(count - 1):
        distance = np.maximum(1.0 - (vectors @ vectors[chosen].T).max(axis=1), 0.0)
        total = distance.sum()
        share = distance / total if total > 0.0 else np.full(len(vectors), 1.0 / len(vectors))
        chosen.append(int(generator.choice(len(vectors), p=share)))
    found: FloatArray = vectors[chosen].copy()
    return found


def fit_head(
    words: FloatArray, dense: FloatArray, target: BoolArray, seed: int
) -> tuple[HeadTable, FloatArray]:
    """A logistic head, its word penalty cross-validated, and its out-of-fold probabilities.

    Where the target holds everywhere there is nothing to fit: the head is its Laplace estimate.
    """
    if target.all():
        n = len(target)
        table = HeadTable(
            words=(0.0,) * words.shape[1],
            dense=(0.0,) * dense.shape[1],
            intercept=float(rounded(np.log([n + 1.0]))[0]),
        )
        return table, np.full(n, (n + 1.0) / (n + 2.0))
    folds = fold_numbers(len(target), seed)
    scored = []
    for penalty in WORD_PENALTIES:
        out = np.empty(len(target))
        for fold in range(FOLDS):
            train = folds != fold
            weights = logistic(words[train], dense[train], target[train], penalty)
            out[~train] = _probability(weights, words[~train], dense[~train])
        loss = -np.where(target, np.log(out), np.log1p(-out)).mean()
        scored.append((loss, penalty, out))
    # A little worse than the best is as good, if simpler: penalties fall along the list.
    least = min(loss for loss, _, _ in scored)
    _, penalty, out = next(item for item in scored if item[0] <= least * 1.002)
    weights = logistic(words, dense, target, penalty)
    table = HeadTable(
        words=_tuple(rounded(weights[: words.shape[1]])),
        dense=_tuple(rounded(weights[words.shape[1] : -1])),
        intercept=float(rounded(weights[-1:])[0]),
    )
    return table, out


def logistic(
    words: FloatArray, dense: FloatArray, target: ArrayLike, word_penalty: float
) -> FloatArray:
    """Weights (words, dense, intercept) of a penalised logistic regression.

    Minimises Σ log loss + Σ penalty/2 w², the intercept as good as free.
    """
    y = np.asarray(target, dtype=np.float64)
    penalty = np.full(words.shape[1] + dense.shape[1] + 1, float(word_penalty))
    penalty[words.shape[1] :] = DENSE_PENALTY
    penalty[-1] = INTERCEPT_PENALTY
    # In units in which all weights but the intercept are penalised alike.
    root = np.sqrt(penalty)
    root[-1] = 1.0
    x, penalty = np.column_stack((words, dense, np.ones(len(y)))) / root, penalty / root**2

    def loss(v: FloatArray) -> tuple[float, FloatArray]:
        z = x @ v
        value = float(np.logaddexp(0.0, z).sum() - y @ z + 0.5 * penalty @ v**2)
        return value, x.T @ (_sigmoid(z) - y) + penalty * v

    found = minimize(
        loss, np.zeros(len(root)), jac=True, method="L-BFGS-B",
        options={"maxiter": MOST_ITERATIONS, "gtol": SLOPE_TOLERANCE, "ftol": 0.0, "maxcor": 20},
    )  # fmt: skip
    weights: FloatArray = np.asarray(found.x) / root
    return weights


def _sigmoid(z: FloatArray) -> FloatArray:
    found: FloatArray = 1.0 / (1.0 + np.exp(-np.clip(z, -30.0, 30.0)))
    return found


def _probability(weights: FloatArray, words: FloatArray, dense: FloatArray) -> FloatArray:
    d = words.shape[1]
    z = words @ weights[:d] + dense @ weights[d:-1] + weights[-1]
    found: FloatArray = 1.0 / (1.0 + np.exp(-np.clip(z, -16.0, 16.0)))
    return found


def fold_numbers(n: int, seed: int, folds: int = FOLDS) -> IntArray:
    """A fold for each of n rows, sizes as equal as can be."""
    return np.random.default_rng(seed).permutation(np.arange(n) % folds).astype(np.int64)


def ridge(features: FloatArray, target: FloatArray, penalty: float) -> FloatArray:
    """Weights (features, intercept) that minimise squared error + penalty |w|²."""
    mean = features.mean(axis=0)
    centred = features - mean
    gram = centred.T @ centred + penalty * np.eye(features.shape[1])
    slopes = np.linalg.solve(gram, centred.T @ (target - target.mean()))
    return np.append(slopes, target.mean() - mean @ slopes)


def rounded(values: ArrayLike) -> FloatArray:
    """Values to `SIGNIFICANT_DIGITS`: what a policy file stores."""
    found: FloatArray = np.array(
        [float(f"{value:.{SIGNIFICANT_DIGITS}g}") for value in np.ravel(np.asarray(values))]
    ).reshape(np.shape(values))
    return found


def _tuple(values: FloatArray) -> tuple[float, ...]:
    return tuple(values.tolist())
