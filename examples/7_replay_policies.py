"""What would other policies have done? Replay them on recorded samples: same object, no engine."""

from pathlib import Path

from suffice import parse_policy, read_traces
from suffice.core.prices import Prices
from suffice.recipes.frontier.run import FrontierConfig, frontier

RECORDING = Path(__file__).resolve().parents[1] / "data" / "traces" / "two-arms.parquet"
POLICIES = (
    "single@small-think",
    "single@large-think",
    "adaptive_consistency:threshold=.95,max_samples=16@small-think",
    "self_consistency:samples=2,accept=.99@small-think > single@large-think",
)

traces = read_traces([RECORDING])
for text in POLICIES:
    parse_policy(text)  # a typing mistake is told before anything runs
prices = Prices.parse(["small-think=0/1", "large-think=0/11.26"])
config = FrontierConfig(policies=POLICIES, baseline="single@large-think", axis="usd", shuffles=1)
for point in frontier(traces, config, cost_model=prices).points:
    saved = "" if point.saved is None else f", saved {point.saved.estimate:.0%}"
    print(f"{100 * point.accuracy.estimate:5.1f} % right{saved}: {point.policy}")
