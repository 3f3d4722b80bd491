"""What engines were asked for, as the ledger has it: lengths and times of every call."""

from __future__ import annotations

from dataclasses import dataclass

from suffice.ledger.store import Store

MOST_CALLS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCall:
    """One call of an engine: a request that was passed through, or one sample of another."""

    at_s: float  # Unix time of its request
    model: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int  # of the prompt, as the engine told; 0 where it did not


def calls_since(store: Store, since_s: float, model: str | None = None) -> list[EngineCall]:
    """Calls of requests since `since_s` (Unix time) that produced tokens, by time.

    `model` as the engine names it; None takes all. What an engine did not count is left out.
    """
    execute = store.database.execute
    sampled = execute(
        "SELECT r.started_s, s.model, s.prompt_tokens, s.completion_tokens, 0 FROM samples s "
        "JOIN requests r ON r.id = s.request_id WHERE r.started_s >= ? "
        f"AND s.completion_tokens > 0 ORDER BY r.started_s LIMIT {MOST_CALLS}",
        (since_s,),
    )
    passed = execute(
        "SELECT started_s, served_model, prompt_tokens, completion_tokens, "
        "COALESCE(cached_tokens, 0) FROM requests WHERE started_s >= ? "
        "AND prompt_tokens IS NOT NULL AND completion_tokens > 0 AND NOT EXISTS "
        "(SELECT 1 FROM samples s WHERE s.request_id = requests.id) "
        f"ORDER BY started_s LIMIT {MOST_CALLS}",
        (since_s,),
    )
    calls = [
        EngineCall(
            at_s=float(at_s),
            model=name,
            prompt_tokens=int(prompt or 0),
            completion_tokens=int(completion),
            cached_tokens=int(cached),
        )
        for at_s, name, prompt, completion, cached in (*sampled, *passed)
        if model is None or name == model
    ]
    return sorted(calls, key=lambda call: call.at_s)
