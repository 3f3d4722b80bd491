"""Which models a policy asks."""

from __future__ import annotations

from suffice.core.decisions import AnyPolicy


def models_of(policy: AnyPolicy) -> tuple[str, ...]:
    """Models that a policy names, in order of appearance; empty: it asks the request's own."""
    found: list[str] = []

    def look(part: object) -> None:
        model = getattr(part, "model", None)
        if isinstance(model, str):
            found.append(model)
        found.extend(str(name) for name in getattr(part, "models", ()) or ())
        for inner in getattr(part, "parts", ()):  # what is built of others
            look(inner)

    look(policy)
    return tuple(dict.fromkeys(found))
