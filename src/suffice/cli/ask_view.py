"""The live view of `suffice ask`: a row per sample, a bar per answer, then the accepted one."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from suffice.cli.lazy_group import HELP_ONLY
from suffice.core.completions import Outcome, SampleRecord
from suffice.core.quantities import counted, format_seconds
from suffice.core.savings import saved_in_words

if not HELP_ONLY:
    from suffice.executors.live import Event, Failed, Finished, Launched, Settled, Stopped, Streamed


MOST_ROWS = 20
_BAR = 24
_COLOURS = {"running": "cyan", "finished": "green", "cancelled": "yellow", "failed": "red"}


@dataclass(slots=True)
class SampleLine:
    """What is known of one sample so far."""

    status: str = "running"
    tokens: int = 0
    confidence_sum: float = 0.0
    confidence_count: int = 0
    answer: str | None = None
    text: str = ""

    @property
    def confidence(self) -> float | None:
        """Mean token confidence in nats."""
        return self.confidence_sum / self.confidence_count if self.confidence_count else None


@dataclass(slots=True)
class View:
    """Renders itself from the events it has seen."""

    policy: str
    model: str
    rows: dict[int, SampleLine] = field(default_factory=dict)

    def see(self, event: Event) -> None:
        """Take one event of the executor in."""
        match event:
            case Launched(launch=launch):
                self.rows[launch.sample] = SampleLine(text=launch.shown)
            case Streamed(sample=sample, chunk=chunk):
                row = self.rows[sample]
                row.tokens += chunk.token_count if chunk.token_count is not None else 1
                row.text += chunk.reasoning_text + chunk.text
                for entry in chunk.logprobs:
                    confidence = entry.confidence()
                    if confidence is not None:
                        row.confidence_sum += confidence
                        row.confidence_count += 1
            case Finished(sample=sample, answer=answer):
                self.rows[sample].status = "finished"
                self.rows[sample].answer = answer
            case Failed(sample=sample, error=error):
                self.rows[sample].status = "failed"
                self.rows[sample].text = str(error)
            case Stopped(sample=sample):
                self.rows[sample].status = "cancelled"
            case Settled():
                pass

    def __rich__(self) -> RenderableType:
        return Group(
            Text.assemble((self.policy, "bold"), " on ", (self.model, "bold")),
            self._samples(),
            votes_table(self._votes()),
        )

    def final(self, outcome: Outcome) -> RenderableType:
        """The answer and its receipt."""
        parts: list[RenderableType] = []
        if outcome.samples_run > 1:
            parts.append(self._final_samples(outcome))
            if outcome.samples_run > MOST_ROWS:
                parts.append(Text(f"… and {outcome.samples_run - MOST_ROWS} more", style="dim"))
            parts.append(votes_table(dict(outcome.votes)))
        if outcome.completion.reasoning_text:
            parts.append(Text(outcome.completion.reasoning_text.strip(), style="dim"))
        body = outcome.completion.text.strip() or "(nothing)"
        title = "best so far" if outcome.escalated else "answer"
        parts += [Panel(Text(body), title=title, title_align="left"), Text(summary(outcome))]
        behind = upstream_receipt(outcome)
        if behind is not None:
            parts.append(Text(behind_in_words(behind)))
        return Group(*parts)

    def _votes(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for row in self.rows.values():
            if row.answer is not None:
                counts[row.answer] = counts.get(row.answer, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def _samples(self) -> Table:
        table = _sample_table()
        for number, row in list(self.rows.items())[-MOST_ROWS:]:
            _add_row(table, number, row.status, row.tokens, row.confidence, row.answer, row.text)
        return table

    def _final_samples(self, outcome: Outcome) -> Table:
        table = _sample_table()
        for record in outcome.records[:MOST_ROWS]:
            _add_row(
                table,
                record.sample,
                record.status,
                record.usage.completion_tokens,
                record.confidence,
                record.answer,
                self._text_of(record),
            )
        return table

    def _text_of(self, record: SampleRecord) -> str:
        row = self.rows.get(record.sample)
        return row.text if row else record.reason or ""


def votes_table(votes: dict[str, int]) -> RenderableType:
    """A bar per answer, most frequent first; nothing if nothing was comparable."""
    if not votes:
        return Text("")
    table = Table("votes", "", "answer", box=None, pad_edge=False)
    most = max(votes.values())
    for answer, count in list(votes.items())[:6]:
        table.add_row(str(count), "█" * max(1, round(_BAR * count / most)), Text(answer[:40]))
    return table


def upstream_receipt(outcome: Outcome) -> dict[str, Any] | None:
    """The receipt of the accepted answer, if the server that gave it is a suffice gateway."""
    extras = outcome.completion.extras
    found = {} if extras is None else json.loads(extras.response_json)
    receipt = found.get("suffice")
    if not isinstance(receipt, dict) or not isinstance(receipt.get("samples_run"), int):
        return None
    return receipt


def behind_in_words(receipt: Mapping[str, Any]) -> str:
    """What the gateway behind this call did for the accepted answer."""
    drawn = counted(receipt["samples_run"], "sample")
    return f"The server is a suffice gateway. For this answer it drew {drawn}: {receipt.get('why')}"


def summary(outcome: Outcome) -> str:
    """The receipt in one line."""
    parts = [outcome.why, counted(outcome.samples_run, "sample")]
    if outcome.samples_cancelled:
        parts[-1] += f" ({outcome.samples_cancelled} cancelled)"
    parts.append(f"{outcome.usage.completion_tokens} tokens")
    if outcome.confidence is not None:
        parts.append(f"confidence {outcome.confidence:.2f}")
    if outcome.saving is not None and outcome.saved is not None:
        how = "" if outcome.saving.basis == "measured" else f", {outcome.saving.basis}"
        said = saved_in_words(outcome.saved)
        parts.append(f"{said} against {outcome.saving.baseline}{how}")
    parts.append(
        f"{format_seconds(outcome.elapsed_s)}, ours {format_seconds(outcome.overhead_s)}"
    )  # fmt: skip
    return " · ".join(parts)


def _sample_table() -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("#", "status", "tokens", "confidence", "answer"):
        right = name in ("#", "tokens", "confidence")
        width = max(len(name), 9 if name == "status" else 0)
        justify: Literal["left", "right"] = "right" if right else "left"
        table.add_column(name, justify=justify, no_wrap=True, min_width=width)
    table.add_column("text", no_wrap=True, overflow="ellipsis")
    return table


def _add_row(
    table: Table,
    number: int,
    status: str,
    tokens: int,
    confidence: float | None,
    answer: str | None,
    text: str,
) -> None:
    tail = " ".join(text.split())[-60:]
    table.add_row(
        str(number),
        Text(status, style=_COLOURS.get(status, "")),
        str(tokens),
        "" if confidence is None else f"{confidence:.2f}",
        Text("" if answer is None else answer[:24]),
        Text(tail, style="dim"),
    )


async def watched(
    events: AsyncGenerator[Event, None], view: View, console: Console, *, moving: bool
) -> Outcome:
    """Take an executor's events in, drawn as they come where `moving` and a terminal reads."""
    outcome: Outcome | None = None
    picture = Live(view, console=console, refresh_per_second=12, transient=True)
    async with aclosing(events):
        if moving and console.is_terminal:
            picture.start()
        try:
            async for event in events:
                view.see(event)
                if isinstance(event, Settled):
                    outcome = event.outcome
        finally:
            picture.stop()
    assert outcome is not None  # the executor settles or raises
    return outcome
