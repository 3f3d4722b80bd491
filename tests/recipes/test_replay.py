"""Replay of trace sets: draws, limits, and queueing against hand-worked and textbook cases."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from typer.testing import CliRunner

from suffice.architecture.catalog import load_shape
from suffice.cli.main import app
from suffice.core.completions import Budget
from suffice.core.errors import InputError, LacksCapability, UnknownName
from suffice.core.prices import Prices
from suffice.evals.traces.files import trace_set, write_traces
from suffice.evals.traces.trace_set import Question, Trace, messages_json
from suffice.executors.replay import Span
from suffice.hardware import load_hardware
from suffice.policies.auto import Auto, RatedPolicy
from suffice.policies.fixed import SelfConsistency, Single
from suffice.policies.registry import build_policy, parse_policy
from suffice.recipes.calibrate.config import CalibrateConfig
from suffice.recipes.calibrate.run import calibrate
from suffice.recipes.replay.queueing import Speed, poisson, simulate
from suffice.recipes.replay.run import ReplayConfig, ReplayedRequest, replay_traces
from suffice.recipes.replay.serve import LoadConfig, replay_under_load, speed_of
from suffice.throughput.serving import Serving
from tests.recipes import known_traces


def recorded(questions=6, samples=8):
    """Question q is answered right by its samples below q; a strong model always is right."""
    for q in range(questions):
        asked = Question(
            dataset="d",
            name=str(q),
            messages_json=messages_json(f"q{q}"),
            reference="1",
            answer_format="number",
        )
        for n in range(samples):
            yield Trace(
                question=asked,
                model="weak",
                sample=n,
                text="1" if n < q else "0",
                answer="1" if n < q else "0",
                correct=n < q,
                prompt_tokens=5,
                completion_tokens=10 + n,
            )
        yield Trace(
            question=asked, model="strong", sample=0, answer="1", correct=True, completion_tokens=50
        )
        yield Trace(
            question=asked, model="weak", mode="think", sample=0, answer="1", correct=True,
            completion_tokens=99,
        )  # fmt: skip


@pytest.fixture(scope="module")
def traces():
    return trace_set(recorded())


def test_a_single_sample_is_right_as_often_as_the_recorded_ones(traces):
    found = replay_traces(traces, Single(), ReplayConfig(draws=400))
    right = found.column("correct").reshape(400, 6).mean(axis=0)
    # Rates q / 8 over 400 draws: four standard errors are at most .1.
    assert right == pytest.approx(np.arange(6) / 8, abs=0.1)
    assert found.column("samples").tolist() == [1] * 2400


def test_all_samples_are_drawn_once(traces):
    found = replay_traces(traces, SelfConsistency(samples=8), ReplayConfig(draws=2))
    assert set(found.column("tokens")) == {sum(range(10, 18))}
    assert (
        found.column("correct").reshape(2, 6)[:, [0, 1, 2, 3, 5]].tolist() == [[0, 0, 0, 0, 1]] * 2
    )


def test_the_same_seed_gives_the_same_and_another_gives_another(traces):
    policy = parse_policy("adaptive_consistency:max_samples=6")
    one, two, other = (
        replay_traces(traces, policy, ReplayConfig(draws=3, seed=seed)).requests
        for seed in (1, 1, 2)
    )
    assert repr(one) == repr(two) != repr(other)


def test_models_and_modes_are_found(traces):
    cascade = parse_policy("agreement:models=weak+strong > single@strong")
    with pytest.raises(LacksCapability, match="has 1 recorded samples of strong"):
        replay_traces(traces, cascade, ReplayConfig(model="weak"))
    think = replay_traces(traces, parse_policy("single:effort=high"), ReplayConfig(model="weak"))
    assert think.column("correct").all()
    assert set(think.column("tokens")) == {99}
    with pytest.raises(InputError, match="was not recorded: choose weak, strong"):
        replay_traces(traces, Single(), ReplayConfig(model="large"))


def test_what_a_recording_cannot_play_is_said(traces):
    with pytest.raises(LacksCapability, match="lower its cap, or record more"):
        replay_traces(traces, SelfConsistency(samples=9), ReplayConfig())
    with pytest.raises(LacksCapability, match="begins answers for the model or asks it again"):
        replay_traces(traces, parse_policy("revise_once"), ReplayConfig())


def test_a_policy_file_is_refused_on_recordings_of_other_models(traces):
    config = CalibrateConfig(
        max_drop=0.08, fitted=False, prices=Prices.parse(["small=0/1", "large=0/10"])
    )
    file = calibrate(known_traces.make(150, small=(0.99, 0.98)), config).file
    policy = build_policy(file.model_dump(mode="json"))
    with pytest.raises(UnknownName, match=r"unknown model '(small|large)' \(recorded: weak"):
        replay_traces(traces, policy, ReplayConfig(model="weak"))


def test_saved_is_against_the_same_requests_under_the_baseline(traces):
    """The same shuffled samples, so a vote's first sample is the baseline's own."""
    config = ReplayConfig(draws=2)
    single = replay_traces(traces, Single(), config)
    vote = replay_traces(traces, SelfConsistency(samples=4), config)
    saving = vote.saving(single, text="single", prices=Prices())
    assert (saving.unit, saving.basis) == ("tokens", "measured")
    prompts = single.column("prompt_tokens")
    assert saving.baseline_cost == pytest.approx((prompts + single.column("tokens")).sum())
    assert saving.cost == pytest.approx((4 * prompts + vote.column("tokens")).sum())
    assert single.saving(single, text="single", prices=Prices()).saved is None
    cached = Prices.parse([f"{traces.models[0]}=1/1/0"])
    free = vote.saving(single, text="single", prices=cached)
    assert free.cost * 1e6 == pytest.approx((prompts + vote.column("tokens")).sum())


def test_budgets_hold(traces):
    config = ReplayConfig(budget=Budget(completion_tokens=40))
    found = replay_traces(traces, SelfConsistency(samples=8), config)
    assert found.column("tokens").max() <= 40


def job(ticks, *, width=1, prompt=0):
    nan = float("nan")
    spans = tuple(Span(0, ticks) for _ in range(width))
    return ReplayedRequest(
        0, 0, 1.0, width, 0, ticks * width, False, nan, nan, nan, nan, prompt, ticks, spans
    )


def speed(*step_s, prefill_s=0.0):
    return Speed(step_s=np.array([0.0, *step_s]), prefill_s_per_token=prefill_s, devices=2)


def served(arrivals, jobs, speeds, replicas=1):
    return simulate(np.array(arrivals), lambda n, waiting: (jobs[n], None), speeds, replicas)


def test_two_requests_share_a_replica_step_by_step():
    """Steps of 1 s alone and 1.5 s together: the second comes after 4 of the first's 10 tokens."""
    found = served([0.0, 4.0], [job(10), job(3)], speed(1.0, 1.5))
    first, second = found.served
    assert second.end_s == pytest.approx(4.0 + 3 * 1.5)
    assert first.end_s == pytest.approx(4.0 + 3 * 1.5 + 3 * 1.0)
    assert found.busy_s == pytest.approx(first.end_s)
    assert found.gpu_s == pytest.approx(2 * first.end_s)


