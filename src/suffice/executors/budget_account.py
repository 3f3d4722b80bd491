"""A request's budget: what is spent, what running samples may still cost, what may start."""

from __future__ import annotations

from collections.abc import Iterable

from suffice.core.completions import (
    Budget,
    Cost,
    CostModel,
    SampleRecord,
    Usage,
    count_tokens_only,
    total_cost,
)
from suffice.core.errors import InputError
from suffice.core.requests import ImagePart, OpaquePart, Request
from suffice.executors.running_sample import BYTES_PER_TOKEN, Launch, PromptKey, RunningSample

# A byte-level tokenizer never makes more tokens than bytes; templates add a few per turn. Images
# have no such bound, so one is charged at the most that open vision models take by default
# (Qwen2-VL: 16,384 patches).
TEMPLATE_TOKENS = 64
TURN_TOKENS = 16
# What a template adds to a turn and an image to a prompt, as models commonly count them.
TURN_ESTIMATE = 5
IMAGE_ESTIMATE = 1024
IMAGE_TOKENS = 16384
# Largest grant that a money budget alone is turned into.
MAX_GRANT_TOKENS = 1 << 20


class BudgetAccount:
    """Grants completion tokens to samples so that the sum never passes the budget.

    Money is promised for the worst case: the granted tokens in full and an upper bound of the
    prompt's tokens, until a finished sample with the same prompt has told their true number.
    """

    def __init__(self, budget: Budget, cost_model: CostModel) -> None:
        self.budget = budget
        self.cost_model = cost_model
        self.refusal = ""  # why the last sample was refused
        self._started = 0
        self._spent_tokens = 0
        self._spent_usd = 0.0
        self._settled: list[tuple[str, Usage]] = []  # what ended; priced when it is asked for
        self._prompt_tokens: dict[PromptKey, int] = {}
        self._last: tuple[Launch, int] | None = None  # the newest of them, and who told it

    def grant(
        self, launch: Launch, running: Iterable[RunningSample], *, siblings: int, first: bool
    ) -> int | Refused | None:
        """Completion tokens that the sample may draw (None: unlimited), or Refused.

        A sample that asks for more than is left is refused rather than cut short, unless it is the
        `first`. Samples that ask for no bound share what is left with their `siblings`.
        """
        if self.budget.samples is not None and self._started >= self.budget.samples:
            return self._refuse(f"all {self.budget.samples} samples of the budget are drawn")
        asked = launch.draw.sampling.max_tokens
        if not self.is_limited:
            self._started += 1
            return asked
        running = tuple(running)
        granted = self._tokens_left(asked, running, siblings, first)
        if isinstance(granted, Refused):
            return granted
        if self.budget.usd is not None:
            granted = self._affordable(launch, granted, running, siblings, first)
            if isinstance(granted, Refused):
                return granted
        self._started += 1
        return granted

    @property
    def is_limited(self) -> bool:
        """Whether what running samples have drawn decides what may start."""
        return self.budget.completion_tokens is not None or self.budget.usd is not None

    def prompt_bound(self, launch: Launch) -> int:
        """Upper bound of the prompt's tokens; exact once a sample with this prompt finished.

        0 without a budget in money, which alone asks for it.
        """
        if self.budget.usd is None:
            return 0
        known = self._prompt_tokens.get(launch.prompt_key)
        return (
            bound_prompt_tokens(launch.draw.request, launch.draw.prefill)
            if known is None
            else known
        )

    def known_prompt_tokens(self, key: PromptKey) -> int | None:
        """Prompt tokens that an engine reported for this prompt, if one did."""
        return self._prompt_tokens.get(key)

    def settle(self, running: RunningSample) -> None:
        """Book a sample that ended: what it drew is spent, the rest of its grant is free again."""
        usage = running.measured_usage
        self._settled.append((running.launch.draw.model, usage))
        most = running.most_tokens
        self._spent_tokens += most
        if usage.prompt_tokens:
            self._learn(running.launch, usage.prompt_tokens)
        if self.budget.usd is None:
            return
        if not usage.prompt_tokens:
            usage += Usage(prompt_tokens=running.prompt_bound)
        usage += Usage(completion_tokens=most - usage.completion_tokens)
        self._spent_usd += self.cost_model(running.launch.draw.model, usage).usd or 0.0

    def _learn(self, launch: Launch, prompt_tokens: int) -> None:
        """Remember a prompt's tokens; told again and again by its samples, its key is hashed once.

        A conversation's hash takes longer than all else here.
        """
        last = self._last
        if (
            last is None
            or last[1] != prompt_tokens
            or last[0].draw.request is not launch.draw.request
            or last[0].draw.model != launch.draw.model
            or last[0].draw.prefill != launch.draw.prefill
        ):
            self._prompt_tokens[launch.prompt_key] = prompt_tokens
            self._last = launch, prompt_tokens

    def cost_of(self, records: Iterable[SampleRecord]) -> Cost:
        """Cost summed over samples."""
        if self.cost_model is count_tokens_only:
            return Cost(tokens=sum(each.usage.total_tokens for each in records))
        # What took nothing costs nothing, whatever is known of its model.
        return total_cost(
            self.cost_model(each.model, each.usage) for each in records if each.usage.total_tokens
        )

    def cost_so_far(self, running: Iterable[RunningSample]) -> Cost:
        """Cost of the samples that ended and of what the running ones have drawn."""
        drawn = [(each.launch.draw.model, each.measured_usage) for each in running]
        costs = (self.cost_model(model, usage) for model, usage in (*self._settled, *drawn))
        return sum(costs, Cost())

    def _tokens_left(
        self, asked: int | None, running: tuple[RunningSample, ...], siblings: int, first: bool
    ) -> int | Refused | None:
        if self.budget.completion_tokens is None:
            return asked
        reserved = sum(each.reserved_tokens for each in running)
        left = self.budget.completion_tokens - self._spent_tokens - reserved
        share = left // siblings if asked is None else asked
        if share > left:
            share = left if first else 0
        if share < 1:
            return self._refuse(
                f"{max(left, 0)} of {self.budget.completion_tokens} completion tokens are left"
            )
        return share

    def _affordable(
        self,
        launch: Launch,
        granted: int | None,
        running: tuple[RunningSample, ...],
        siblings: int,
        first: bool,
    ) -> int | Refused:
        assert self.budget.usd is not None
        promised = sum(
            self._usd(each.launch.draw.model, each.prompt_bound, each.reserved_tokens)
            for each in running
        )
        left = self.budget.usd - self._spent_usd - promised
        bound = self.prompt_bound(launch)
        if granted is not None and self._usd(launch.draw.model, bound, granted) <= left:
            return granted
        fits = self._tokens_for(
            launch.draw.model, bound, left / (siblings if granted is None else 1)
        )
        fits = fits if granted is None else min(fits, granted)
        if fits < 1 or (granted is not None and not first):
            return self._refuse(f"${max(left, 0.0):.3g} of ${self.budget.usd:.3g} are left")
        return fits

    def _tokens_for(self, model: str, prompt_tokens: int, usd: float) -> int:
        low, high = 0, MAX_GRANT_TOKENS
        while low < high:
            middle = (low + high + 1) // 2
            if self._usd(model, prompt_tokens, middle) <= usd:
                low = middle
            else:
                high = middle - 1
        return low

    def _usd(self, model: str, prompt_tokens: int, completion_tokens: int) -> float:
        usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
        usd = self.cost_model(model, usage).usd
        if usd is None:
            raise InputError(
                f"a budget in dollars needs a price for model {model!r}: give its upstream one, "
                "or budget completion tokens"
            )
        return usd

    def _refuse(self, why: str) -> Refused:
        self.refusal = why
        return Refused()


