"""Our check of tool calls beside BFCL's own, on the leaderboard's questions.

    $ pip download --no-deps bfcl-eval==2026.3.23 && unzip bfcl_eval-*.whl -d bfcl
    $ python benchmarks/tools/bfcl_checker.py --wheel bfcl --out results/tools/bfcl-checker.json

For each Python question the first accepted value of each argument makes the right calls; each
change below makes others. Both checkers judge them. Theirs (`ast_checker`) knows the functions'
declared types, ours the accepted values alone; where the two differ is listed by kind of change.
The rows of ShishirPatil/gorilla#1133, whose truth is wrong, are counted apart.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suffice.core.completions import Completion, Usage
from suffice.core.files import write_json
from suffice.core.requests import ToolCall
from suffice.evals.grading import check_of

SETS = (
    "simple_python", "multiple", "parallel", "parallel_multiple", "live_simple", "live_multiple",
    "live_parallel", "live_parallel_multiple",
)  # fmt: skip
WRONG_TRUTH = {
    "parallel_84", "parallel_155", "parallel_158", "parallel_170", "live_simple_137-90-0",
    "live_simple_138-91-0",
}  # fmt: skip
Json = dict[str, Any]
Calls = list[tuple[str, Json]]


def theirs(wheel: Path) -> Callable[..., bool]:
    """BFCL's checker; its list of models, which imports every vendor's client, is stood in for."""
    sys.path.insert(0, str(wheel))
    stub = types.ModuleType("bfcl_eval.constants.model_config")

    class AnyModel(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            return types.SimpleNamespace(underscore_to_dot=False)

    stub.MODEL_CONFIG_MAPPING = AnyModel()  # type: ignore[attr-defined]
    sys.modules[stub.__name__] = stub
    from bfcl_eval.constants.enums import Language  # noqa: PLC0415
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker  # noqa: PLC0415

    def check(functions: Any, calls: Calls, truth: Any, category: str) -> bool:
        said = [{name: arguments} for name, arguments in calls]
        found = ast_checker(functions, said, truth, Language.PYTHON, category, "any")
        return bool(found["valid"])

    return check


def ours(calls: Calls, truth: Any) -> bool:
    """What `suffice record` says of the calls."""
    made = tuple(
        ToolCall(id=str(n), name=name, arguments=json.dumps(arguments))
        for n, (name, arguments) in enumerate(calls)
    )
    said = Completion(text="", finish_reason="tool_calls", usage=Usage(), tool_calls=made)
    return bool(check_of("tool", json.dumps(truth))(said).correct)


def right_calls(truth: Any) -> Calls:
    """The first accepted value of each argument that is not left out."""
    return [
        (name, {key: plain(v[0]) for key, v in arguments.items() if v and v[0] != ""})
        for call in truth
        for name, arguments in call.items()
    ]


def plain(value: Any) -> Any:
    """A value as it is called with: inside, each key lists accepted values."""
    if isinstance(value, dict):
        return {
            key: plain(v[0] if isinstance(v, list) and v else v)
            for key, v in value.items()
            if not (isinstance(v, list) and v and v[0] == "")
        }
    return [plain(each) for each in value] if isinstance(value, list) else value


def changes(calls: Calls) -> dict[str, Calls]:
    """Other calls, by what was changed; a change that is impossible is left out."""
    found = {"as accepted": calls}
    name, arguments = calls[0]
    rest = calls[1:]
    found["no calls"] = []
    found["other function"] = [(name + "_x", arguments), *rest]
    found["one call more"] = [*calls, calls[0]]
    found["unknown argument"] = [(name, {**arguments, "unheard_of": 1}), *rest]
    for key, value in arguments.items():
        others = {k: v for k, v in arguments.items() if k != key}
        found.setdefault("argument left out", [(name, others), *rest])
        changed: tuple[str, Any] | None = None
        if isinstance(value, bool):
            changed = ("other truth value", not value)
        elif isinstance(value, int | float):
            changed = ("other number", value + 17)
            found.setdefault("number as text", [(name, {**others, key: str(value)}), *rest])
        elif isinstance(value, str):
            changed = ("other text", value + " zebra")
            loud = value.upper().replace(" ", "-")
            found.setdefault("text in capitals and dashes", [(name, {**others, key: loud}), *rest])
        elif isinstance(value, list) and value:
            changed = ("list turned round", [*value[1:], value[0]] if len(value) > 1 else [])
        if changed is not None:
            found.setdefault(changed[0], [(name, {**others, key: changed[1]}), *rest])
    return copy.deepcopy(found)


def rows(wheel: Path, kind: str) -> list[tuple[str, Any, Any]]:
    """(name, functions, truth) of a set."""
    folder = wheel / "bfcl_eval" / "data"
    name = f"BFCL_v4_{kind}.json"
    truth = {
        row["id"]: row["ground_truth"]
        for row in map(json.loads, (folder / "possible_answer" / name).read_text().splitlines())
    }
    asked = map(json.loads, (folder / name).read_text().splitlines())
    return [(row["id"], row["function"], truth[row["id"]]) for row in asked]


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wheel", type=Path, required=True, help="Folder of the unpacked wheel.")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    check = theirs(given.wheel)
    counts: dict[str, Counter[str]] = {}
    differing: list[Json] = []
    for kind in SETS:
        for name, functions, truth in rows(given.wheel, kind):
            for change, calls in changes(right_calls(truth)).items():
                try:
                    b = check(functions, calls, truth, kind)
                except (KeyError, AttributeError, TypeError, IndexError):
                    b = None  # theirs raises on some declared types
                a = ours(calls, truth)
                group = "wrong truth" if name in WRONG_TRUTH else change
                seen = counts.setdefault(group, Counter())
                seen["both right" if a and b else "both wrong" if not a and b is False
                     else "theirs fails" if b is None else "ours alone right" if a
                     else "theirs alone right"] += 1  # fmt: skip
                if b is not None and a != b:
                    differing.append({"id": name, "change": change, "ours": a, "theirs": b})
    total = sum((c for c in counts.values()), Counter[str]())
    for change, seen in counts.items():
        print(f"{change:30} " + "  ".join(f"{k} {n}" for k, n in sorted(seen.items())))
    same, failed = total["both right"] + total["both wrong"], total["theirs fails"]
    judged = total.total() - failed
    print(f"agree on {same} of {judged} ({same / judged:.4f}); theirs raises on {failed}")
    if given.out:
        write_json(given.out, {
            "agree": same, "judged": judged, "theirs_raises": failed,
            "by_change": {k: dict(v) for k, v in counts.items()}, "differing": differing,
        })  # fmt: skip


if __name__ == "__main__":
    main()
