"""What quickstart has to know, and the files that it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from suffice.core.errors import InputError
from suffice.core.prices import Prices

POLICY = "policy"  # the policy file's name, and so the model's: suffice/policy
TRIAL_QUESTIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartConfig:
    """A user's servers and questions.

    `baseline` is the model that answers today; `prices` what tokens cost; both are proposed where
    they are not given. `limit` is the accuracy limit in points: no more is lost, says
    the certificate. `samples` are recorded of every model for every question.
    """

    upstreams: Sequence[str]
    questions: Path
    out: Path
    baseline: str | None = None
    prices: Prices = field(default_factory=Prices)
    limit: float = 2.0
    confidence: float = 0.95
    samples: int = 1
    answer_format: str | None = None
    port: int = 8080

    def __post_init__(self) -> None:
        if not self.upstreams:
            raise InputError("name a server: --upstream http://localhost:8000/v1 (may be repeated)")
        if not self.questions.is_file():
            raise InputError(
                f"there is no file {str(self.questions)!r}: a question a line, as JSON "
                '({"prompt": "What is 2+2?", "answer": "4"}) or as CSV with the same columns'
            )
        if not 0 < self.limit < 100:
            raise InputError(f"the accuracy limit must be between 0 and 100 points: {self.limit:g}")

    @property
    def recording(self) -> Path:
        """Every model's answer to every question."""
        return self.out / "recording.parquet"

    @property
    def policy_file(self) -> Path:
        """The certified policy."""
        return self.out / f"{POLICY}.json"

    @property
    def settings(self) -> Path:
        """The gateway's settings."""
        return self.out / "suffice.toml"

    @property
    def report(self) -> Path:
        """Pages and pictures of the calibration."""
        return self.out / "report"
