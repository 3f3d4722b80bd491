"""What one upstream serves, asked again while the gateway runs.

The list is asked for once at the beginning, again at an interval, when somebody wants a model that
is not in it, when the upstream says that it lacks one that is, and after it refused a connection:
the process behind the address may be another one by then. Never more often than `ASK_AGAIN_S`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from suffice.backends.protocol import Backend, ListsModels, ModelCard
from suffice.core.errors import BackendError, UpstreamRefused

# However many calls want to know, an upstream is not asked again for so long.
ASK_AGAIN_S = 1.0


@dataclass(slots=True)
class _Known:
    cards: Mapping[str, ModelCard]
    at_s: float
    sure: bool = True  # False: the upstream has refused a connection since


class ModelListing:
    """The models of one upstream, as far as they are known."""

    def __init__(
        self,
        backend: Backend,
        *,
        refresh_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.backend = backend
        self.error: BackendError | None = None  # of the last time it was asked
        self.asked_at_s = float("-inf")
        self._refresh_s = refresh_s
        self._clock = clock
        self._known: _Known | None = None
        self._asking: asyncio.Task[None] | None = None

    @property
    def cards(self) -> Mapping[str, ModelCard]:
        """Its models by name; those of before where it cannot be reached now."""
        return {} if self._known is None else self._known.cards

    @property
    def state(self) -> tuple[float, bool] | None:
        """What changes whenever it is asked anew, or doubted."""
        return None if self._known is None else (self._known.at_s, self._known.sure)

    @property
    def is_known(self) -> bool:
        """Whether it has ever told."""
        return self._known is not None

    @property
    def is_sure(self) -> bool:
        """Whether it has told, and has not refused a connection since."""
        return self._known is not None and self._known.sure

    def serves(self, model: str) -> bool:
        """Whether `model` is in its list, as far as that is known and sure."""
        return self._known is not None and self._known.sure and model in self._known.cards

    def doubt(self, refused: UpstreamRefused | None = None) -> None:
        """It has refused a connection, or said that it lacks a model of its list."""
        if self._known is not None:
            self._known.at_s = float("-inf")
        if self._known is not None and refused is not None:
            self._known.sure = False
            self.error = refused

    def look_again(self) -> None:
        """Ask it in the background if its list is old or doubted; nobody waits for it."""
        known = self._known
        if known is None or not known.sure or self._clock() - known.at_s >= self._refresh_s:
            self.ask()

    def ask(self, *, newer_than_s: float = 0.0) -> asyncio.Task[None] | None:
        """The task that asks it, shared by all who wait.

        None if it was asked within `ASK_AGAIN_S`, or told something within `newer_than_s`.
        """
        if self._asking is not None and not self._asking.done():
            return self._asking
        now_s = self._clock()
        fresh = self._known is not None and now_s - self._known.at_s < newer_than_s
        if fresh or now_s - self.asked_at_s < ASK_AGAIN_S:
            return None
        self.asked_at_s = now_s
        self._asking = asyncio.create_task(self._ask())
        return self._asking

    async def aclose(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait((self._asking,))

    async def _ask(self) -> None:
        try:
            cards = await cards_of(self.backend)
        except BackendError as error:
            self.error = error
        else:
            self.error = None
            self._known = _Known({card.id: card for card in cards}, self._clock())


async def cards_of(backend: Backend) -> tuple[ModelCard, ...]:
    """What a backend serves now. Raises a BackendError."""
    if isinstance(backend, ListsModels):
        return await backend.models()
    return tuple(ModelCard(id=name) for name in (await backend.capabilities()).models)