def test_a_full_replica_makes_requests_wait_and_another_replica_helps():
    jobs = [job(10), job(10), job(10)]
    one = served([0.0, 0.0, 0.0], jobs, speed(1.0, 1.0))
    assert sorted(each.wait_s for each in one.served) == [0.0, 0.0, 10.0]
    two = served([0.0, 0.0, 0.0], jobs, speed(1.0, 1.0), replicas=2)
    assert max(each.e2e_s for each in two.served) == 10.0


def test_prefill_stops_the_replica():
    found = served([0.0], [job(10, prompt=20)], speed(1.0, prefill_s=0.1))
    assert found.served[0].e2e_s == pytest.approx(12.0)


def test_samples_that_end_early_leave_the_others_faster_steps():
    """Widths 3 for two ticks, then 1: 2 steps of 3 s and 8 of 1 s."""
    spans = (Span(0, 10), Span(0, 2), Span(0, 2))
    answered = job(10)._replace(spans=spans)
    found = served([0.0], [answered], speed(1.0, 2.0, 3.0))
    assert found.served[0].e2e_s == pytest.approx(2 * 3.0 + 8 * 1.0)


def test_one_at_a_time_is_the_queue_of_the_textbook():
    """M/D/1: mean wait = rho s / (2 (1 - rho)); 40,000 arrivals at rho = .6 give it within 8 %."""
    count, service_s, rho = 40_000, 1.0, 0.6
    arrivals = poisson(rho / service_s, count, seed=3)
    found = simulate(arrivals, lambda n, waiting: (job(10), None), speed(service_s / 10), 1)
    expected = rho * service_s / (2 * (1 - rho))
    mean = np.mean([each.wait_s for each in found.served])
    # Arrivals wait for the step under way: up to a tenth of the service time more.
    assert expected * 0.92 < mean < expected * 1.08 + service_s / 10
    assert found.utilisation == pytest.approx(rho, abs=0.02)


def test_speed_is_that_of_the_design_plane():
    shape, serving = load_shape("meta-llama/Llama-3.2-1B"), Serving(hardware=load_hardware("h100"))
    found = speed_of(shape, serving, 500, 200)
    assert found.max_batch == serving.max_batch
    assert (np.diff(found.step_s[1:]) >= 0).all()
    assert 1e-4 < found.step_s[1] < 1e-2


