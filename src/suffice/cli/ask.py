"""`suffice ask`: one question under a policy; its samples, votes and confidence as they come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from suffice.cli.ask_view import View, upstream_receipt, watched
from suffice.cli.embedded import embedded
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson, BaselineOption, PriceOption, Scorer, prices_of
from suffice.core.completions import Budget, Outcome
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError, LacksCapability, needs
from suffice.core.prices import Prices
from suffice.core.requests import Message, Request, Sampling
from suffice.core.savings import Saving

if not HELP_ONLY:
    import asyncio

    from suffice.backends.protocol import Backend
    from suffice.evals.equivalence import answer_extractor
    from suffice.executors import live as executor
    from suffice.executors.baseline import Baseline, Length, compare
    from suffice.executors.live import Score
    from suffice.executors.scorer import load_scorer
    from suffice.gateway.wire.receipt import receipt
    from suffice.policies.certified import Certified
    from suffice.policies.fixed import Single
    from suffice.policies.models import models_of
    from suffice.policies.policy_table import policy_table

    with needs("serve", "suffice ask"):
        from suffice.backends.openai import OpenAIBackend
        from suffice.backends.pool import BackendPool
    from suffice.policies.registry import build_policy, parse_policy


def ask(
    question: Annotated[str, typer.Argument()],
    policy: str = "auto",
    upstream: list[str] | None = None,
    model_here: Annotated[str | None, typer.Option("--embedded")] = None,
    model: str | None = None,
    answer_format: str | None = None,
    system: str | None = None,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0)] = None,
    samples: Annotated[int | None, typer.Option("--max-samples", min=1)] = None,
    tokens: Annotated[int | None, typer.Option("--max-total-tokens", min=1)] = None,
    seconds: Annotated[float | None, typer.Option("--max-seconds", min=0.0)] = None,
    scorer: Scorer = None,
    seed: int | None = None,
    price: PriceOption = None,
    baseline: BaselineOption = None,
    as_json: AsJson = False,
) -> None:
    """Ask a question and watch the policy decide how much is enough.

    Example: [bold]suffice ask "What is 17 * 3?" --policy adaptive_consistency
    --answer-format number --upstream http://localhost:8000/v1[/bold]

    Options:
        question: What to ask.
        policy: Policy with options (see suffice policies), or a TOML or JSON file.
        upstream: An OpenAI-compatible server; may be repeated. Without one suffice-nano answers in
            this process.
        model_here: Model of this process in place of an upstream: nano, a model folder, smollm2.
        model: The upstream's model; its first by default.
        answer_format: How answers are compared: number, choice, boxed, math, json, tool, regex:…
            Without it nothing is voted on.
        system: System message.
        max_tokens: Completion tokens per sample.
        temperature: Temperature of sampling; without it the policy or the server decides.
        samples: Samples at most, whatever the policy asks.
        tokens: Completion tokens at most, all samples together.
        seconds: Answer with what there is by then.
        seed: Seed of the first sample, for servers that take one.
        as_json: Print answer and receipt.
    """  # fmt: skip
    # Mistakes are told before a model is loaded.
    path = Path(policy)
    in_file = path.suffix in (".toml", ".json")
    chosen = build_policy(policy_table(path)) if in_file else parse_policy(policy)
    answer_extractor(answer_format)
    score = None if scorer is None else load_scorer(scorer)
    if "score" in chosen.needs and score is None:
        raise LacksCapability(
            f"policy {chosen.name} needs a verifier or reward function: "
            "--scorer module:function, or choose a policy that votes"
        )
    turns = [Message(role="user", content=question)]
    if system is not None:
        turns.insert(0, Message(role="system", content=system))
    request = Request(
        messages=tuple(turns),
        model=model or "",
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed),
        answer_format=answer_format,
    )
    tell = _silent if as_json else typer.echo
    if upstream and model_here:
        raise InputError("--embedded takes the place of upstreams: give one or the other")
    pool = BackendPool(_upstreams(upstream) if upstream else embedded(tell, model_here))
    budget = Budget(samples=samples, completion_tokens=tokens, elapsed_s=seconds)
    compare = comparison(chosen, baseline, prices_of(price))
    answering = _answer(
        pool, chosen, request, budget, score=score, live=not as_json, compare=compare
    )
    outcome = asyncio.run(answering)
    if as_json:
        _print_json(outcome)


class Compare(NamedTuple):
    """Holds an outcome against what is run today."""

    policy: AnyPolicy
    baseline: tuple[str, AnyPolicy] | None  # None: one call of the request's model
    prices: Prices

    def __call__(self, outcome: Outcome, request: Request) -> Saving | None:
        """What the outcome cost beside the baseline; None where that cannot be told."""
        text, today = self.baseline or (f"single@{request.model}", Single())
        models = models_of(today)
        against = Baseline.of(text, today, models[0] if len(models) == 1 else request.model)
        certified = self.policy if isinstance(self.policy, Certified) else None
        unasked = None if certified is None else certified.unasked_tokens

        def length_of(outcome: Outcome, baseline: Baseline) -> Length | None:
            del outcome, baseline
            return None if unasked is None else Length(unasked, "recorded", "calibration")

        return compare(
            outcome, request, against, cost_model=self.prices, length_of=length_of,
            relative=None if certified is None else certified.prices,
        )  # fmt: skip


def comparison(policy: AnyPolicy, baseline: str | None, prices: Prices) -> Compare:
    """What `ask` compares with: as given, else a policy file's own baseline, else one call."""
    if baseline is not None:
        return Compare(policy, (baseline, parse_policy(baseline)), prices)
    if isinstance(policy, Certified) and policy.promise is not None:
        return Compare(policy, (policy.promise.baseline, policy.safe), prices)
    return Compare(policy, None, prices)


def _upstreams(urls: list[str]) -> Sequence[Backend]:
    return [OpenAIBackend(url) for url in urls]


async def _answer(
    pool: BackendPool,
    policy: AnyPolicy,
    request: Request,
    budget: Any,
    *,
    score: Score | None,
    live: bool,
    compare: Compare,
) -> Outcome:
    console = Console()
    try:
        if not request.model:
            request = replace(request, model=await pool.default_model())
        await pool.serving(request.model)
        view = View(policy.name, request.model)
        events = executor.stream(
            policy, request, pool, budget=budget, score=score,
            extract=answer_extractor(request.answer_format, asked=request.asked),
            cost_model=compare.prices,
        )  # fmt: skip
        outcome = await watched(events, view, console, moving=live)
    finally:
        await pool.aclose()
    outcome = replace(outcome, saving=compare(outcome, request))
    if live:
        console.print(view.final(outcome))
    return outcome


def _print_json(outcome: Outcome) -> None:
    answer = {"answer": outcome.completion.text, "suffice": receipt([outcome])}
    behind = upstream_receipt(outcome)
    if behind is not None:
        answer["upstream_receipt"] = behind
    typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def _silent(message: str) -> None:
    del message
