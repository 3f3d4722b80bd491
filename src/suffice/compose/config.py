"""What `suffice compose` is asked: questions, models, and arms that change one thing each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import TypeAdapter, ValidationError

from suffice.core.errors import ConfigError
from suffice.core.files import read_toml
from suffice.core.settings import STRICT
from suffice.policies.models import models_of
from suffice.policies.registry import parse_policy

Role = Literal["baseline", "lever", "together", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to answer. `policy` names its model after @.

    A lever differs from the baseline in one thing, `together` in all of them. A reference is
    compared too and has no part in the product: a baseline that was tuned, or a trivial one.
    """

    __pydantic_config__ = STRICT
    name: str
    role: Role
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeConfig:
    """`models` are folders of `suffice train`, by name, which answer in this process; `upstreams`
    are servers. One of the two is given."""

    __pydantic_config__ = STRICT
    questions: str
    arms: tuple[Arm, ...]
    models: dict[str, str] = field(default_factory=dict, hash=False)
    upstreams: tuple[str, ...] = ()
    checker: str | None = None
    limit: Annotated[int, Ge(2)] | None = None
    temperature: Annotated[float, Ge(0)] = 1.0
    max_tokens: Annotated[int, Ge(1)] | None = None
    # Certified: an arm loses less than this share of right answers against the baseline.
    max_drop: Annotated[float, Gt(0), Lt(1)] = 0.02
    confidence: Annotated[float, Gt(0), Lt(1)] = 0.95
    goal: Annotated[float, Gt(1)] = 10.0  # times cheaper than the baseline
    seed: int = 0

    def __post_init__(self) -> None:
        roles = [arm.role for arm in self.arms]
        for role in ("baseline", "together"):
            if roles.count(role) != 1:
                raise ConfigError(f"{roles.count(role)} arms have the role {role!r}: give one")
        if "lever" not in roles:
            raise ConfigError("no arm has the role 'lever': give one for each single change")
        names = [arm.name for arm in self.arms]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"two arms are called {twice!r}: give each a name of its own")
        if bool(self.models) == bool(self.upstreams):
            raise ConfigError(
                "give [models], folders that answer in this process, or upstreams: one of the two"
            )
        for arm in self.arms:
            if not models_of(parse_policy(arm.policy)):
                raise ConfigError(f"arm {arm.name!r} names no model: end its policy with @MODEL")

    def of_role(self, role: Role) -> tuple[Arm, ...]:
        """The arms of a role, in the file's order."""
        return tuple(arm for arm in self.arms if arm.role == role)


def read_compose_config(path: Path) -> ComposeConfig:
    """The config of a TOML file; raises ConfigError that names the setting."""
    table, _ = read_toml(path, what="config")
    try:
        return TypeAdapter(ComposeConfig).validate_python(table)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {place}: {first['msg'].lower()}") from None
