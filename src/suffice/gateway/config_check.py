"""A configuration file read and tried: every mistake at once, before anything is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from suffice.core.errors import SufficeError
from suffice.core.files import read_text
from suffice.executors.scorer import load_scorer
from suffice.gateway.baselines import Baselines
from suffice.gateway.config import GatewayConfig
from suffice.gateway.config_errors import BadSetting, InvalidConfig, Place, lines_of, problem_at
from suffice.gateway.config_file import load_config
from suffice.gateway.policy_router import PolicyRouter
from suffice.gateway.wire.safe_regex import check_answer_format
from suffice.policies.registry import build_policy


def checked_config(path: Path) -> GatewayConfig:
    """The settings of a file whose policies, scorer and answer format can be used.

    Raises ConfigError; of mistakes in the file it is InvalidConfig, with all of them by line.
    """
    found = load_config(path)
    mistakes = list(_mistakes(found))
    if mistakes:
        lines = lines_of(read_text(path, what="gateway config"))
        raise InvalidConfig(str(path), [problem_at(place, what, lines) for place, what in mistakes])
    Baselines(found)
    PolicyRouter(found)  # also what holds only together: the policy that `policy` names
    return found


def _mistakes(config: GatewayConfig) -> Iterator[tuple[Place, str]]:
    tries: list[tuple[Place, Callable[[], object]]] = [
        (("policies", name), lambda table=table: build_policy(table))  # type: ignore[misc]
        for name, table in config.policies.items()
    ]
    if config.answer_format is not None:
        wanted = config.answer_format
        tries.append((("answer_format",), lambda: check_answer_format(wanted)))
    if config.scorer is not None:
        scorer = config.scorer
        tries.append((("scorer",), lambda: load_scorer(scorer)))
    if config.policy is not None and config.policy not in config.policies:
        tries.append((("policy",), lambda: PolicyRouter(GatewayConfig(policy=config.policy))))
    if config.baseline is not None:
        tries.append((("baseline",), lambda: Baselines(config)))
    for place, attempt in tries:
        try:
            attempt()
        except SufficeError as error:
            yield place, error.complaint if isinstance(error, BadSetting) else str(error)
