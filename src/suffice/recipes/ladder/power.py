"""What a plan's runs can show, before any is trained: how often they would locate a lowest point.

A truth with a lowest point in the middle of a variable's range, and a given cost of the worse end,
is made up; every planned run gets noise; the test of `turning_point` is applied. Repeated, this is
the plan's power. The same with a flat truth says how often a U-shape would be seen where there is
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suffice.architecture.fitting.turning_point import (
    Curves,
    TurningPoint,
    shape_averages,
    turning_points,
)
from suffice.architecture.predict import shape_variables
from suffice.core.arrays import FloatArray
from suffice.recipes.ladder.plan import Plan
from suffice.training.rung import LadderRung

# What a law is fitted on: held-out shapes and picks judge it, tuning answers another question.
FITTED = frozenset({"design", "repeat"})
CURVED = ("x", "r", "width_per_layer")
DEFAULT_REPETITIONS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Of `repetitions` made-up outcomes of a plan: how many located the lowest point.

    `truth` is where it was, `effect_percent` what the worse end of the range cost, `held` how many
    intervals held it, `falsely_located` how many located one under a flat truth.
    """

    variable: str
    truth: float
    effect_percent: float
    located: int
    held: int
    falsely_located: int
    repetitions: int
    noise_percent: float

    def sentence(self) -> str:
        """For the terminal."""
        return (
            f"{self.variable}: these runs locate a lowest point at {self.truth:.3g} whose worse "
            f"end costs {self.effect_percent:g} % in {100 * self.located / self.repetitions:.0f} % "
            f"of {self.repetitions} repetitions, and where there is none in "
            f"{100 * self.falsely_located / self.repetitions:.1f} %"
        )


def plan_power(
    plan: Plan,
    *,
    noise_percent: float,
    effect_percent: float,
    repetitions: int = DEFAULT_REPETITIONS,
    confidence: float = 0.9,
    seed: int = 0,
) -> tuple[Power, ...]:
    """Power for x, r and width per layer; `noise_percent` is the sd of ln loss of one run, in %.

    Raises TableError where the plan has too few shapes for the curves.
    """
    rungs = [rung for rung in plan.rungs if rung.purpose in FITTED]
    runs, shapes = planned_curves(rungs)
    random = np.random.default_rng(seed)
    found = []
    for name in runs.curves:
        truth, curve = made_up_curve(runs.curves[name], effect_percent)
        located = held = false = 0
        for _ in range(repetitions):
            noise = _mean_noise(shapes, random) * noise_percent / 100
            here = _point(runs, name, curve + noise, confidence)
            located += here.located
            held += here.holds(truth)
            false += _point(runs, name, noise, confidence).located
        found.append(
            Power(
                variable=name, truth=truth, effect_percent=effect_percent, located=located,
                held=held, falsely_located=false, repetitions=repetitions,
                noise_percent=noise_percent,
            )
        )  # fmt: skip
    return tuple(found)


def planned_curves(rungs: Sequence[LadderRung]) -> tuple[Curves, FloatArray]:
    """The regression that `rungs` will give, and how many runs each of its rows averages."""
    scales = {tokens: i for i, tokens in enumerate(sorted({rung.tokens for rung in rungs}))}
    distinct = {shape: i for i, shape in enumerate(dict.fromkeys(rung.shape for rung in rungs))}
    at = [shape_variables(rung.shape) for rung in rungs]
    scale = np.array([scales[rung.tokens] for rung in rungs])
    shape = np.array([distinct[rung.shape] for rung in rungs])
    curves = {name: np.array([each[name] for each in at]) for name in CURVED}
    slopes = {"kv_share": np.array([each["kv_share"] for each in at])}
    made = shape_averages(np.zeros(len(rungs)), scale, shape, curves, slopes)
    _, counts = np.unique(np.stack([scale, shape], axis=1), axis=0, return_counts=True)
    return made, counts.astype(np.float64)


def made_up_curve(values: FloatArray, effect_percent: float) -> tuple[float, FloatArray]:
    """A curve c (ln v + v*/v - ln v* - 1) with v* in the middle, and its worse end at the effect.

    v* is where both ends of the range cost alike, so neither end helps more than the other.
    """
    low, high = float(values.min()), float(values.max())
    # ln low + m / low = ln high + m / high
    middle = float(np.log(high / low) / (1 / low - 1 / high))

    def excess(v: FloatArray | float) -> FloatArray:
        result: FloatArray = np.log(np.asarray(v) / middle) + middle / np.asarray(v) - 1
        return result

    scale = effect_percent / 100 / float(excess(low))
    return middle, scale * excess(values)


def _mean_noise(counts: FloatArray, random: np.random.Generator) -> FloatArray:
    result: FloatArray = random.standard_normal(len(counts)) / np.sqrt(counts)
    return result


def _point(runs: Curves, name: str, log_loss: FloatArray, confidence: float) -> TurningPoint:
    points = turning_points(runs, confidence=confidence, log_loss=log_loss)
    return next(point for point in points if point.variable == name)
