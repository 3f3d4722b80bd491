"""What the caller of a ladder's runs may want to hear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suffice.training.pretrain.run_store import RunRecord
from suffice.training.rung import LadderRung, Recipe

if TYPE_CHECKING:  # training needs torch, hearing of it does not
    from suffice.training.pretrain.trainer import Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What a caller may want to hear; each is called in the process that runs the ladder."""

    say: Callable[[str], None] = lambda _: None
    stage: Callable[[Sequence[LadderRung], Recipe], None] = lambda _rungs, _recipe: None
    record: Callable[[RunRecord], None] = lambda _: None
    tick: Callable[[Tick], None] = lambda _: None