def test_lambda_follows_spend_and_the_queue(traces):
    arms = (
        RatedPolicy(policy=Single(), quality=0.5, cost=1.0),
        RatedPolicy(policy=SelfConsistency(samples=8), quality=0.6, cost=8.0),
    )
    auto = Auto(arms=arms, price=0.001)
    config, machine = ReplayConfig(model="weak"), speed(*([0.01] * 64))
    free = replay_under_load(
        traces, auto, config, LoadConfig(rate_per_s=5.0, requests=400), speed=machine
    )
    assert {each.answered.samples for each in free.served} == {8}
    held = replay_under_load(
        traces, auto, config, LoadConfig(rate_per_s=5.0, requests=2000, spend=3.0), speed=machine
    )
    late = [each.answered.samples for each in held.served[500:]]
    assert np.mean(late) == pytest.approx(3.0, abs=0.4)
    # A loose target lets the price fall to 0 in the end; until then a queue makes it dear.
    dear, slow = replace(auto, price=0.01), speed(*([0.01] * 8))
    crowded = LoadConfig(rate_per_s=500.0, requests=25, spend=8.0, queue_target=1.0)
    for load in (crowded, replace(crowded, queue_target=None)):
        burst = replay_under_load(traces, dear, config, load, speed=slow)
        mean = np.mean([each.answered.samples for each in burst.served])
        assert (mean < 4) if load.queue_target else (mean == 8)
    with pytest.raises(InputError, match="only auto"):
        replay_under_load(traces, Single(), config, crowded, speed=machine)


def test_the_command_prints_tables_and_json(traces, tmp_path):
    path = tmp_path / "t.parquet"
    write_traces(path, traces)
    runner = CliRunner()
    words = ["replay", str(path), "--policy", "single", "--policy", "self_consistency:samples=4"]
    shown = runner.invoke(app, words)
    assert shown.exit_code == 0 and "accuracy %" in shown.output
    timed = ["--rate", "5/s", "--hardware", "h100", "--shape", "meta-llama/Llama-3.2-1B"]
    told = json.loads(runner.invoke(app, [*words, *timed, "--requests", "50", "--json"]).output)
    assert [row["requests"] for row in told["timelines"]] == [50, 50]
    assert told["policies"][1]["samples"][0] == 4.0
    failed = runner.invoke(app, [*words, "--rate", "5/s"])
    assert isinstance(failed.exception, InputError)


# --- what a recording lacks is refused, unknown or marked, and never made up ---------------------


def asked(name):
    return Question(dataset="d", name=name, messages_json=messages_json(name), reference="1")


def of_models(count=6, *, tokens=True, verdicts=True, confidences=False, score=None):
    """A small model that is right on even questions, and a large one that always is."""
    for q in range(count):
        for model in ("small", "large"):
            right = model == "large" or q % 2 == 0
            for sample in range(4):
                yield Trace(
                    question=asked(str(q)),
                    model=model,
                    sample=sample,
                    text="1" if right else "0",
                    answer="1" if right else "0",
                    correct=right if verdicts else None,
                    score=score,
                    prompt_tokens=5 if tokens else None,
                    completion_tokens=10 if tokens else None,
                    confidences=np.ones(10 if confidences else 0, np.float16),
                    logprobs=np.full(10 if confidences else 0, -0.1, np.float16),
                )


@pytest.mark.parametrize(
    ("policy", "traces", "message"),
    [
        ("deepconf:max_samples=16@small", {}, "needs logprobs: 24 of 24 recorded samples have no"),
        ("deepconf_offline:samples=4@small", {}, "record with --top-logprobs 20"),
        ("best_of_n:samples=2@small", {"verdicts": False}, "needs score: 24 of 24 recorded"),
        ("budget_forcing@small", {}, "needs prefill: it begins answers for the model"),
        ("deepconf_offline:samples=4@small > single@large", {}, "needs logprobs"),
    ],
)
def test_what_the_recording_lacks_is_refused(policy, traces, message):
    with pytest.raises(LacksCapability, match=message):
        replay_traces(trace_set(of_models(**traces)), parse_policy(policy), ReplayConfig())


def test_one_sample_without_confidences_is_one_too_many():
    whole = list(of_models(confidences=True))
    policy = parse_policy("deepconf_offline:samples=4@small")
    assert replay_traces(trace_set(whole), policy, ReplayConfig(draws=1)).requests
    silent = np.zeros(0, np.float16)
    whole[3] = replace(whole[3], confidences=silent, logprobs=silent)
    with pytest.raises(LacksCapability, match="1 of 24 recorded samples have no token confidences"):
        replay_traces(trace_set(whole), policy, ReplayConfig(draws=1))
    # Samples of a model that the policy does not ask are no matter.
    whole = list(of_models(confidences=True))
    whole[4] = replace(whole[4], confidences=silent, logprobs=silent)
    assert whole[4].model == "large"
    assert replay_traces(trace_set(whole), policy, ReplayConfig(draws=1)).requests


