"""The six steps of quickstart, in plain words; every step is an ordinary command that it prints."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from suffice.backends.openai import OpenAIBackend
from suffice.core.errors import BackendError, InputError, SufficeError
from suffice.core.files import write_text
from suffice.core.prices import Prices
from suffice.evals.datasets import Item, load_dataset
from suffice.policies.policy_file import PolicyFile, read_policy_file
from suffice.quickstart.config import TRIAL_QUESTIONS, QuickstartConfig
from suffice.quickstart.models import Offer, assumed_prices, largest, offers_of
from suffice.quickstart.steps import (
    StepFailed,
    Written,
    calibrate_words,
    record_words,
    run_step,
    serve_words,
    settings_text,
    shown,
)
from suffice.quickstart.trial import BeforeAndAfter, Today, trial

START_S = 180.0
Tell = Callable[[str], None]
# Puts a question with its proposed answer to the user; without a user it returns the proposal.
Ask = Callable[[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quickstarted:
    """What was found and written."""

    offers: tuple[Offer, ...]
    baseline: str
    prices: Prices
    policy: PolicyFile | None  # None: nothing could be certified, and calibrate has said why
    trial: BeforeAndAfter | None


def quickstart(config: QuickstartConfig, *, tell: Tell, ask: Ask) -> Quickstarted:
    """Record, calibrate, write the settings, try them. Raises InputError or StepFailed."""
    items = load_dataset(str(config.questions))
    tell(f"Step 1 of 5: what your {_servers(config)} offer")
    offers = asyncio.run(offers_of(config.upstreams))
    for offer in offers:
        tell(f"  {offer.upstream}  {offer.model}")
    models = tuple(dict.fromkeys(offer.model for offer in offers))
    baseline = _baseline(config, models, ask)
    prices = _prices(config, models, tell, ask)
    config.out.mkdir(parents=True, exist_ok=True)
    tell(
        f"\nStep 2 of 5: record. Every model answers your {len(items)} questions "
        f"{_times(config.samples)}; answers are checked against yours."
    )
    _step(record_words(config, models), tell)
    tell("\nStep 3 of 5: calibrate. Which cheaper way is close enough, and is that certain?")
    try:
        _step(calibrate_words(config, baseline, prices), tell)
    except StepFailed:
        tell(
            f"\nNothing was certified, so nothing is switched on: keep {baseline}. The message "
            "above says what would help. Your recording is kept in "
            f"{config.recording}; `suffice calibrate` can be repeated on it with other limits."
        )
        return Quickstarted(
            offers=offers, baseline=baseline, prices=prices, policy=None, trial=None
        )
    policy = read_policy_file(config.policy_file)
    tell(f"\nStep 4 of 5: settings in {config.settings}")
    text = settings_text(config, baseline, prices)
    write_text(config.settings, text)
    tell(
        f"\nStep 5 of 5: {min(TRIAL_QUESTIONS, len(items))} of your questions, before (one call "
        f"of {baseline}) and after (the gateway)"
    )
    upstream = next(offer.upstream for offer in offers if offer.model == baseline)
    today = Today(model=baseline, prices=prices)
    found = _tried(config, items, upstream, today, tell)
    for line in trial_lines(found, baseline):
        tell(line)
    tell("\nTo start it:")
    tell(f"  $ {shown(serve_words(config))}")
    tell(
        f"Then change two things in your client: base_url to http://localhost:{config.port}/v1 and "
        f"model to suffice/{config.policy_file.stem}. The dashboard is at "
        f"http://localhost:{config.port}/."
    )
    return Quickstarted(offers=offers, baseline=baseline, prices=prices, policy=policy, trial=found)


def trial_lines(found: BeforeAndAfter, baseline: str) -> list[str]:
    """Before and after, in words."""
    n = found.questions
    lines = []
    for name, side in ((f"before, {baseline}", found.before), ("after, suffice", found.after)):
        right = "" if side.right is None else f"{side.right} of {n} right, "
        who = ", ".join(f"{model} {count}" for model, count in side.by_model.items())
        share = 100 * (side.cost / found.before.cost if found.before.cost else 1.0)
        lines.append(f"  {name}: {right}{share:.0f} % of the cost; answered by: {who}")
    lines.append(
        f"  {found.differing} of {n} answers differ. {n} questions are a trial, not a measurement: "
        "the certificate rests on your whole recording."
    )
    return lines


def _tried(
    config: QuickstartConfig, items: Sequence[Item], upstream: str, today: Today, tell: Tell
) -> BeforeAndAfter:
    with serving(config, tell) as url:
        return asyncio.run(_both(items[:TRIAL_QUESTIONS], upstream, url, today, config))


async def _both(
    items: Sequence[Item], upstream: str, url: str, today: Today, config: QuickstartConfig
) -> BeforeAndAfter:
    before, after = OpenAIBackend(upstream), OpenAIBackend(url)
    try:
        return await trial(
            items, before=before, after=after, today=today, policy=config.policy_file.stem
        )
    finally:
        await before.aclose()
        await after.aclose()


@contextmanager
def serving(config: Written, tell: Tell) -> Iterator[str]:
    """The gateway as a process of its own on a free port, until the block ends; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [*serve_words(config), "--port", str(port)]
    tell(f"  $ {shown(words)}")
    command = [sys.executable, "-m", "suffice", *words, "--quiet"]
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(process, url)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: subprocess.Popen[bytes], url: str) -> None:
    async def ready() -> bool:
        backend = OpenAIBackend(url)
        try:
            status, _ = await backend.post("/ready", None)
        except BackendError:
            return False
        finally:
            await backend.aclose()
        return status == 200

    until_s = time.monotonic() + START_S
    while not asyncio.run(ready()):
        if process.poll() is not None:
            raise StepFailed(f"the gateway ended with code {process.returncode}: see above")
        if time.monotonic() > until_s:
            raise SufficeError(f"the gateway was not ready within {START_S:.0f} s")
        time.sleep(0.1)


