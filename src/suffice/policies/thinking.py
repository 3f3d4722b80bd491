"""Think less or more: a model or think block of one's choice, or no think block at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from suffice.core.decisions import Action, Actions, Need, Sample
from suffice.core.requests import Request
from suffice.core.thinking import Thinking
from suffice.policies.fixed import SelfConsistency
from suffice.policies.sampling_state import Pool, option
from suffice.policies.wrapper import Wrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides(Wrapper):
    """A policy whose samples use another model or another think block, where they set none."""

    model: str | None = None
    thinking: Thinking | None = None

    def told(self, actions: Actions) -> Actions:
        """Its samples rewired."""
        return tuple(self._rewire_one(action) for action in actions)

    def _rewire_one(self, action: Action) -> Action:
        if not isinstance(action, Sample):
            return action
        return replace(
            action,
            model=action.model or self.model,
            thinking=self.thinking if action.thinking is None else action.thinking,
        )


# 2504.09858 §2: what takes the place of the thinking.
FINISHED_BLOCK = "<think>\nOkay, I think I have finished thinking.\n</think>\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoThinking(SelfConsistency):
    """Answer at once, several times in parallel, and vote: the think block is left empty.

    The engine's own switch turns thinking off. For an engine that has none, `begin` writes the
    block that the paper begins the answer with.
    """

    samples: int = option(8, "samples to draw")
    begin: bool = option(False, "begin with a finished think block: for engines without a switch")

    name: ClassVar[str] = "no_thinking"
    paper: ClassVar[str] = "2504.09858"

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Prefill, where the block is written by us."""
        return frozenset({"prefill"}) if self.begin else frozenset()

    def start(self, request: Request) -> tuple[Pool, Actions]:
        state, actions = SelfConsistency.start(self, request)
        at_once = Overrides(inner=self, thinking=None if self.begin else Thinking(enabled=False))
        begun = FINISHED_BLOCK if self.begin else ""
        return state, tuple(
            replace(action, preface=begun) if isinstance(action, Sample) else action
            for action in at_once.told(actions)
        )
