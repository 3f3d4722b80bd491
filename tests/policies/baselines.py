"""What operators run today, simple and composed: a certified policy may stand in front of each."""

from __future__ import annotations

BASELINES = {
    "one sample": "single@big",
    "a vote": "self_consistency:samples=5@big",
    "an adaptive vote": "adaptive_consistency:max_samples=8@big",
    "a vote in windows": "esc:window=2,max_samples=6@big",
    "a two-sided vote": "two_sided:max_samples=8,patience=4,hopeless=.4@big",
    "a table": "vote_table:answer=-+2+00@big",
    "a cascade": "adaptive_consistency:max_samples=3,accept=.9@mid > single@big",
    "a cascade of votes": (
        "adaptive_consistency:max_samples=3,accept=.9@mid > self_consistency:samples=4@big"
    ),
    "three steps": "single:accept=.6@mid > agreement:models=mid+big > single@big",
    "confident traces": "deepconf:max_samples=8,warmup=3,parallel=2,keep=.4@big",
}
