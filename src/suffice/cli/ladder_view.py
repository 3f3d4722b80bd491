"""What `suffice ladder` draws: the plan as a table, and a run in flight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from suffice.cli.lazy_group import HELP_ONLY
from suffice.core.quantities import format_count, format_seconds

if not HELP_ONLY:
    from suffice.recipes.ladder.events import Events
    from suffice.recipes.ladder.plan import Plan
    from suffice.training.pretrain.flops import training_flops
    from suffice.training.pretrain.run_store import RunRecord
    from suffice.training.rung import LadderRung, Recipe, law_coordinates


if TYPE_CHECKING:
    from suffice.training.pretrain.trainer import Tick


def console() -> Console:
    """Where results go."""
    return Console()


def plan_table(plan: Plan, rungs: Sequence[LadderRung], *, every: bool) -> Table:
    """Rungs by purpose, size and tokens; with `every`, one row per rung."""
    table = Table(title="Ladder", title_justify="left")
    if every:
        for heading in ("N", "tokens", "hidden", "MLP", "layers", "heads/KV", "x", "r", "time"):
            table.add_column(heading, justify="right")
        for rung in rungs:
            table.add_row(*_rung_cells(plan, rung))
        return table
    for heading in ("purpose", "N about", "tokens", "runs", "time each", "time"):
        table.add_column(heading, justify="left" if heading == "purpose" else "right")
    groups: dict[tuple[str, str, int], list[LadderRung]] = {}
    for rung in rungs:
        size = format_count(rung.parameters, 2)
        groups.setdefault((rung.purpose, size, rung.tokens), []).append(rung)
    for (purpose, size, tokens), members in groups.items():
        seconds = [plan.cost_s(rung) for rung in members]
        table.add_row(
            purpose, size, format_count(tokens), str(len(members)),
            format_seconds(sum(seconds) / len(seconds)), f"{sum(seconds) / 60:,.1f} min",
        )  # fmt: skip
    return table


def _rung_cells(plan: Plan, rung: LadderRung) -> list[str]:
    shape, at = rung.shape, law_coordinates(rung.shape)
    return [
        format_count(rung.parameters), format_count(rung.tokens), str(shape.hidden_size),
        str(shape.intermediate_size), str(shape.num_hidden_layers),
        f"{shape.num_attention_heads}/{shape.num_key_value_heads}", f"{at['x']:.3f}",
        f"{at['r']:.2f}", format_seconds(plan.cost_s(rung)),
    ]  # fmt: skip


class LadderProgress:
    """A bar over the rungs of a stage by their FLOPs, with the time left and the last loss seen."""

    def __init__(self, *, quiet: bool) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=Console(stderr=True), disable=quiet,
        )  # fmt: skip
        self._task: TaskID | None = None
        # FLOPs done of each rung in flight.
        self._under_way: dict[str, float] = {}
        self._done = 0.0

    def __enter__(self) -> Events:
        self._bars.__enter__()
        return Events(say=self._say, stage=self._stage, record=self._record, tick=self._tick)

    def __exit__(self, *args: Any) -> None:
        self._bars.__exit__(*args)

    def _say(self, text: str) -> None:
        self._bars.console.print(text, highlight=False)

    def _stage(self, rungs: Sequence[LadderRung], recipe: Recipe) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        total = sum(training_flops(rung, recipe) for rung in rungs)
        self._done = 0.0
        self._task = self._bars.add_task(f"{len(rungs)} rungs", total=total)

    def _tick(self, tick: Tick) -> None:
        self._under_way[tick.run_id] = tick.model_flops * tick.step / tick.steps
        rate = format_count(tick.tokens_per_s)
        self._show(f"{tick.run_id} loss {tick.loss:.3f}, {rate} tokens/s")

    def _record(self, record: RunRecord) -> None:
        self._under_way.pop(record.run_id, None)
        self._done += record.model_flops
        self._show(None)
        loss = record.status if record.loss is None else f"loss {record.loss:.4f}"
        self._say(
            f"{record.run_id} {record.purpose}: N {format_count(record.non_embedding_parameters)}, "
            f"D {format_count(record.tokens)}, x {record.x:.3f}, r {record.r:.2f}, "
            f"KV {record.kv_share:g}, {record.num_hidden_layers} layers, seed {record.seed}: {loss}"
            + (f" ({record.error})" if record.error else "")
        )

    def _show(self, text: str | None) -> None:
        if self._task is None:
            return
        completed = self._done + sum(self._under_way.values())
        if text is None:
            self._bars.update(self._task, completed=completed)
        else:
            self._bars.update(self._task, completed=completed, description=text)
