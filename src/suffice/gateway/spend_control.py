"""Lambda of `auto`, moved by every answer of it and shared by all processes on a ledger."""

from __future__ import annotations

from collections.abc import Sequence

from suffice.core.completions import Outcome
from suffice.gateway.config_sections import AutoConfig
from suffice.ledger.shared_numbers import SharedNumbers
from suffice.policies.auto import Auto, SpendControl

NAME = "lambda"


class LambdaPrice:
    """The price that `auto` chooses by, held so that mean spend stays at the operator's target."""

    def __init__(self, config: AutoConfig, numbers: SharedNumbers) -> None:
        self._config = config
        self._numbers = numbers

    @property
    def steered(self) -> bool:
        """Whether there is a target to keep."""
        return self._config.spend_target is not None

    def value(self) -> float:
        """Lambda now: quality that one more sample's tokens must buy."""
        if not self.steered:
            return self._config.price
        return self._numbers.value(NAME, self._config.price)

    def apply(self, config: AutoConfig) -> None:
        """Go on by other settings; a price that is shared stays."""
        self._config = config

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Move lambda by what these answers spent, measured in finished samples of their own."""
        if self._config.spend_target is None:
            return
        for outcome in outcomes:
            spent = samples_worth(outcome)
            if outcome.arm != Auto.name or spent is None:
                continue
            # The step is taken from price 1, where it is never cut off at 0; the sum is, later.
            control = SpendControl(
                target=self._config.spend_target, price=1.0, rate=self._config.rate
            )
            self._numbers.move(NAME, control.after(spent).price - 1.0)


def samples_worth(outcome: Outcome) -> float | None:
    """Completion tokens in units of the mean sample that ended by itself; None if none did."""
    lengths = [
        record.usage.completion_tokens
        for record in outcome.records
        if record.status == "finished" and record.purpose == "answer"
    ]
    total = sum(lengths)
    return outcome.usage.completion_tokens * len(lengths) / total if total else None
