"""Drawing tokens as a request's sampling says, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from suffice.backends.nano.vocabulary import Vocabulary
from suffice.backends.nano.weights import Array
from suffice.core.completions import TokenLogprob
from suffice.core.requests import Sampling


class TokenSampler:
    """Draws tokens; log-probabilities are of the raw distribution.

    A seed repeats a sample of a prompt. Other prompts draw otherwise under the same seed: else a
    model this small would make the same lucky or unlucky choice on all of them.
    """

    def __init__(
        self, sampling: Sampling, vocabulary: Vocabulary, prompt: Sequence[int] = ()
    ) -> None:
        self._sampling = sampling
        self._vocabulary = vocabulary
        self._seen_V = np.zeros(len(vocabulary), np.float32)
        seed = sampling.seed
        # Clients may send negative seeds, which NumPy has none of.
        self._rng = np.random.default_rng(None if seed is None else (seed % 2**64, *prompt))

    def __call__(self, logits_V: Array) -> tuple[int, TokenLogprob | None]:
        """The token and, where asked for, its log-probability and the best alternatives."""
        token = self._draw(logits_V)
        self._seen_V[token] += 1
        wanted = self._sampling.top_logprobs
        if wanted is None:
            return token, None
        shifted = logits_V - logits_V.max()
        logprobs_V = shifted - np.log(np.exp(shifted).sum())
        best = np.argsort(-logprobs_V, kind="stable")[:wanted]
        names = self._vocabulary.tokens
        return token, TokenLogprob(
            token=names[token],
            logprob=float(logprobs_V[token]),
            top=tuple((names[i], float(logprobs_V[i])) for i in best),
        )

    def _draw(self, logits_V: Array) -> int:
        sampling = self._sampling
        penalised_V = logits_V
        if sampling.frequency_penalty or sampling.presence_penalty:
            penalty_V = self._seen_V * (sampling.frequency_penalty or 0.0)
            penalty_V = penalty_V + (self._seen_V > 0) * (sampling.presence_penalty or 0.0)
            penalised_V = logits_V - penalty_V
        temperature = 1.0 if sampling.temperature is None else sampling.temperature
        if temperature == 0.0:
            return int(penalised_V.argmax())
        scaled = np.exp((penalised_V - penalised_V.max()) / temperature, dtype=np.float64)
        kept_V = _truncate(scaled / scaled.sum(), sampling)
        upto_V = np.cumsum(kept_V)
        drawn = int(np.searchsorted(upto_V, self._rng.random() * upto_V[-1], side="right"))
        # Rounding may end beyond all of them.
        return drawn if drawn < len(upto_V) else int(np.flatnonzero(kept_V)[-1])


def _truncate(
    probabilities_V: np.ndarray[tuple[int], np.dtype[np.float64]], sampling: Sampling
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Probabilities with everything outside top_k, min_p and top_p at zero."""
    kept_V = probabilities_V
    if sampling.top_k is not None and 0 < sampling.top_k < len(kept_V):
        least = np.sort(kept_V)[-sampling.top_k]
        kept_V = np.where(kept_V >= least, kept_V, 0.0)
    if sampling.min_p is not None:
        kept_V = np.where(kept_V >= sampling.min_p * probabilities_V.max(), kept_V, 0.0)
    if sampling.top_p is not None and sampling.top_p < 1.0:
        order = np.argsort(-kept_V, kind="stable")
        ordered = kept_V[order]
        before = np.cumsum(ordered) - ordered  # mass of all likelier tokens
        dropped = order[before >= sampling.top_p * ordered.sum()]
        kept_V = kept_V.copy()
        kept_V[dropped] = 0.0
    return kept_V