def test_a_cascade_that_goes_by_token_probability_is_refused_without_it():
    policy = parse_policy("single:accept=.9@small > single@large")
    with pytest.raises(LacksCapability, match="by its token probability, which 24 of 24"):
        replay_traces(trace_set(of_models()), policy, ReplayConfig())
    found = replay_traces(trace_set(of_models(confidences=True)), policy, ReplayConfig(draws=1))
    assert found.column("to_large").tolist() == [0.0] * 6  # e^-0.1 is .90


def test_tokens_that_nobody_counted_stay_unknown():
    found = trace_set(of_models(tokens=False))
    single = replay_traces(found, parse_policy("single@small"), ReplayConfig(draws=1))
    large = replay_traces(found, parse_policy("single@large"), ReplayConfig(draws=1))
    assert single.mean("tokens") is None and not single.counts_tokens
    assert single.saving(large, text="single@large", prices=Prices()) is None
    assert single.column("correct").mean() == 0.5 and single.column("samples").tolist() == [1] * 6


def test_sent_to_the_large_model_and_no_answer_are_counted_apart():
    found = trace_set(of_models(count=8))
    config = ReplayConfig(draws=1)
    # Two samples of the small model agree on everything; with the large one they differ half of
    # the time, and then the large one is asked.
    text = "agreement:models=small+large > single@large"
    cascade = replay_traces(found, parse_policy(text), config)
    assert cascade.column("to_large").tolist() == [0.0, 1.0] * 4
    assert cascade.column("gave_up").tolist() == [0.0] * 8
    alone = replay_traces(found, parse_policy("agreement:models=small+large"), config)
    assert np.isnan(alone.column("to_large")).all()
    assert alone.column("gave_up").tolist() == [0.0, 1.0] * 4


def replayed(path, *words):
    done = CliRunner().invoke(app, ["replay", str(path), *words])
    assert done.exit_code == 0, done.output
    return done


def test_the_table_marks_perfect_verifiers_and_warns_of_missing_prices(tmp_path):
    path = tmp_path / "t.parquet"
    write_traces(path, of_models())
    words = ["--policy", "best_of_n:samples=2@small", "--policy", "single@large"]
    done = replayed(path, *words, "--baseline", "single@large")
    assert "best_of_n:samples=2@small (*)" in done.stdout
    assert "a perfect verifier, which live traffic does not have" in done.stderr
    (warning,) = [line for line in done.stderr.splitlines() if "no prices" in line]
    assert "large, small" in warning
    assert "sent to large %" in done.stdout and "no answer %" in done.stdout
    told = json.loads(replayed(path, *words, "--json").stdout)
    assert len(told["warnings"]) == 2
    assert [row["sent_to_large"] for row in told["policies"]] == [None, None]
    priced = ["--price", "small=1/1", "--price", "large=4/4", "--baseline", "single@large"]
    one = replayed(path, "--policy", "single@small", *priced)
    assert "no prices" not in one.stderr and "75% saved" in one.stdout
    write_traces(path, of_models(score=0.3))
    assert "(*)" not in replayed(path, "--policy", "best_of_n:samples=2@small").stdout


def test_without_token_counts_nothing_is_said_to_be_saved(tmp_path):
    path = tmp_path / "t.parquet"
    write_traces(path, of_models(tokens=False))
    done = replayed(path, "--policy", "single@small")
    assert "saved: not known: the recording does not count the tokens" in done.stdout
    timed = ["--rate", "5/s", "--hardware", "h100", "--shape", "HuggingFaceTB/SmolLM2-135M"]
    refused = CliRunner().invoke(app, ["replay", str(path), "--policy", "single@small", *timed])
    assert isinstance(refused.exception, InputError)
    assert "needs token counts" in str(refused.exception)


def test_votes_are_refused_on_verdicts_alone():
    verdicts = trace_set(replace(trace, answer=None, text="") for trace in of_models())
    config = ReplayConfig(draws=1)
    assert replay_traces(verdicts, parse_policy("single@large"), config).mean("correct")
    with pytest.raises(LacksCapability, match="compares answers, and this recording has none"):
        replay_traces(verdicts, parse_policy("adaptive_consistency:max_samples=3@small"), config)


def test_whole_texts_are_not_voted_on_as_they_are_not_live():
    texts = trace_set(
        replace(trace, question=replace(trace.question, answer_format="text"))
        for trace in of_models()
    )
    with pytest.raises(LacksCapability, match="compares answers, and this recording has none"):
        replay_traces(texts, parse_policy("self_consistency:samples=3@small"), ReplayConfig())
