"""`suffice quickstart --live`: from servers alone to a gateway that shadows, without questions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from suffice.backends.openai import OpenAIBackend
from suffice.core.errors import BackendError, InputError
from suffice.core.files import write_text
from suffice.core.prices import Prices
from suffice.quickstart.models import Offer, assumed_prices, largest, offers_of

Tell = Callable[[str], None]
# Where engines usually listen: vLLM, its second, SGLang, llama.cpp.
USUAL = tuple(f"http://localhost:{port}/v1" for port in (8000, 8001, 8002, 30000, 8081))
FOUND_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStart:
    """What is asked for; no upstream: the usual ports of this machine are tried."""

    upstreams: tuple[str, ...] = ()
    out: Path = Path("suffice-quickstart")
    answer_format: str | None = None
    target: float = 0.05
    prices: Prices | None = None
    port: int = 8080

    @property
    def settings(self) -> Path:
        """The gateway's settings."""
        return self.out / "suffice.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The two ways, and why these."""

    safe: str
    cheap: str
    why: str


def prepare(config: LiveStart, *, tell: Tell) -> Proposal:
    """Probe the servers, propose two ways, write the settings, say what will happen."""
    return asyncio.run(_prepare(config, tell))


async def _prepare(config: LiveStart, tell: Tell) -> Proposal:
    if config.answer_format in (None, "text"):
        raise InputError(
            "answers are compared, so say how: --answer-format number, choice, boxed, json, tool "
            "or regex:… (free text is not judged)"
        )
    upstreams = config.upstreams or await _found_here()
    offers = await offers_of(upstreams)
    tell(f"Found {', '.join(f'{each.model} at {each.upstream}' for each in offers)}.")
    proposal = await _proposed(offers)
    models = tuple(dict.fromkeys(each.model for each in offers))
    prices = config.prices or assumed_prices(models) or Prices()
    config.out.mkdir(parents=True, exist_ok=True)
    write_text(config.settings, settings_text(config, proposal, upstreams, prices))
    for line in in_words(config, proposal):
        tell(line)
    return proposal


async def _found_here() -> tuple[str, ...]:
    async def answers(url: str) -> bool:
        backend = OpenAIBackend(url)
        try:
            async with asyncio.timeout(FOUND_S):
                status, listed = await backend.post("/v1/models", None)
            return status == 200 and bool(listed.get("data"))
        except (BackendError, TimeoutError):
            return False
        finally:
            await backend.aclose()

    there = await asyncio.gather(*map(answers, USUAL))
    found = tuple(url for url, yes in zip(USUAL, there, strict=True) if yes)
    if not found:
        raise InputError(f"no server answers at {', '.join(USUAL)}: name yours with --upstream URL")
    return found


async def _proposed(offers: Sequence[Offer]) -> Proposal:
    models = list(dict.fromkeys(each.model for each in offers))
    large = largest(models)
    small = [model for model in models if model != large]
    safe = f"single@{large}"
    if len(small) > 1:
        pair = small[:2]
        return Proposal(
            safe=safe,
            cheap=f"agreement:models={'+'.join(pair)} > {safe}",
            why=f"{large} seems to be the largest; where {' and '.join(pair)} agree, it is spared",
        )
    if small:
        return Proposal(
            safe=safe, cheap=f"single@{small[0]}",
            why=f"{large} seems to be the larger of the two",
        )  # fmt: skip
    backend = OpenAIBackend(offers[0].upstream)
    try:
        able = await backend.capabilities(large)
    finally:
        await backend.aclose()
    if able.thinking_switch is None:
        raise InputError(
            f"there is one model, {large}, and it cannot be told not to think: there is no cheaper "
            "way to compare; add --upstream with a smaller model"
        )
    return Proposal(
        safe=f"single:effort=high@{large}",
        cheap=f"single:effort=none@{large}",
        why="one model that can think: it is compared with itself without thinking",
    )


def settings_text(
    config: LiveStart,
    proposal: Proposal,
    upstreams: Sequence[str],
    prices: Prices,
    *,
    more: Sequence[str] = (
        "shadow_only = true  # take this line out, and what is certified is switched on",
    ),
) -> str:
    """suffice.toml of a gateway that shadows and changes no answer; `more`: lines of [live]."""
    ledger = str((config.out / "ledger.db").resolve())
    lines = [
        "# Written by suffice quickstart --live; `suffice config init` shows every other key.",
        f"port = {config.port}",
        f"answer_format = {_quoted(config.answer_format or '')}",
        "",
        "[live]",
        f"safe = {_quoted(proposal.safe)}",
        f"cheap = [{_quoted(proposal.cheap)}]",
        f"target = {config.target:g}",
        *more,
        "",
        "[ledger]",
        f"url = {_quoted(ledger)}",
    ]
    if prices:
        lines += ["", "[prices]  # USD per million tokens: prompt/completion"]
        lines += [f"{_quoted(name)} = {_quoted(rate)}" for name, rate in prices.table().items()]
    for upstream in upstreams:
        lines += ["", "[[upstream]]", f"url = {_quoted(upstream)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text)


def in_words(config: LiveStart, proposal: Proposal) -> list[str]:
    """What will happen."""
    return [
        f"Safe: {proposal.safe}. Cheap: {proposal.cheap} ({proposal.why}).",
        f"Wrote {config.settings}. What will happen:",
        f"  1. Send your requests to http://127.0.0.1:{config.port}/v1, with the model's name as "
        "before. The safe way answers every one; nothing changes for your clients.",
        "  2. A quarter of them is answered by the cheap way too, after the client has its answer, "
        "and the two answers are compared. Free text is left out.",
        "  3. `suffice live status` says how many differ, and when it is certain, at 95 %, that at "
        f"most {100 * config.target:g} % do; a few hundred compared requests are usual.",
        "  4. Then take shadow_only out of the file and send SIGHUP (or start again): the cheap "
        "way answers, one request in twenty is still compared, and it is taken back if more "
        "differ.",
    ]
