"""A replay under load: speed from the design plane, arrivals, `auto` whose price follows spend."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from suffice.architecture.model import Model
from suffice.architecture.shape import Shape
from suffice.core.arrays import FloatArray
from suffice.core.decisions import AnyPolicy
from suffice.core.errors import InputError
from suffice.evals.traces.trace_set import TraceSet
from suffice.policies.auto import Auto, SpendControl
from suffice.recipes.recordings import Source
from suffice.recipes.replay.queueing import Speed, Timeline, poisson, simulate
from suffice.recipes.replay.run import ReplayConfig, ReplayedRequest, answer, chosen_questions
from suffice.throughput.analytic import predict
from suffice.throughput.serving import Serving
from suffice.throughput.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadConfig:
    """How requests arrive and what serves them. `spend` is auto's target in samples' worth."""

    rate_per_s: float
    requests: int = 1000
    replicas: int = 1
    spend: float | None = None
    queue_target: float | None = None  # waiting requests at which auto's price doubles
    seed: int = 0


def speed_of(what: Shape | Model, serving: Serving, prompt_tokens: float, tokens: float) -> Speed:
    """Step times of a replica for batches of 1 to all that fit, by the design plane's predictor.

    Between batches of powers of two the step time is interpolated linearly.
    """
    workload = Workload.single(max(1, round(prompt_tokens)), max(2, round(tokens)))
    most = predict(what, serving, workload).largest_batch
    most = min(most, serving.max_batch)
    knots = sorted({1, most, *(2**k for k in range(20) if 2**k < most)})
    found = [predict(what, serving, workload, batch=batch) for batch in knots]
    steps = np.interp(np.arange(most + 1), knots, [each.decode_step_s for each in found])
    return Speed(
        step_s=steps,
        prefill_s_per_token=found[0].prefill_s / workload.mean_input_tokens,
        devices=serving.devices,
    )


def replay_under_load(
    traces: TraceSet,
    policy: AnyPolicy,
    config: ReplayConfig,
    load: LoadConfig,
    *,
    speed: Speed,
    arrivals_s: FloatArray | None = None,
) -> Timeline:
    """Requests drawn from the recorded questions, arriving over time.

    With `spend` the policy must be `auto`: its price follows the spend of earlier requests and the
    queue that a request finds (suffice.policies.auto.SpendControl).
    """
    if load.spend is not None and not isinstance(policy, Auto):
        raise InputError(f"only auto has a price that can follow spend, not {policy.name}")
    source = Source(traces, model=config.model)
    questions = chosen_questions(traces, source, config.limit)
    times = poisson(load.rate_per_s, load.requests, load.seed) if arrivals_s is None else arrivals_s
    order = np.random.default_rng((load.seed, 1)).integers(0, len(questions), len(times))
    draws = np.random.default_rng((load.seed, 2)).integers(0, config.draws, len(times))
    known: dict[tuple[int, int, int], ReplayedRequest] = {}
    control = None
    if load.spend is not None and isinstance(policy, Auto):
        control = SpendControl(
            target=load.spend, price=policy.price, queue_target=load.queue_target
        )

    def decide(number: int, waiting: int) -> tuple[ReplayedRequest, float | None]:
        nonlocal control
        question, draw = questions[order[number]], int(draws[number])
        chosen, price, arm = policy, None, 0
        if control is not None and isinstance(policy, Auto):
            price = control.price_at(waiting)
            arm = replace(policy, price=price).pick(source.request(question))
            chosen = policy.arms[arm].policy
            control = control.after(policy.arms[arm].cost)
        key = (question, draw, arm)
        if key not in known:
            known[key] = answer(source, chosen, question, draw, config=config)
        return known[key], price

    return simulate(times, decide, speed, load.replicas)
