"""Table, JSON and picture of `suffice compose`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suffice.compose.run import ArmResult, Composed, Unit
from suffice.core.files import write_bytes, write_json
from suffice.evals.statistics.binomial import Interval
from suffice.report.style import AMBER, BLUE, GREEN, MUTED, house_style, new_figure, to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES: dict[Unit, str] = {
    "cpu_s": "CPU", "model_cpu_s": "models' CPU", "wall_s": "time", "tokens": "tokens",
}  # fmt: skip
LONG: dict[Unit, str] = {
    "cpu_s": "CPU time of client, gateway and models",
    "model_cpu_s": "CPU time of the models alone",
    "wall_s": "wall time of a request, one at a time",
    "tokens": "all tokens generated",
}
COLOURS = {"baseline": MUTED, "lever": BLUE, "together": GREEN, "reference": AMBER}


def header_of(found: Composed) -> tuple[str, ...]:
    """Titles of the columns."""
    unit = "tokens" if found.unit == "tokens" else f"{NAMES[found.unit]}, ms"
    return (
        "arm", "right", f"{unit} a right answer",
        *(f"times less {NAMES[each]}" for each in found.units), "loses at most",
    )  # fmt: skip


def rows_of(found: Composed) -> list[list[str]]:
    """A row for every arm."""
    return [
        [
            arm.name,
            _shown(arm.right, 100, 1, " %"),
            _shown(arm.cost_per_right[found.unit], 1e3, 2),
            *(
                "1" if arm.role == "baseline" else _shown(arm.times_cheaper[unit], 1, 2)
                for unit in found.units
            ),
            "–" if arm.drop_at_most is None else _drop(arm),
        ]
        for arm in found.arms
    ]


def lines_of(found: Composed) -> list[str]:
    """What the table does not say."""
    lines = [f"{found.questions} questions, each asked once by every arm"]
    for unit in found.units:
        left = found.left_to_goal(unit)
        lines.append(
            f"{LONG[unit]}: all together {_shown(found.together.times_cheaper[unit], 1, 2)} times "
            f"less, by the product of the single ratios {_shown(found.product[unit], 1, 2)}; whole "
            f"over product {_shown(found.whole_over_product[unit], 1, 2)}; "
            + (f"the goal of {found.goal:g} is reached" if left <= 1 else
               f"{left:.2f} times left to {found.goal:g}")
        )  # fmt: skip
    lines += [
        f"against {name!r} all together is {_shown(each[found.unit], 1, 2)} times cheaper"
        for name, each in found.over_reference.items()
    ]
    open_ = [arm.name for arm in found.arms if arm.certified is False]
    if open_:
        lines.append(
            f"not shown to lose less than {100 * found.max_drop:g} points at "
            f"{100 * found.confidence:g} % for all together: {', '.join(open_)}"
        )
    return lines


def as_json(found: Composed) -> dict[str, Any]:
    """All figures by arm and unit; intervals as objects with the number of questions."""
    n = found.questions
    return {
        "questions": n,
        "unit": found.unit,
        "arms": {arm.name: _arm(arm, n) for arm in found.arms},
        "product": _by_unit(found.product, n),
        "whole_over_product": _by_unit(found.whole_over_product, n),
        "over_reference": {name: _by_unit(each, n) for name, each in found.over_reference.items()},
        "left_to_goal": {unit: round(found.left_to_goal(unit), 4) for unit in found.units},
        "goal": found.goal,
        "max_drop": found.max_drop,
        "confidence": found.confidence,
        "notes": list(found.notes),
    }


def compose_figure(found: Composed) -> Figure:
    """Accuracy against the cost of a right answer, an arm a point."""
    unit = found.unit
    with house_style():
        figure = new_figure(8.4, 4.6)
        panel = figure.add_subplot()
        for arm in found.arms:
            cost, right = arm.cost_per_right[unit], arm.right
            x, y = 1e3 * cost.estimate, 100 * right.estimate
            panel.errorbar(
                x, y, xerr=[[x - 1e3 * cost.low], [1e3 * cost.high - x]],
                yerr=[[max(0.0, y - 100 * right.low)], [max(0.0, 100 * right.high - y)]],
                fmt="o", ms=6, capsize=2, color=COLOURS[arm.role],
            )  # fmt: skip
            panel.annotate(arm.name, (x, y), xytext=(6, 6), textcoords="offset points", fontsize=9)
        panel.set_xscale("log")
        panel.set_xlabel(f"milliseconds a right answer, {LONG[unit]}")
        panel.set_ylabel("right, %")
        panel.set_title(
            f"All levers: {found.together.times_cheaper[unit].estimate:.1f} times cheaper; their "
            f"product says {found.product[unit].estimate:.1f} ({found.questions} questions)"
        )
        panel.margins(x=0.2, y=0.25)
    return figure


def write_compose(found: Composed, folder: Path) -> list[Path]:
    """Write compose.json and compose.png; the paths written."""
    write_json(folder / "compose.json", as_json(found))
    write_bytes(folder / "compose.png", to_png(compose_figure(found)))
    return [folder / "compose.json", folder / "compose.png"]


def _arm(arm: ArmResult, n: int) -> dict[str, Any]:
    return {
        "role": arm.role,
        "policy": arm.policy,
        "right": _interval(arm.right, n),
        "cost_per_right": _by_unit(arm.cost_per_right, n),
        "times_cheaper": _by_unit(arm.times_cheaper, n),
        "gain": _interval(arm.gain, n),
        "drop_at_most": None if arm.drop_at_most is None else round(arm.drop_at_most, 6),
        "certified": arm.certified,
    }


def _by_unit(found: Mapping[Unit, Interval], n: int) -> dict[str, Any]:
    return {unit: _interval(each, n) for unit, each in found.items()}


def _interval(found: Interval, n: int) -> dict[str, Any]:
    return {
        "estimate": round(found.estimate, 8), "low": round(found.low, 8),
        "high": round(found.high, 8), "n": n,
    }  # fmt: skip


def _shown(found: Interval, scale: float, digits: int, unit: str = "") -> str:
    a, low, high = (f"{scale * x:.{digits}f}" for x in (found.estimate, found.low, found.high))
    return f"{a}{unit} [{low}, {high}]"


def _drop(arm: ArmResult) -> str:
    assert arm.drop_at_most is not None
    return f"{100 * arm.drop_at_most:.1f} points" + ("" if arm.certified else ", not certified")