def _baseline(config: QuickstartConfig, models: Sequence[str], ask: Ask) -> str:
    """The model that answers today."""
    chosen = config.baseline or ask("Which model answers your users today?", largest(models))
    if chosen not in models:
        raise InputError(f"{chosen!r} is none of the models offered: {', '.join(models)}")
    if len(models) < 2:
        raise InputError(
            f"{chosen} is the only model offered: nothing cheaper could answer in its place; add "
            "the server of a smaller model with a second --upstream"
        )
    return chosen


def _prices(config: QuickstartConfig, models: Sequence[str], tell: Tell, ask: Ask) -> Prices:
    """What tokens cost: as given, else in proportion to the sizes in the names, else asked."""
    if config.prices:
        lacking = config.prices.lacking(models)
        if lacking:
            raise InputError(f"{', '.join(lacking)} has no price: add --price for every model")
        return config.prices
    proposed = assumed_prices(models)
    if proposed is not None:
        tell("  Prices were not given: a token is taken to cost in proportion to the size in the")
        tell("  model's name, a prompt token a quarter of a completion token (only ratios count):")
    asked = []
    for model in models:
        price = None if proposed is None else proposed.of(model)
        answer = ask(f"{model}, USD per million tokens as PROMPT/COMPLETION", str(price or "1/1"))
        asked.append(f"{model}={answer}")
    return Prices.parse(asked)


def _step(words: list[str], tell: Tell) -> None:
    tell(f"  $ {shown(words)}")
    run_step(words)


def _servers(config: QuickstartConfig) -> str:
    return "server" if len(config.upstreams) == 1 else f"{len(config.upstreams)} servers"


def _times(samples: int) -> str:
    return "once" if samples == 1 else f"{samples} times"