class Refused:
    """No sample may start now; `BudgetAccount.refusal` says why."""


def bound_prompt_tokens(request: Request, prefill: str = "") -> int:
    """Upper bound of a prompt's tokens: its UTF-8 bytes, and an allowance for the template.

    Fields that suffice does not model count too: a template may render any of them.
    """
    size_bytes, turns, images = _size_of(request, prefill)
    return size_bytes + TEMPLATE_TOKENS + TURN_TOKENS * turns + IMAGE_TOKENS * images


def estimate_prompt_tokens(launch: Launch) -> int:
    """A prompt's tokens where no engine told them: a rough guess by its size."""
    size_bytes, turns, images = _size_of(launch.draw.request, launch.draw.prefill)
    return size_bytes // BYTES_PER_TOKEN + TURN_ESTIMATE * turns + IMAGE_ESTIMATE * images


def _size_of(request: Request, prefill: str) -> tuple[int, int, int]:
    """Bytes of text, turns and tools, and images of a prompt."""
    texts = [prefill, request.extra_json, request.response_format_json or ""]
    for tool in request.tools:
        plain = [tool.name, tool.description or "", tool.parameters_json or ""]
        texts += plain if tool.json is None else [tool.json]
    images = shown_bytes = 0
    for message in request.messages:
        parts = message.content if isinstance(message.content, tuple) else ()
        images += sum(isinstance(part, ImagePart | OpaquePart) for part in parts)
        if message.json is not None:
            texts.append(message.json)
            # An image is counted as one, not by the letters of its address.
            shown_bytes += sum(len(part.url) for part in parts if isinstance(part, ImagePart))
            continue
        texts += [message.text, message.name or ""]
        for call in message.tool_calls:
            texts += [call.name, call.arguments]
        texts += [part.json for part in parts if isinstance(part, OpaquePart)]
    size_bytes = sum(len(text.encode(errors="surrogatepass")) for text in texts) - shown_bytes
    return size_bytes, len(request.messages) + len(request.tools), images
