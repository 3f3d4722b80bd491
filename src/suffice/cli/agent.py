"""`suffice agent`: one question with tools; the plan and its calls as they run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from suffice.cli.agent_view import AgentView
from suffice.cli.ask_view import watched
from suffice.cli.lazy_group import HELP_ONLY
from suffice.cli.options import AsJson, Upstreams
from suffice.core.completions import Budget, Outcome
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import needs
from suffice.core.requests import Message, Request, Sampling

if not HELP_ONLY:
    import asyncio

    from suffice.core.prices import Prices
    from suffice.executors import live as executor
    from suffice.executors.baseline import compare_with_turns
    from suffice.executors.tool_calls import ToolLimits
    from suffice.gateway.wire.receipt import receipt
    from suffice.policies.registry import parse_policy

    with needs("serve", "suffice agent"):
        from suffice.backends.openai import OpenAIBackend
        from suffice.backends.pool import BackendPool


def agent(
    question: Annotated[str, typer.Argument()],
    tools: Annotated[Path, typer.Option()],
    upstream: Upstreams,
    policy: str = "dag",
    model: str | None = None,
    system: str | None = None,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0)] = None,
    calls: Annotated[int | None, typer.Option("--max-calls", min=0)] = None,
    tool_s: Annotated[float | None, typer.Option("--max-tool-seconds", min=0.0)] = None,
    timeout_s: Annotated[float, typer.Option("--call-seconds", min=0.01)] = 30.0,
    seconds: Annotated[float | None, typer.Option("--max-seconds", min=0.0)] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a question that takes tools, and watch the calls run.

    Example: [bold]suffice agent "What is 17% of 3,412?" --tools mcp.json
    --upstream http://localhost:8000/v1[/bold]

    Options:
        question: What to ask.
        tools: An mcpServers file.
        policy: react, rewoo, dag, futures, program, abstraction or choose, with options.
        model: The upstream's model; its first.
        system: System message.
        max_tokens: Per sample.
        temperature: Temperature of sampling; without it the server decides.
        calls: Tool calls at most.
        tool_s: All calls together.
        timeout_s: One call at most.
        seconds: The whole at most.
    """
    chosen = parse_policy(policy)
    turns = [Message(role="user", content=question)]
    if system is not None:
        turns.insert(0, Message(role="system", content=system))
    request = Request(
        messages=tuple(turns),
        model=model or "",
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature),
    )
    budget = Budget(tool_calls=calls, tool_s=tool_s, elapsed_s=seconds)
    limits = ToolLimits(timeout_s=timeout_s)
    pool = BackendPool([OpenAIBackend(url) for url in upstream])
    outcome = asyncio.run(
        _answer(pool, chosen, request, budget, tools=tools, limits=limits, live=not as_json)
    )
    if as_json:
        answer = {"answer": outcome.completion.text, "suffice": receipt([outcome])}
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False))


async def _answer(
    pool: BackendPool,
    policy: AnyPolicy,
    request: Request,
    budget: Budget,
    *,
    tools: Path,
    limits: ToolLimits,
    live: bool,
) -> Outcome:
    from suffice.tools.mcp import connected, mcp_servers  # noqa: PLC0415 - an extra

    console = Console()
    try:
        async with connected(mcp_servers(tools)) as toolbox:
            if not request.model:
                request = replace(request, model=await pool.default_model())
            view = AgentView(policy.name, request.model)
            events = executor.stream(
                policy, request, pool, budget=budget, toolbox=toolbox, limits=limits
            )
            outcome = await watched(events, view, console, moving=live)
            saving = compare_with_turns(
                outcome, request, toolbox.tools, request.model, cost_model=Prices()
            )
    finally:
        await pool.aclose()
    outcome = replace(outcome, saving=saving)
    if live:
        console.print(view.final(outcome))
    return outcome
