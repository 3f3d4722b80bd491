"""From a recording to a policy with a certificate, in Python: `suffice calibrate` does the same."""

from pathlib import Path

from suffice import CalibrateConfig, calibrate, read_traces
from suffice.core.prices import Prices

RECORDING = Path(__file__).resolve().parents[1] / "data" / "traces" / "two-arms.parquet"

traces = read_traces([RECORDING])
print(f"{len(traces.questions)} questions, {len(traces)} samples of {', '.join(traces.models)}")
found = calibrate(
    traces,
    CalibrateConfig(
        max_drop=0.02,
        baseline="single@large-think",
        options=("self_consistency:samples=2@small-think",),
        prices=Prices.parse(["small-think=0/1", "large-think=0/11.26"]),
        mixed=True,
    ),
)
certificate = found.file.certificate
print(certificate.statement)
saving = certificate.expected.saving
print(f"saves {saving.estimate:.0%} [{saving.low:.0%}, {saving.high:.0%}] of the baseline's cost")
